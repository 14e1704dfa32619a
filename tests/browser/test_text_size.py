"""Where the browser is set to larger text, as people with weak sight do, charts and tables grow with it."""

import shutil

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import served
from tests.browser.served import first_chart, open_page

LARGE = "--blink-settings=defaultFontSize=24"  # 150 % of the usual 16 pixels


@pytest.fixture
def large(browser: Browser):
    """A page of a Chromium that is set to larger text."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    started = browser.browser_type.launch(executable_path=found, args=[*served.ARGUMENTS, LARGE])
    yield started.new_page(viewport=served.VIEWPORT)
    started.close()


def heights(page: Page, address: str) -> tuple[float, float, float]:
    """Of a chart's title, of the whole chart, and of a table with one row, in pixels."""
    open_page(page, f"{address}/speedup")
    title = first_chart(page).get_by_text("Speedup over dense by sparsity")
    expect(title).to_be_visible()
    table = page.get_by_test_id("stDataFrame").first
    table.scroll_into_view_if_needed()
    page.wait_for_timeout(2000)  # the page runs again once the text's size is known
    boxes = [part.bounding_box() for part in (title, first_chart(page), table)]
    return tuple(box["height"] for box in boxes if box)


def test_charts_and_tables_grow_with_the_text(page: Page, large: Page, address: str):
    usual, grown = heights(page, address), heights(large, address)
    assert len(usual) == len(grown) == 3
    assert all(1.3 < after / before < 1.8 for before, after in zip(usual, grown, strict=True)), (usual, grown)
    assert large.evaluate("document.documentElement.scrollWidth <= innerWidth")
