"""Which engines can run here. Needs no torch."""

import importlib.util

from sparse_core.catalog import ENGINES
from sparse_core.engines import deepsparse_client
from sparse_core.errors import unknown_name


def missing(name: str) -> str | None:
    """Why the engine cannot run here and how to get it, in one line; None if it can. Raises InputError for an unknown name."""
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES)
    if name == "deepsparse":
        return deepsparse_client.missing()
    if importlib.util.find_spec(name) is None:
        return f"{ENGINES[name]} is not installed. 'make run' installs it."
    return None
