"""Probe and Runs without a browser: empty states, results, refusals, and no torch in the serving process."""

import dataclasses
import errno
import json
import subprocess
import sys

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from pages.parts.frame import plain
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.paths import REPOSITORY
from sparse_core.results.records import Records
from sparse_core.specs.identity import recorded
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec, protocol
from tests.support.records import record


@pytest.fixture(autouse=True)
def no_worker(monkeypatch):
    monkeypatch.setattr(queue, "ensure_worker", lambda *_: None)
    monkeypatch.setattr("streamlit.page_link", lambda *_, **__: None)  # a page alone has no others; see tests/browser


def open_page(name: str, **query: str) -> AppTest:
    app = AppTest.from_file(str(REPOSITORY / "pages" / f"{name}.py"), default_timeout=60)
    app.session_state["framed"] = True
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception, app.exception
    return app


def test_probe_submits_what_was_chosen(home):
    app = open_page("probe")
    app.number_input(key="seeds").set_value(2).run()
    app.button[0].click().run()
    asked = [queue.status(home, job_id).job for job_id in queue.queued(home)]
    (probe,) = [job for job in asked if job.kind == "probe"]
    assert (probe.spec.backbone, probe.spec.dataset, probe.seeds) == ("efficientnet_lite0", "digits", (0, 1))
    assert probe.spec.settings.epochs == 150


def test_probe_refuses_learning_rates_that_are_words():
    app = open_page("probe")
    app.text_input(key="sweep").set_value("fast slow").run()
    assert "Expected learning rates such as" in app.error[0].value


def test_probe_shows_a_finished_job(home):
    records = [record(seed=0), record(seed=1, best=0.8)]
    for entry in records:
        Records(home).write(entry)
    job_id = queue.submit(home, Job("probe", ProbeSpec("efficientnet_lite0", "digits"), (0, 1)))
    queue.end(home, job_id, "done", result={"runs": [entry.run_id for entry in records], "found": []})
    app = open_page("probe", job=job_id)
    assert app.metric[1].value == "85.0 ± 7.1 %"


def test_probe_shows_why_a_job_failed(home):
    job_id = queue.submit(home, Job("probe", ProbeSpec("efficientnet_lite0", "digits"), (0,)))
    queue.end(home, job_id, "failed", "The disk is full.")
    assert open_page("probe", job=job_id).error[0].value == "The disk is full."


def test_runs_says_what_to_do_when_there_are_none():
    assert "No run was made on this machine yet" in open_page("runs").info[0].value


def compare(home, *records) -> tuple[AppTest, dict, str]:
    """The page with these runs chosen: itself, the chart's figure and the words in it."""
    for entry in records:
        Records(home).write(entry)
    app = open_page("runs")
    options = list(app.multiselect(key="chosen").options)
    assert len(options) == len(records)
    app.multiselect(key="chosen").set_value(options).run()
    assert not app.exception
    (chart,) = app.get("plotly_chart")
    figure = json.loads(chart.proto.spec)
    words = " ".join(entry["text"] for entry in figure["layout"]["annotations"]).replace("<br>", " ")
    return app, figure, words


def test_runs_compares_several(home):
    app, figure, words = compare(home, record(seed=0, final=0.7), record(seed=1, final=0.8))
    heights = {trace["hovertext"][0].split("<br>")[0]: trace["y"] for trace in figure["data"] if "hovertext" in trace}
    assert heights == {"Dense, Digits, linear, seed 0": [70.0], "Dense, Digits, linear, seed 1": [80.0]}
    assert "How do these runs compare?" in words
    assert "2 runs measured on this machine, 2026-01-02. 2 runs by SGD lr 0.01" in words
    shares = [code.value for code in app.code]
    assert shares == ["python -m sparse_core runs --source measured --json"] * 2


def test_runs_that_differ_in_protocol_are_told_apart(home):
    usual, short = record(final=0.7), record(final=0.8)
    short = dataclasses.replace(short, run_id="linear-0-short")
    short.spec["settings"]["epochs"] = 5
    short.result.update(protocol="SGD, 5 epochs", created_at="2026-01-05T03:04:05")
    _, figure, words = compare(home, usual, short)
    assert sorted(trace["y"] for trace in figure["data"] if "hovertext" in trace) == [[70.0], [80.0]]
    assert "2 runs measured on this machine, 2026-01-02 to 2026-01-05. Protocols differ: 1 run by SGD" in words
    assert "; 1 run by" in words


def shown_runs(app: AppTest) -> pd.DataFrame:
    return app.dataframe[-1].value


def test_the_table_tells_state_and_settings_of_every_run(home):
    for entry in (record(seed=0), record(sparsity=0.5)):
        Records(home).write(entry)
    Records(home).annotate(record(seed=0).run_id, "odd", ["a"])
    spec = ProbeSpec("efficientnet_lite0", "digits")
    states = {"failed": 1, "cancelled": 2, "done": 3}
    for state, seed in states.items():
        queue.end(
            home, queue.submit(home, Job("probe", spec, (seed,))), state, "The disk is full.", {"runs": [], "found": []}
        )
    queue.submit(home, Job("finetune", FinetuneSpec("net", "digits"), (0, 1)))
    app = open_page("runs")
    table = shown_runs(app)
    assert table["state"].tolist() == ["waiting", "waiting", "cancelled", "failed", "done", "done"]
    assert table["seed"].tolist() == [0, 1, 2, 1, 0, 0]
    assert table["protocol"].iloc[2] == protocol(spec)
    assert table["protocol"].str.startswith("SGD lr").all()
    assert {"accuracy_final", "note", "tags"} <= set(table)
    app.segmented_control(key="runs_source").set_value("published").run()
    assert not app.exception
    assert len(shown_runs(app)) == 2655
    app.segmented_control(key="runs_source").set_value("measured").run()
    assert shown_runs(app)["state"].tolist() == table["state"].tolist()


def test_a_run_that_was_tried_before_it_was_finished_is_there_once(home):
    made = record(seed=4)
    Records(home).write(made)
    spec = recorded(made.spec)
    for state in ("failed", "cancelled"):
        queue.end(home, queue.submit(home, Job("probe", ProbeSpec(spec.backbone, spec.dataset), (4,))), state, "No.")
    assert shown_runs(open_page("runs"))["state"].tolist() == ["done"]


def test_what_was_started_shows_before_the_first_run_is_there(home):
    queue.end(
        home, queue.submit(home, Job("probe", ProbeSpec("net", "digits"), (0,))), "failed", "Unknown backbone 'net'."
    )
    app = open_page("runs")
    assert "No run was made" in app.info[0].value
    assert shown_runs(app)["state"].tolist() == ["failed"]


def test_deleting_the_only_run_can_be_undone(home):
    entry = record()
    Records(home).write(entry)
    app = open_page("runs")
    Records(home).delete(entry.run_id)  # as the dialog does, which needs a browser
    app.session_state["deleted"] = entry.run_id
    app.run()
    assert "The run was deleted." in [info.value for info in app.info]
    next(button for button in app.button if button.label == "Undo").click().run()
    assert not app.exception
    assert Records(home).ids() == {entry.run_id}
    assert "The run was deleted." not in [info.value for info in app.info]


@pytest.mark.parametrize("refusal", ["file", "full"])
def test_a_home_that_cannot_be_used_is_one_sentence(refusal, home, monkeypatch):
    told = f"SPARSE_TRANSFER_HOME takes a folder; got the file {home}"
    if refusal == "file":
        home.write_text("")
    else:
        told = "Expected free disk space for the file, but the disk is full"
        monkeypatch.setattr(Records, "fingerprint", lambda _: no_space())
    app = AppTest.from_file(str(REPOSITORY / "app.py"), default_timeout=60).run()
    assert not app.exception
    (error,) = app.error
    assert error.value.startswith(plain(told))


def no_space():
    raise OSError(errno.ENOSPC, "No space left on device")


def test_notes_are_kept(home):
    entry = record()
    Records(home).write(entry)
    app = open_page("runs")
    app.multiselect(key="chosen").set_value(list(app.multiselect(key="chosen").options)).run()
    app.text_area[0].set_value("looks odd")
    next(button for button in app.button if button.label == "Save").click().run()
    assert Records(home).annotation(entry.run_id)[0] == "looks odd"


def test_the_probe_page_imports_no_torch():
    script = (
        "import sys; from streamlit.testing.v1 import AppTest; from sparse_core.jobs import queue;"
        "queue.ensure_worker = lambda *_: 0;"
        "app = AppTest.from_file('pages/probe.py', default_timeout=60); app.session_state['framed'] = True; app.run();"
        "assert not app.exception; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
