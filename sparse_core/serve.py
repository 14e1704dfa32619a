"""Serve the dashboard: what ``make run`` starts. The port is checked first, so that a port in use is one clear line."""

import argparse
import os
import socket
import sys

from sparse_core import linux
from sparse_core.errors import InputError
from sparse_core.paths import REPOSITORY

ADDRESS = "127.0.0.1"


def main() -> int:
    """Parse ``--port``, check it, and replace this process by the Streamlit server. Returns 2 if the port cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m sparse_core.serve", description=__doc__)
    parser.add_argument("--port", default="8501")
    try:
        port = require_free(parser.parse_args().port)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(f"Sparse Transfer Lab: http://{ADDRESS}:{port} (stop with Ctrl-C)", flush=True)
    linux.limit_threads()
    os.chdir(REPOSITORY)
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    os.execv(sys.executable, [*command, "--server.address", ADDRESS])


def require_free(text: str) -> int:
    """The port number in ``text``. Raises InputError if it is not a port, or in use on this machine."""
    port = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= port <= 65535:
        raise InputError(f"A port is a number from 1 to 65535; got '{text}'. Choose one with PORT=…")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except PermissionError as error:
            raise InputError(f"Port {port} needs administrator rights. Choose one above 1023 with PORT=…") from error
        except OSError as error:
            raise InputError(f"Port {port} is in use here. Choose another: make run PORT={port + 1}") from error
    return port


if __name__ == "__main__":
    sys.exit(main())
