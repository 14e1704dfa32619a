"""No page violates a rule of axe-core, in light and in dark, at first and with its parts open."""

from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, expect

from pages.parts.frame import PAGES, PRODUCT
from tests.browser import served

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")

TRIES = 5

# Violations in Streamlit's own markup for which there is no public remedy: rule, selector, reason.
OF_STREAMLIT = {
    (
        "presentation-role-conflict",
        "section[data-testid=stFileUploaderDropzone]",
    ): "minor: the area to drop a file on has a name and no role; the button in it has both",
    (
        "color-contrast",
        "[data-testid=stElementContainer]:has(button:disabled) [data-testid=stWidgetLabel] p",
    ): "the dimmed name of a control that is closed, such as SLURM's where there is none: WCAG 2.2, 1.4.3, leaves these out",
}


@pytest.fixture(scope="module")
def page(browser: Browser, address: str):
    """One tab for all pages: each page is checked twice, so they share what the browser has loaded."""
    context = browser.new_context(viewport=served.VIEWPORT)
    context.set_default_timeout(served.MINUTE)
    opened = context.new_page()
    served.open_page(opened, address)
    opened.evaluate(AXE)
    opened.add_style_tag(
        content="* { transition: none !important; animation: none !important; }"
    )  # half faded in is hard to read
    yield opened
    context.close()


def violations(page: Page, *rules: str) -> list[str]:
    """What axe-core finds on the page as it is, or what breaks these rules: a line for each element.

    The insides of charts are left out: thousands of shapes, of which axe-core can tell nothing.
    """
    settings: dict[str, Any] = {"resultTypes": ["violations"]}
    settings |= {"runOnly": list(rules)} if rules else {}
    found = page.evaluate("settings => axe.run({exclude: ['.js-plotly-plot svg']}, settings)", settings)["violations"]
    return [
        f"{rule['impact']} {rule['id']}: {element['html'][:200]} ({element['failureSummary']})"
        for rule in found
        for element in rule["nodes"]
        if not _is_of_streamlit(page, rule["id"], element["target"][0])
    ]


def lasting_violations(page: Page, *rules: str) -> list[str]:
    """The same, once the page is at rest: while a page runs again, what may change is dimmed."""
    found = violations(page, *rules)
    for _ in range(TRIES):
        if not found:
            break
        page.wait_for_timeout(1000)
        found = violations(page, *rules)
    return found


def _is_of_streamlit(page: Page, rule: str, target: str) -> bool:
    """False for an element that is gone since: the page is not at rest, and is checked again."""
    return any(
        rule == listed
        and page.evaluate("([target, one]) => document.querySelector(target)?.matches(one) ?? false", [target, one])
        for listed, one in OF_STREAMLIT
    )


@pytest.mark.parametrize("listed", PAGES, ids=lambda listed: listed.name)
def test_a_page_has_no_violation(page: Page, listed):
    served.go_to(page, listed.group, listed.title)
    expect(page).to_have_title(f"{listed.title} · {PRODUCT}")
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0)
    closed = page.get_by_test_id("stExpander").locator("details:not([open]) summary")
    for left in reversed(range(closed.count())):
        closed.first.click()
        expect(closed).to_have_count(left)
    page.emulate_media(color_scheme="light")
    assert lasting_violations(page) == []
    page.emulate_media(color_scheme="dark")
    assert lasting_violations(page, "color-contrast") == []


def test_what_is_hard_to_read_is_found(page: Page):
    page.evaluate("document.querySelector('h1').style.color = '#444'")
    assert any("color-contrast" in found for found in violations(page))
