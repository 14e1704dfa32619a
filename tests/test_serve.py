"""The port that the dashboard is served at."""

import socket

import pytest

from sparse_core.errors import InputError
from sparse_core.serve import require_free


def test_a_port_in_use_is_refused():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"Port {port} is in use"):
            require_free(str(port))


@pytest.mark.parametrize("port", ["70000", "0", "-5", "abc", "8501x", ""])
def test_an_invalid_port_is_refused(port):
    with pytest.raises(InputError, match="from 1 to 65535"):
        require_free(port)
