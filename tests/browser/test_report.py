"""A report from the command line, opened in Chromium with the network cut: charts, tables, and no request."""

from pathlib import Path

from playwright.sync_api import Browser, expect

from sparse_core.views import report


def test_a_report_needs_no_network(browser: Browser, tmp_path: Path):
    target = tmp_path / "report.html"
    views = [report.View("/?transfer=Linear&view=Difficulty", "A note"), report.View("/compare?compared=Ranks")]
    report.write(tmp_path / "home", views, target, report.About(hypothesis="It holds."))
    with browser.new_context(offline=True) as context:
        page = context.new_page()
        asked: list[str] = []
        faults: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(target.as_uri())
        expect(page.locator(".js-plotly-plot")).to_have_count(4)
        expect(page.locator("#chart0")).to_contain_text("WoodFisher")
        expect(page.locator("#chart3")).to_contain_text("critical difference")
        rows = page.locator("tbody").first.locator("tr:visible")
        expect(rows).to_have_count(16)
        page.get_by_role("searchbox").first.fill("str")
        expect(rows).to_have_count(4)
        page.get_by_label("Conclusion").fill("It held.")
        with page.expect_download() as download:
            page.get_by_role("button", name="Save with my text").click()
        saved = tmp_path / "saved.html"
        download.value.save_as(saved)
        page.goto(saved.as_uri())
        expect(page.get_by_label("Conclusion")).to_have_value("It held.")
        expect(page.locator(".js-plotly-plot")).to_have_count(4)
        assert faults == [] and all(address.startswith(("file:", "blob:", "data:")) for address in asked)
