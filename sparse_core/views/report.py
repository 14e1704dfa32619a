"""Reports: views of the dashboard with notes as one HTML file that needs nothing else: charts interactive, tables, filters, data
versions, fields for hypothesis and conclusion, citation. It makes no requests."""

import hashlib
import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import plotly

from sparse_core import __version__
from sparse_core.catalog import CITATION
from sparse_core.errors import InputError, unknown_name
from sparse_core.paths import PUBLISHED, REPOSITORY, atomic_file
from sparse_core.results.records import Records
from sparse_core.results.store import Store
from sparse_core.views.labels import SOURCES, counted
from sparse_core.views.report_page import SCRIPT, STYLE

PAGES = (
    "tradeoffs",
    "tasks",
    "guide",
    "compare",
    "findings",
    "runs",
    "speedup",
    "structure",
    "rank",
    "evaluate",
)  # views that can be saved
FIRST_PAGE = "tradeoffs"
MOST_VIEWS = 50
CAPTURE = "pages.parts.captured"  # started as a process: it needs Streamlit, which the library does not know
FIELDS = ("hypothesis", "conclusion")


@dataclass(frozen=True)
class View:
    """One view of a report: the dashboard's link to it, such as "/tasks?transfer=Full", and the user's note."""

    link: str
    note: str = ""

    @property
    def page(self) -> str:
        """The page's name. Raises InputError for one that cannot be in a report."""
        name = urlsplit(self.link).path.strip("/").rpartition("/")[2] or FIRST_PAGE
        if name not in PAGES:
            raise unknown_name("page of a report", name, PAGES)
        return name

    @property
    def query(self) -> dict[str, list[str]]:
        """The parameters of the link."""
        return parse_qs(urlsplit(self.link).query)


@dataclass(frozen=True)
class About:
    """What a report says beside its views."""

    title: str = "Sparse Transfer Lab: report"
    hypothesis: str = ""
    conclusion: str = ""


def write(home: Path, views: Sequence[View], target: Path, about: About) -> int:
    """Write a report of one or more views to ``target``, all of it or nothing; returns its size in bytes."""
    if target.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"Expected a file ending in .html, got '{target.name}'.")
    made = make(home, views, about).encode()
    with atomic_file(target) as temporary:
        temporary.write_bytes(made)
    return len(made)


def make(home: Path, views: Sequence[View], about: About, today: date | None = None) -> str:
    """A report as HTML. Raises InputError for no view, an unknown page, and a view that cannot be drawn."""
    if not 0 < len(views) <= MOST_VIEWS:
        raise InputError(f"A report takes 1 to {MOST_VIEWS} views; got {len(views)}.")
    found = capture(home, [(view.page, view.query) for view in views])
    for view, document in zip(views, found, strict=True):
        if "error" in document:
            raise InputError(f"{unquote(view.link)}: {document['error']}.")
    return to_html(list(zip(views, found, strict=True)), about, data_versions(home), today or date.today())


def capture(home: Path, asked: Sequence[tuple[str, dict[str, list[str]]]]) -> list[dict[str, Any]]:
    """What the pages show at these links, by a process of its own: see ``pages.parts.captured``."""
    environment = {**os.environ, "SPARSE_TRANSFER_HOME": str(home), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", CAPTURE]
    done = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, cwd=REPOSITORY, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"views could not be captured: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def data_versions(home: Path) -> list[str]:
    """What the figures rest on: product version, and the runs of each source; the paper's file by its hash."""
    counts = Store(Records(home)).results().groupby("source").size()
    table = hashlib.sha256((PUBLISHED / "transfer_accuracy.csv").read_bytes()).hexdigest()[:12]
    lines = [f"Sparse Transfer Lab {__version__}"]
    for source, count in counts.items():
        detail = f" (transfer_accuracy.csv, SHA-256 {table}…)" if source == "published" else ""
        lines.append(f"{SOURCES.get(str(source), str(source))}: {counted(int(count), 'run')}{detail}")
    return lines


def to_html(views: Sequence[tuple[View, dict[str, Any]]], about: About, versions: Sequence[str], today: date) -> str:
    """The document of captured views."""
    figures: list[dict[str, Any]] = []
    sections = [_section(number, view, found, figures) for number, (view, found) in enumerate(views, start=1)]
    fields = [
        f'<label for="{name}">{name.capitalize()}</label><textarea id="{name}" rows="3" '
        f'placeholder="Write here, then save.">{html.escape(getattr(about, name))}</textarea>'
        for name in FIELDS
    ]
    script = (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    data = json.dumps(figures).replace("<", "\\u003c")
    listed = "".join(f"<li>{html.escape(line)}</li>" for line in versions)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval';
 style-src 'unsafe-inline'; img-src data: blob:">
<title>{html.escape(about.title)}</title><style>{STYLE}</style></head>
<body><main><h1>{html.escape(about.title)}</h1>
<p class="small">{today:%Y-%m-%d} · {counted(len(views), "view")} · made with Sparse Transfer Lab</p>
{fields[0]}
{"".join(sections)}
<section>{fields[1]}<button id="save" type="button">Save with my text</button></section>
<footer><h2>Data</h2><ul>{listed}</ul><p>Paper results: {html.escape(CITATION)}.</p></footer></main>
<script>{script}</script><script id="figures" type="application/json">{data}</script><script>{SCRIPT}</script></body></html>"""


def _section(number: int, view: View, found: dict[str, Any], figures: list[dict[str, Any]]) -> str:
    parts = [f"<h2>{number}. {html.escape(found['title'])}</h2>"]
    if found["filters"]:
        chosen = (f"<b>{html.escape(label)}:</b> {html.escape(value)}" for label, value in found["filters"])
        parts.append(f'<p class="small">{" · ".join(chosen)}</p>')
    if view.note:
        parts.append(f"<blockquote>{html.escape(view.note)}</blockquote>")
    parts += [_block(block, figures) for block in found["blocks"]]
    return f"<section>{''.join(parts)}</section>"


def _block(block: dict[str, Any], figures: list[dict[str, Any]]) -> str:
    kind = block["kind"]
    if kind == "chart":
        figures.append(block["figure"])
        return f'<div class="chart" id="chart{len(figures) - 1}"></div>'
    if kind == "table":
        return _table(block)
    tag = {"heading": "h3", "caption": 'p class="small"', "error": 'p class="error"'}.get(kind, "p")
    return f"<{tag}>{plain(block['text'])}</{tag.split()[0]}>"


def plain(text: str) -> str:
    """A text of the dashboard's Markdown as HTML: bold stays, escapes and icons go."""
    text = re.sub(r":material/\w+:", "", text)
    parts = re.split(r"((?<!\\)\*\*)", text)
    shown, bold = [], False
    for part in parts:
        if part == "**":
            bold = not bold
            shown.append("<b>" if bold else "</b>")
        else:
            shown.append(html.escape(re.sub(r"\\([\\`*_{}\[\]()<>#+!|~$:&.-])", r"\1", part)))
    return "".join(shown) + ("</b>" if bold else "")


def _table(block: dict[str, Any]) -> str:
    head = "".join(
        f'<th scope="col"><button type="button">{html.escape(name)}</button></th>' for name in block["headings"]
    )
    rows = "".join(
        "<tr>" + "".join(_cell(value, pattern) for value, pattern in zip(row, block["formats"], strict=True)) + "</tr>"
        for row in block["rows"]
    )
    left_out = block["of"] - len(block["rows"])
    more = f'<p class="small">The first {len(block["rows"]):,} of {block["of"]:,} rows.</p>' if left_out else ""
    field = '<label class="small">Filter rows <input type="search"></label>'
    return f'<div class="table">{field}<div><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{more}</div>'


def _cell(value: Any, pattern: str | None) -> str:
    if value is None:
        return "<td>–</td>"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"<td>{html.escape(str(value))}</td>"
    shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    if pattern and pattern.startswith("%"):
        shown = pattern % value
    return f'<td class="number" data-value="{value}">{html.escape(shown.replace("-", "−"))}</td>'
