"""Names of datasets and backbones that may be paths: made absolute, so that a run can be repeated from any folder."""

import os

from sparse_core.catalog import BUILT_IN


def absolute_dataset(given: str) -> str:
    """The path of a folder or file as an absolute one; any other name as it is."""
    return given if given in BUILT_IN or not os.path.exists(os.path.expanduser(given)) else absolute_path(given)


def absolute_backbone(given: str) -> str:
    """ARCHITECTURE:FILE with an absolute path; any other name as it is."""
    architecture, _, file = given.partition(":")
    return f"{architecture}:{absolute_path(file)}" if file else given


def absolute_path(path: str) -> str:
    """The path as an absolute one; ~ stands for the user's home folder."""
    return os.path.abspath(os.path.expanduser(path))
