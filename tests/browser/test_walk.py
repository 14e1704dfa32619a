"""The walk of a new user in a real Chromium: explore, probe, see the result everywhere, share the view."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.served import MINUTE, assert_no_error, choose, delete_and_undo, first_chart, go_to, open_page


def test_the_first_page_shows_the_paper_and_its_link_restores_it(page: Page, browser: Browser, address: str):
    open_page(page, address)
    chart = first_chart(page)
    expect(chart).to_contain_text("WoodFisher", timeout=MINUTE)
    page.get_by_text("Full", exact=True).first.click()
    expect(first_chart(page)).not_to_contain_text("Linear transfer", timeout=MINUTE)
    expect(page).to_have_url(re.compile("transfer=Full"))
    link = page.url
    with browser.new_context() as other:
        second = other.new_page()
        open_page(second, link)
        restored = first_chart(second)
        expect(restored).to_contain_text("Full transfer", timeout=MINUTE)
        expect(restored).not_to_contain_text("Linear transfer")
    assert_no_error(page)


def test_going_back_to_a_link_of_an_earlier_version_opens_its_view_again(page: Page, address: str):
    back_to_link = "history.go(2 - history.length)"  # the first address after the blank page
    open_page(page, f"{address}/?architecture=MobileNetV1&source=Published&view=Pareto+front")
    chart = first_chart(page)
    expect(chart).to_contain_text("MobileNetV1", timeout=MINUTE)
    page.wait_for_timeout(1000)
    page.evaluate(back_to_link)
    page.wait_for_timeout(3000)
    expect(chart).to_contain_text("MobileNetV1", timeout=MINUTE)
    expect(page.get_by_role("radio", name="Paper results")).to_be_checked(timeout=MINUTE)
    expect(page.locator(".js-plotly-plot")).to_have_count(2)
    assert_no_error(page)
    go_to(page, "Results", "Tasks")
    expect(page.get_by_text("All numbers")).to_be_visible(timeout=MINUTE)
    page.evaluate(back_to_link)
    expect(chart).to_contain_text("Relative error increase over dense", timeout=MINUTE)
    assert_no_error(page)


@pytest.mark.parametrize("kind", ["PNG", "SVG", "HTML"])
def test_charts_download(page: Page, address: str, kind: str, tmp_path):
    open_page(page, address)
    expect(first_chart(page)).to_contain_text("WoodFisher", timeout=MINUTE)
    page.get_by_role("button", name="Export").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("img")).to_have_js_property("complete", True)
    expect(dialog.get_by_role("img")).to_have_attribute("src", re.compile("^data:image/svg"))
    page.get_by_text("Caption", exact=True).click()
    page.wait_for_timeout(1000)
    with page.expect_download(timeout=MINUTE) as download:
        page.get_by_role("button", name=kind, exact=True).first.click()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    start = {"PNG": b"\x89PNG", "SVG": b"<svg", "HTML": b"<!doctype html>"}[kind]
    assert file.read_bytes().startswith(start)
    if kind != "PNG":
        assert "CVPR 2022" in file.read_text(encoding="utf-8")


def start_probe(page: Page, address: str, backbone: str) -> Locator:
    """Start a probe; returns what holds its result, once there is one: an earlier result is shown until the job has begun."""
    open_page(page, f"{address}/probe")
    choose(page, "Backbone", backbone)
    expect(page).to_have_url(re.compile("backbone="))
    page.get_by_role("button", name="Start probe").click()
    expect(page).to_have_url(re.compile("[?&]job="))
    (job_id,) = parse_qs(urlsplit(page.url).query)["job"]
    return page.locator(f".st-key-result-{job_id}")


def test_a_probe_from_the_button_to_the_charts(page: Page, address: str):
    result = start_probe(page, address, "resnet20_dense_s0: ResNet20, dense")
    expect(result.get_by_role("link", name="Show on Tradeoffs")).to_be_visible(timeout=4 * MINUTE)
    expect(result.get_by_text("Final top-1 accuracy")).to_be_visible()
    for title in ("Test accuracy per epoch", "Per-class accuracy", "Confusion matrix"):
        expect(page.get_by_text(title).first).to_be_attached(timeout=MINUTE)
    result = start_probe(page, address, "resnet20_gmp_90_s0: ResNet20, GMP 90 %")
    result.get_by_role("link", name="Show on Tradeoffs").click(timeout=4 * MINUTE)
    expect(first_chart(page)).to_contain_text("GMP", timeout=MINUTE)
    page.wait_for_timeout(1000)
    go_to(page, "Results", "Tasks")
    expect(first_chart(page)).to_contain_text("Digits", timeout=MINUTE)
    go_to(page, "Results", "Runs")
    expect(page.get_by_text("2 of 2 rows")).to_be_visible(timeout=MINUTE)
    assert_no_error(page)


def test_a_run_is_shown_in_detail_deleted_and_restored(page: Page, address: str):
    open_page(page, f"{address}/runs?rows=Each+run")
    choose(page, "Selected runs", "seed 0")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Rerun")).to_be_visible(timeout=MINUTE)
    delete_and_undo(page, "10 of 10 rows", "9 of 9 rows")


def test_a_click_on_a_row_opens_it(page: Page, address: str):
    open_page(page, f"{address}/runs")
    table = page.get_by_test_id("stDataFrame").first
    table.wait_for()
    page.wait_for_timeout(1000)
    place = table.bounding_box()
    assert place
    page.mouse.click(place["x"] + 200, place["y"] + 52)  # the first row, the newest
    expect(page.get_by_role("heading", name="GMP 90 %, Digits, linear")).to_be_visible()
    expect(page).to_have_url(re.compile("chosen=GMP"))
    assert_no_error(page)


def test_a_click_on_a_cell_of_the_confusion_matrix_shows_its_images(page: Page, address: str):
    open_page(page, f"{address}/probe")
    chart = page.locator(".js-plotly-plot", has_text="Confusion matrix")
    expect(chart).to_contain_text("Dense")  # beside the sparse network
    cell = chart.locator(".scatterlayer .point").first
    cell.scroll_into_view_if_needed()
    page.wait_for_timeout(1000)
    place = cell.bounding_box()
    assert place
    page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    expect(page.get_by_role("img", name=re.compile(", predicted ")).first).to_be_visible()
    assert_no_error(page)


def test_a_probe_is_seen_and_cancelled_in_another_tab(page: Page, address: str):
    start_probe(page, address, "EfficientNet-Lite0, magnitude 70 %")
    other = page.context.new_page()
    open_page(other, f"{address}/tasks")
    other.get_by_role("button", name=re.compile("running|waiting")).click()
    other.get_by_role("button", name="Cancel").click()
    expect(other.get_by_role("link", name=re.compile("magnitude_70 on Digits, 5 seeds cancelled"))).to_be_visible()
    expect(page.get_by_text("Press “Start probe” to start again")).to_be_visible(timeout=MINUTE)


def test_a_wrong_path_is_one_sentence(page: Page, address: str):
    open_page(page, f"{address}/probe?dataset=My+own+folder+or+Parquet+file")
    field = page.get_by_role("textbox", name="Path on this machine")
    field.fill("/nowhere/at/all")
    field.press("Enter")
    expect(page.get_by_text("There is no folder or file at /nowhere/at/all")).to_be_visible(timeout=MINUTE)
    assert_no_error(page)
