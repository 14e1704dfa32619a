"""What stands in for the servers that datasets are downloaded from."""

import functools
import http.server
import threading

import pytest


@pytest.fixture
def server(tmp_path):
    """The address at which the test's folder is served."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
