"""Reports: one file with what the pages show, whose texts are texts; links and notes that are refused."""

import json
import re
from datetime import date

import pytest

from sparse_core.cli import main
from sparse_core.errors import InputError
from sparse_core.views import report

NASTY = "</script><img src=x onerror=alert(1)> **b** <b>z</b>"
FOUND = {
    "title": "Tasks",
    "filters": [["Transfer", "Full"]],
    "blocks": [
        {"kind": "heading", "text": f"AC/DC \\*x {NASTY}"},
        {"kind": "chart", "figure": {"data": [{"name": NASTY}], "layout": {"width": 5}}},
        {
            "kind": "table",
            "headings": ["A", NASTY],
            "formats": ["%.1f", None],
            "rows": [[1.25, NASTY], [None, "x"]],
            "of": 3,
        },
    ],
}


@pytest.fixture
def captured(monkeypatch):
    """What was asked of the pages; they answer with ``FOUND``."""
    asked = []
    monkeypatch.setattr(report, "capture", lambda home, views: asked.extend(views) or [FOUND] * len(views))
    return asked


def test_a_report_has_its_views_notes_fields_versions_and_citation(home, captured):
    views = [report.View("http://127.0.0.1:8501/tasks?transfer=Full", "My note"), report.View("/")]
    about = report.About("Title", "It holds.", "It held.")
    page = report.make(home, views, about, date(2030, 1, 2))
    assert captured == [("tasks", {"transfer": ["Full"]}), ("tradeoffs", {})]
    for text in (
        "Title",
        "It holds.",
        "It held.",
        "My note",
        "2030-01-02",
        "CVPR 2022",
        "2,655 runs",
        "Transfer:</b> Full",
    ):
        assert text in page
    assert "The first 2 of 3 rows" in page and ">1.2<" in page and ">–<" in page
    assert not re.findall(r'(?:src|href)="?https?:', page.partition("<script>")[0])
    assert "default-src 'none'" in page


def test_names_from_files_are_text(home, captured):
    page = report.make(home, [report.View("/tasks", NASTY)], report.About(NASTY, NASTY, NASTY))
    before, _, rest = page.partition("<script>")
    assert "<img" not in before and "<b>z</b>" not in before and "alert" in before
    figures = re.search(r'<script id="figures" type="application/json">(.*?)</script>', rest, re.DOTALL)
    assert figures and json.loads(figures[1])[0]["data"][0]["name"] == NASTY


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("**Linear, 90 %:** few \\(−2 %\\)", "<b>Linear, 90 %:</b> few (−2 %)"),
        ("a \\*\\*b\\*\\* <i>", "a **b** &lt;i&gt;"),
        (":material/rule: **open", " <b>open</b>"),
    ],
)
def test_markdown_of_the_dashboard_as_html(text, shown):
    assert report.plain(text) == shown


def test_refusals(home, captured, capsys, tmp_path):
    with pytest.raises(InputError, match="1 to 50 views"):
        report.make(home, [], report.About())
    with pytest.raises(InputError, match="Unknown page of a report"):
        report.make(home, [report.View("/probe")], report.About())
    out = tmp_path / "r.html"
    assert main(["report", "/tasks", "--out", str(tmp_path / "r.pdf")]) == 2
    assert main(["report", "/tasks", "--out", str(out), "--note", "a", "b"]) == 2
    assert "at most one --note" in capsys.readouterr().err and not out.exists()
    assert main(["report", "/tasks", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(out), "views": 1, "bytes": out.stat().st_size}


def test_a_view_that_cannot_be_drawn_is_named(home, monkeypatch):
    monkeypatch.setattr(report, "capture", lambda *_: [{"error": "the page could not be drawn"}])
    with pytest.raises(InputError, match=r"/tasks\?a=b: the page could not be drawn"):
        report.make(home, [report.View("/tasks?a=b")], report.About())
