"""Views as data: opens each link of stdin (JSON) without a browser and prints what the page shows as JSON.

``python -m pages.parts.captured``, a process of its own: a report has the very figures and tables of the dashboard, which may
run meanwhile. Results are read into memory; the cache of the dashboard is not opened.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from streamlit.testing.v1 import AppTest

from pages.parts.frame import PAGES
from sparse_core.paths import REPOSITORY

SECONDS = 300
SKIPPED = ("popover", "dialog", "expander")  # forms and lists beside the view
TEXTS = {"title": "heading", "header": "heading", "subheader": "heading", "markdown": "text", "caption": "caption"}
TEXTS |= {"info": "text", "warning": "text", "error": "error"}
CONTROLS = ("selectbox", "multiselect", "button_group", "slider", "toggle", "number_input", "text_input")
MOST_ROWS = 2000


def capture(page: str, query: dict[str, list[str]]) -> dict[str, Any]:
    """A view: ``title``, ``filters`` as [label, value], and its ``blocks`` from top to bottom."""
    app = AppTest.from_file(str(REPOSITORY / "app.py"), default_timeout=SECONDS)
    app.switch_page(f"pages/{page}.py")
    app.session_state["in_memory"] = True
    app.query_params.update({name: values if len(values) > 1 else values[0] for name, values in query.items()})
    app.run()
    if app.exception:
        return {"error": "the page could not be drawn"}
    widgets: list[Any] = [widget for kind in CONTROLS for widget in app.get(kind)]
    controls = {widget.key: widget.label for widget in widgets if widget.key}
    filters = [[controls[name], ", ".join(values)] for name, values in query.items() if controls.get(name)]
    title = next(each.title for each in PAGES if each.name == page)
    blocks = list(_blocks(app.main))[:-1]  # the last is the frame's own line
    unknown = [
        {"kind": "error", "text": each.value} for each in app.toast
    ]  # what the link names and the page does not have
    return {"title": title, "filters": filters, "blocks": [*unknown, *blocks]}


def _blocks(parent: Any) -> Iterator[dict[str, Any]]:
    for element in parent.children.values():
        kind = element.type
        if hasattr(element, "children"):
            if kind not in SKIPPED:
                yield from _blocks(element)
        elif kind in TEXTS:
            if kind != "title":
                yield {"kind": TEXTS[kind], "text": element.value}
        elif kind == "metric":
            yield {"kind": "text", "text": f"{element.label}: {element.value}"}
        elif kind == "plotly_chart":
            yield {"kind": "chart", "figure": json.loads(element.proto.spec)}
        elif kind == "dataframe":
            yield _table(element)


def _table(element: Any) -> dict[str, Any]:
    frame = element.value
    settings = json.loads(element.proto.columns or "{}")
    kinds = {name: each.get("type_config", {}).get("type") for name, each in settings.items()}
    frame = frame[[name for name in frame.columns if kinds.get(str(name)) != "link"]]  # to pages, which a file has not
    headings = [settings.get(str(name), {}).get("label") or str(name) for name in frame.columns]
    formats = [settings.get(str(name), {}).get("type_config", {}).get("format") for name in frame.columns]
    shown = json.loads(frame.head(MOST_ROWS).to_json(orient="values", date_format="iso", double_precision=10))
    return {"kind": "table", "headings": headings, "formats": formats, "rows": shown, "of": len(frame)}


def main() -> None:
    """Read [[page, query], …] and print one document for each."""
    print(json.dumps([capture(page, query) for page, query in json.load(sys.stdin)]))


if __name__ == "__main__":
    main()
