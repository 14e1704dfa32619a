import pytest

from sparse_core.sparsify.methods import METHODS
from tests.support.sparsify import tiny_backbone, tiny_digits, tiny_spec


@pytest.fixture(scope="session")
def digits():
    return tiny_digits()


@pytest.fixture(scope="session")
def new_backbone():
    return tiny_backbone()


@pytest.fixture(scope="session")
def dense_backbone(digits, new_backbone):
    """The tiny network after a dense training: what methods start from that need dense weights."""
    return tiny_backbone(METHODS["Dense"](new_backbone, digits, tiny_spec("Dense"), 0))
