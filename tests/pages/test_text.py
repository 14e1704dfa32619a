"""Text from files is shown as text: neither Streamlit's Markdown nor Plotly's HTML of a name reaches a page."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from sparse_core.jobs import queue, worker
from sparse_core.jobs.kinds import Job
from sparse_core.networks import importing
from sparse_core.results.records import Record, Records
from sparse_core.specs.checkpoints import InspectSpec
from sparse_core.specs.identity import record_document
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec
from sparse_core.speed import measurements
from tests.pages.support import open_page
from tests.support.measurements import backbone_record, line, speed_record
from tests.support.networks import pruned_state
from tests.support.records import record

MARKDOWN = ":red[x] **b** ![i](http://e) `c`"
HTML = "<b>z</b><a href='http://e'>"
NASTY = f"{MARKDOWN} {HTML}"
ELEMENTS = ("markdown", "caption", "info", "warning", "error", "success", "header", "metric", "expander", "toast")
NOT_ESCAPED = (":red[x]", "**b**", "![i](", "`c`", "<b>z")
SHOWN = ("text", "name", "hovertext", "ticktext", "hovertemplate", "title")


@pytest.fixture
def nasty_home(home):
    made = record(final=0.7)
    result = {**made.result, "class_names": [f"a {NASTY}", f"b {NASTY}"], "notes": [NASTY], "protocol": NASTY}
    result |= {"dataset_name": NASTY, "upstream": NASTY, "engine": NASTY, "engine_version": NASTY}
    Records(home).write(Record(made.run_id, {**made.spec, "backbone": NASTY}, result, made.events))
    sparse = record(sparsity=0.5, final=0.6)
    result = {**result, **{name: sparse.result[name] for name in ("sparsity", "backbone_sparsity")}, "method": NASTY}
    Records(home).write(Record(sparse.run_id, {**sparse.spec, "backbone": NASTY}, result, sparse.events))
    Records(home).annotate(made.run_id, NASTY, [NASTY])
    here = {"processor": NASTY, "cores": 2}
    lines = [line(engine=NASTY), line(engine="torch", ratio=1.0, layers=[[NASTY, 1.0]])]
    measurements.write(home, speed_record("a", lines=lines, distribution=NASTY, machine=here, problems=[NASTY]))
    measurements.write(home, backbone_record("b", method=NASTY, machine=here, backbone="gone"))
    job_id = queue.submit(home, Job("probe", ProbeSpec(NASTY, NASTY)))
    queue.end(home, job_id, "failed", NASTY)
    done = queue.submit(home, Job("probe", ProbeSpec(NASTY, NASTY)))
    queue.end(home, done, "done", result={"runs": [made.run_id], "found": []})
    return home


def texts(app: AppTest) -> Iterator[str]:
    for kind in ELEMENTS:
        for element in app.get(kind):
            yield from (str(getattr(element, name)) for name in ("value", "label") if getattr(element, name, None))


def figure_texts(value: Any, key: str = "") -> Iterator[str]:
    """All texts of a figure that Plotly draws."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from figure_texts(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from figure_texts(inner, key)
    elif isinstance(value, str) and key in SHOWN:
        yield value


def test_names_in_an_inspected_file_are_text(home, tmp_path):
    """Of layers, sets of weights, objects and metadata, on the Library page before an import and after it."""
    state = pruned_state(0.5)
    document = {
        NASTY: {**state, f"{NASTY}.weight": torch.ones(1)},
        f"ema.{NASTY}": state,
        "extra": {f"{NASTY}.x": torch.ones(1)},
    }
    torch.save(document, tmp_path / "net <b>z.pth")
    job_id = queue.submit(home, Job("inspect", InspectSpec(str(tmp_path / "net <b>z.pth"))))
    worker.work(home, job_id)
    assert queue.status(home, job_id).state == "done"
    app = open_page("library", job=job_id)
    importing.add(home, tmp_path / "net <b>z.pth", "mine", upstream=NASTY, method="Own", origin=NASTY)
    for shown in (list(texts(app)), list(texts(open_page("library")))):
        assert shown and not [text for text in shown if any(part in text for part in NOT_ESCAPED)]


def test_names_of_a_finetuned_run_are_text(nasty_home):
    made = Records(nasty_home).read(min(Records(nasty_home).ids()))
    spec = {**record_document(FinetuneSpec("b", "d"), 0), "backbone": NASTY, "dataset": NASTY}
    measured = {"sparsity_before": 0.5, "sparsity_after": 0.5, "mask_violations": 0, "seconds_training": 1.0}
    Records(nasty_home).write(Record("full-0", spec, {**made.result, **measured, "top1_final_fp32": None}, made.events))
    job_id = queue.submit(nasty_home, Job("finetune", FinetuneSpec(NASTY, NASTY)))
    queue.end(nasty_home, job_id, "done", result={"runs": ["full-0"], "found": []})
    app = open_page("finetune", job=job_id)
    shown = list(texts(app))
    assert any("red" in text for text in shown)
    assert not [text for text in shown if any(part in text for part in NOT_ESCAPED)]


@pytest.mark.parametrize("page", ["runs", "tasks", "tradeoffs", "speedup", "probe", "probe failed", "structure"])
def test_names_from_files_are_text(nasty_home, page):
    name, _, failed = page.partition(" ")
    query: dict[str, Any] = {}
    if name == "probe":
        states = {queue.status(nasty_home, entry.name).state: entry.name for entry in (nasty_home / "jobs").iterdir()}
        query = {"job": states["failed" if failed else "done"]}
    app = open_page(name, **query)
    if name == "runs":
        app.multiselect(key="chosen").set_value(app.multiselect(key="chosen").options[:1]).run()
    assert not app.exception
    shown = list(texts(app))
    assert not [text for text in shown if any(part in text for part in NOT_ESCAPED)]
    drawn = [text for chart in app.get("plotly_chart") for text in figure_texts(json.loads(chart.proto.spec))]
    assert not [text for text in drawn if "<b>z" in text or "<a " in text]
    assert any("red" in text for text in (*shown, *drawn)) or name in ("tasks", "structure")
