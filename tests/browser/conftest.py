"""Fixtures of the browser tests: a Chromium, a dashboard with its own home folder, and an empty page."""

import os

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import served

expect.set_options(timeout=served.MINUTE)  # a busy machine is no failure


@pytest.fixture(scope="module")
def browser():
    started = served.chromium()
    try:
        opened = started.__enter__()
    except Exception as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Chromium to drive: {error}")
    yield opened
    started.__exit__(None, None, None)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with served.dashboard(tmp_path_factory.mktemp("home")) as address:
        yield address


@pytest.fixture
def page(browser: Browser):
    context = browser.new_context(viewport=served.VIEWPORT, accept_downloads=True)
    context.set_default_timeout(served.MINUTE)
    opened = context.new_page()
    requested: list[str] = []
    opened.on("request", lambda request: requested.append(request.url))
    yield opened
    context.close()
    assert all(map(served.is_local, requested)), "the dashboard says that nothing leaves this machine"
