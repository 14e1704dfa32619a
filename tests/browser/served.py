"""A server of its own for tests and benchmarks, and a Chromium to drive it with."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from sparse_core.paths import REPOSITORY

MINUTE = 60_000  # in the browser's milliseconds
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, or the one that Playwright installed."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield started
        started.close()


@contextmanager
def dashboard(home: Path) -> Iterator[str]:
    """The dashboard on a free port with ``home`` for its state; yields its address. Its workers end with it."""
    port = free_port()
    try:
        with server(["-m", "sparse_core.serve", "--port", str(port)], port, home) as address:
            yield address
    finally:
        for pid in _workers_of(str(home)):
            os.kill(pid, signal.SIGTERM)


@contextmanager
def server(words: Sequence[str], port: int, home: Path) -> Iterator[str]:
    """A Python process that serves Streamlit at ``port``; yields its address once it answers."""
    environment = {**os.environ, "SPARSE_TRANSFER_HOME": str(home)}
    process = subprocess.Popen([sys.executable, *words], cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_up(f"{address}/_stcore/health")
        yield address
    finally:
        process.terminate()
        process.wait(20)


def open_page(page: Page, address: str) -> None:
    """Go to a page of the dashboard and wait until it is drawn to its foot."""
    page.goto(address)
    expect(page.get_by_text("nothing leaves it")).to_be_visible(timeout=MINUTE)


def no_fault(page: Page) -> None:
    """Fail where the page tells of a fault of ours."""
    assert page.get_by_text("could not be drawn").count() == 0
    assert page.get_by_text("Traceback").count() == 0


def is_local(address: str) -> bool:
    """Whether the browser stays on this machine for it."""
    return address.startswith(("http://127.0.0.1:", "blob:", "data:"))


def free_port() -> int:
    """A port that nothing listens on just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _wait_until_up(health: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(health, timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    raise AssertionError("the server did not come up")


def _workers_of(home: str) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if b"sparse_core.jobs.worker" in command and home.encode() in environment:
            found.append(int(pid))
    return found
