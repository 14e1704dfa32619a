"""Measuring this machine in a real Chromium: progress, the result as chart and row, its link, deleting, cancelling."""

import re

from playwright.sync_api import Browser, Page, expect

from tests.browser.served import MINUTE, assert_no_error, delete_and_undo, first_chart, open_page

QUICK = "measure=true&what=Random+weights+%28timing+only%29&of_architecture=ResNet18&to_sparsity=90&engines=ONNX+Runtime&rounds=3"


def press_measure(page: Page, address: str, sizes: str) -> None:
    open_page(page, f"{address}/speedup?{QUICK}&sizes={sizes}")
    page.get_by_role("button", name="Measure", exact=True).click(timeout=MINUTE)


def measured(page: Page) -> None:
    machine = page.get_by_text(re.compile("^Measured on .*Load average per core: before .*Background CPU load up to "))
    expect(machine).to_be_visible(timeout=4 * MINUTE)


def test_measuring_from_the_button_to_chart_row_and_link(page: Page, browser: Browser, address: str):
    open_page(page, f"{address}/speedup")
    expect(page.get_by_text("This machine has not been measured yet")).to_be_visible(timeout=MINUTE)
    press_measure(page, address, "1")
    expect(page.get_by_role("progressbar")).to_be_visible(timeout=MINUTE)
    measured(page)
    expect(page.get_by_text("Timing only: a mask on random weights")).to_be_visible()
    chart = first_chart(page)
    expect(chart).to_contain_text("Speedup over dense by sparsity", timeout=MINUTE)
    expect(chart).to_contain_text("ONNX Runtime, uniform mask (timing only)")
    page.get_by_role("tab", name="All measurements").click()
    expect(page.get_by_text("1 of 1 rows")).to_be_visible(timeout=MINUTE)
    for chosen in ("part=All", "job="):
        expect(page).to_have_url(re.compile(chosen))
    link = page.url
    with browser.new_context() as other:
        second = other.new_page()
        open_page(second, link)
        expect(second.get_by_text("1 of 1 rows")).to_be_visible(timeout=MINUTE)
        measured(second)
    assert_no_error(page)


def test_a_measurement_is_deleted_and_restored(page: Page, address: str):
    open_page(page, f"{address}/speedup?part=All+measurements")
    look = page.get_by_role("combobox", name="Selected measurement")
    look.scroll_into_view_if_needed(timeout=MINUTE)
    page.wait_for_timeout(1000)  # scrolling closes an open list
    look.click()
    page.get_by_role("option").first.click()
    delete_and_undo(page, "1 of 1 rows", "This machine has not been measured yet")


def test_a_measurement_can_be_cancelled(page: Page, address: str):
    press_measure(page, address, "256")
    page.get_by_role("button", name="Cancel").click(timeout=MINUTE)
    expect(page.get_by_text("Press “Measure” to start again")).to_be_visible(timeout=MINUTE)
    assert_no_error(page)
