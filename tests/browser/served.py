"""A dashboard server for tests and benchmarks, a Chromium to drive it, and what browser tests do on several pages."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from sparse_core.paths import REPOSITORY

MINUTE = 60_000  # in the browser's milliseconds
VIEWPORT = {"width": 1440, "height": 1000}
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, or else the one that Playwright installed."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield started
        started.close()


@contextmanager
def dashboard(home: Path) -> Iterator[str]:
    """The dashboard on a free port with the home folder ``home``; yields its address. Its workers end with it."""
    port = free_port()
    try:
        with server(["-m", "sparse_core.serve", "--port", str(port)], port, home) as address:
            yield address
    finally:
        for process in psutil.process_iter(["cmdline"]):
            if {"sparse_core.jobs.worker", str(home)} <= set(process.info["cmdline"] or ()):
                process.terminate()


@contextmanager
def server(arguments: Sequence[str], port: int, home: Path) -> Iterator[str]:
    """A Python process that serves Streamlit at ``port``; yields its address once it answers."""
    environment = {**os.environ, "SPARSE_TRANSFER_HOME": str(home)}
    process = subprocess.Popen([sys.executable, *arguments], cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_up(f"{address}/_stcore/health")
        yield address
    finally:
        process.terminate()
        process.wait(20)


def open_page(page: Page, address: str) -> None:
    """Go to a page of the dashboard and wait until it is complete."""
    page.goto(address)
    expect(page.get_by_text("nothing leaves it")).to_be_visible(timeout=MINUTE)


def go_to(page: Page, group: str, title: str) -> None:
    """Go to another page by the navigation, as a user does."""
    page.get_by_role("navigation").get_by_role("button", name=group).click()
    page.get_by_role("menuitem", name=title).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(title)


def first_chart(page: Page) -> Locator:
    return page.locator(".js-plotly-plot").first


def choose(page: Page, control: str, option: str) -> None:
    """Choose the first option with this text, after typing it: a long list holds only those options that are in view."""
    page.get_by_role("combobox", name=control).first.click()
    page.keyboard.type(option)
    page.get_by_role("option", name=option).first.click()


def delete_and_undo(page: Page, restored: str, *deleted: str) -> None:
    """Delete, confirm in the dialog, and undo. The page then shows ``restored``, and before that the texts ``deleted``."""
    page.get_by_role("button", name="Delete …").click(timeout=MINUTE)
    page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    for text in deleted:
        expect(page.get_by_text(text)).to_be_visible(timeout=MINUTE)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text(restored)).to_be_visible(timeout=MINUTE)
    assert_no_error(page)


def assert_no_error(page: Page) -> None:
    assert page.get_by_text("could not be drawn").count() == 0
    assert page.get_by_text("Traceback").count() == 0


def is_local(address: str) -> bool:
    """Whether the browser contacts no other machine for this address."""
    return address.startswith(("http://127.0.0.1:", "blob:", "data:"))


def free_port() -> int:
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
