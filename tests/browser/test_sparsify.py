"""Making a sparse network in a real Chromium: the form, the charts while it runs, and from the network to its probe."""

from urllib.parse import urlencode

from playwright.sync_api import Page, expect

from tests.browser.served import MINUTE, assert_no_error, first_chart, open_page


def test_a_network_from_the_button_to_its_probe(page: Page, address: str, images: str):
    asked = {"epochs": 20, "sparsities": 80, "upstream": "My own folder or Parquet file", "upstream_path": images}
    open_page(page, f"{address}/sparsify?{urlencode(asked)}")
    page.get_by_role("button", name="Start sparsifying").click(timeout=MINUTE)
    expect(page.get_by_role("button", name="Cancel")).to_be_visible(timeout=MINUTE)
    sparsity = page.get_by_test_id("stMetric").filter(has_text="Sparsity").get_by_test_id("stMetricValue")
    expect(sparsity).to_have_text("80 %", timeout=4 * MINUTE)
    expect(first_chart(page)).to_contain_text("target dashed", timeout=MINUTE)
    expect(page.get_by_text("1 of 1 rows")).to_be_visible(timeout=MINUTE)
    assert_no_error(page)
    page.get_by_role("link", name="Probe it").first.click()
    expect(page.get_by_text("resnet20-ACDC-80-seed0: ResNet20, AC/DC 80 %").first).to_be_visible(timeout=MINUTE)
    assert_no_error(page)
