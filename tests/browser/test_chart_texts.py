"""No text of an exported chart meets another, is struck through or cut off: their boxes as Chromium draws them."""

import json
from pathlib import Path

import plotly
import plotly.graph_objects as go
import pytest
from playwright.sync_api import Browser, Page

from sparse_core.views.charts import captions
from sparse_core.views.charts.fitting import Canvas
from tests.support import charts

PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
FIND_FAULTS = (Path(__file__).parent / "chart_texts.js").read_text(encoding="utf-8").partition("\n")[2]
# A paper's column of 3.3 in in 8 pt; its page; a slide in 18 pt: see ``pages.parts.export``.
CANVASES = {
    "column": Canvas(356, fixed=True),
    "page": Canvas(745, fixed=True),
    "slide": Canvas(640, 360, caption=False, dark=True, fixed=True),
}
TO_SVG = """async ([figure, width, height]) => {
    const address = await Plotly.toImage(figure, { format: "svg", width, height });
    return decodeURIComponent(address.slice(address.indexOf(",") + 1));
}"""


@pytest.fixture(scope="module")
def drawing(browser: Browser) -> Page:
    """A page with Plotly's script."""
    page = browser.new_page()
    page.set_content("<body></body>")
    page.add_script_tag(path=str(PLOTLY))
    return page


def faults(page: Page, figure: go.Figure) -> list[str]:
    size = [figure.layout.width, figure.layout.height]
    svg = page.evaluate(TO_SVG, [json.loads(figure.to_json()), *size])
    return page.evaluate(f"([svg, width, height]) => ({FIND_FAULTS})(svg, width, height)", [svg, *size])


@pytest.mark.parametrize("kind", charts.KINDS)
def test_texts_of_an_export_are_free_of_each_other(drawing: Page, kind: str) -> None:
    figure = charts.chart(kind)
    fitted = {name: captions.fitted(figure, canvas) for name, canvas in CANVASES.items()}
    found = {name: faults(drawing, each) for name, each in fitted.items()}
    assert not {name: each for name, each in found.items() if each}
    slide = fitted["slide"].layout
    assert slide.height == pytest.approx(9 / 16 * slide.width, rel=0.01)


def test_texts_that_meet_are_found(drawing: Page) -> None:
    note = {"text": "a note", "xref": "paper", "yref": "paper", "showarrow": False, "y": 0.5}
    layout = {"width": 400, "height": 300, "annotations": [{**note, "x": 0.5}, {**note, "x": 0.55}, {**note, "x": 1.4}]}
    found = faults(drawing, go.Figure({"data": [], "layout": layout}))
    assert '"a note" meets "a note"' in found and '"a note" is cut off' in found
