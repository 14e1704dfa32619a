"""Runs in Streamlit's test harness: empty states, the table with states, comparing, deleting, notes."""

import dataclasses

from streamlit.testing.v1 import AppTest

from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.results.records import Records
from sparse_core.specs.identity import recorded
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec, protocol
from tests.pages.support import chart_text, choose, figure, messages, open_page, press, shown, table
from tests.support.records import record, write


def test_a_page_without_runs_shows_the_next_step():
    assert "No runs yet" in open_page("runs").info[0].value


def compare(home, *records) -> AppTest:
    """The page with these runs selected."""
    write(home, *records)
    app = open_page("runs")
    options = list(app.multiselect(key="chosen").options)
    assert len(options) == len(records)
    return choose(app, chosen=options)


def test_several_runs_are_compared(home):
    app = compare(home, record(seed=0, final=0.7), record(seed=1, final=0.8))
    lines = [trace for trace in figure(app)["data"] if "hovertext" in trace]
    heights = {line["name"]: line["y"] for line in lines}
    assert heights == {"Dense, Digits, linear, seed 0": [70.0], "Dense, Digits, linear, seed 1": [80.0]}
    assert "Test accuracy per epoch" in chart_text(app)
    assert "2 runs on this machine, 2026-01-02. 2 runs with SGD lr 0.01" in chart_text(app)
    assert [code.value for code in app.code] == ["sparse-transfer runs --source measured --json"] * 2


def test_compared_runs_of_two_networks_are_told_apart_by_their_names(home):
    first = record(sparsity=0.5)
    second = dataclasses.replace(
        first, run_id="linear-0-other", spec={**first.spec, "backbone": "mine", "backbone_hash": "second network"}
    )
    app = compare(home, first, second)
    lines = [trace["name"] for trace in figure(app)["data"] if "hovertext" in trace]
    expected = {f"Magnitude 50 %, {name}, Digits, linear, seed 0" for name in ("net (net0.5)", "mine (second)")}
    assert set(lines) == expected


def test_a_rerun_is_flagged(home):
    write(home, record(), record(replicate=1))
    app = open_page("runs")
    assert sorted(table(app)["replicate"]) == [0, 1]
    assert "1 run is a rerun of a seed (Dense): averaged into that seed, n counts seeds." in messages(app)


def test_the_caption_names_different_protocols(home):
    usual, short = record(final=0.7), record(final=0.8)
    short = dataclasses.replace(short, run_id="linear-0-short")
    short.spec["settings"]["epochs"] = 5
    short.result.update(protocol="SGD, 5 epochs", created_at="2026-01-05T03:04:05")
    app = compare(home, usual, short)
    assert sorted(trace["y"] for trace in figure(app)["data"] if "hovertext" in trace) == [[70.0], [80.0]]
    assert "2 runs on this machine, 2026-01-02 to 2026-01-05. Protocols differ: 1 run with SGD" in chart_text(app)
    assert "; 1 run with" in chart_text(app)


def test_the_table_shows_state_and_settings_of_every_run(home):
    write(home, record(seed=0), record(sparsity=0.5))
    Records(home).annotate(record(seed=0).run_id, "odd", ["a"])
    spec = ProbeSpec("efficientnet_lite0", "digits")
    for state, seed in (("failed", 1), ("cancelled", 2), ("done", 3)):
        job_id = queue.submit(home, Job("probe", spec, (seed,)))
        queue.end(home, job_id, state, "The disk is full.", {"runs": [], "found": []})
    queue.submit(home, Job("finetune", FinetuneSpec("net", "digits"), (0, 1)))
    app = open_page("runs")
    shown = table(app)
    assert shown["state"].tolist() == ["waiting", "waiting", "cancelled", "failed", "done", "done"]
    assert shown["seed"].tolist() == [0, 1, 2, 1, 0, 0]
    assert shown["protocol"].iloc[2] == protocol(spec)
    assert shown["protocol"].str.startswith("SGD lr").all()
    assert {"accuracy_final", "note", "tags"} <= set(shown)
    assert len(table(choose(app, runs_source="published"))) == 2655
    assert table(choose(app, runs_source="measured"))["state"].tolist() == shown["state"].tolist()


def test_a_run_with_failed_attempts_is_listed_once(home):
    made = record(seed=4)
    write(home, made)
    spec = recorded(made.spec)
    for state in ("failed", "cancelled"):
        queue.end(home, queue.submit(home, Job("probe", ProbeSpec(spec.backbone, spec.dataset), (4,))), state, "No.")
    assert table(open_page("runs"))["state"].tolist() == ["done"]


def test_failed_jobs_are_listed_before_the_first_run(home):
    job_id = queue.submit(home, Job("probe", ProbeSpec("net", "digits"), (0,)))
    queue.end(home, job_id, "failed", "Unknown backbone 'net'.")
    app = open_page("runs")
    assert "No runs yet" in app.info[0].value
    assert table(app)["state"].tolist() == ["failed"]


def test_deleting_the_only_run_can_be_undone(home):
    entry = record()
    Records(home).write(entry)
    app = open_page("runs")
    Records(home).delete(entry.run_id)  # as the dialog does, which needs a browser
    app.session_state["deleted"] = entry.run_id
    app.run()
    assert "The run was deleted." in [info.value for info in app.info]
    press(app, "Undo")
    assert Records(home).ids() == {entry.run_id}
    assert "The run was deleted." not in [info.value for info in app.info]


def toasts(app: AppTest) -> str:
    return " ".join(shown(entry.value) for entry in app.toast)


def test_a_link_to_a_run_that_is_gone_says_so(home):
    gone = "GMP 90 %, Digits, linear, seed 0 (02 Jan 03:04, 12ab)"
    assert gone in toasts(open_page("runs", chosen=gone))
    write(home, record(seed=4))
    app = open_page("runs", chosen=gone)
    assert gone in toasts(app) and "does not exist here" in toasts(app)
    (known,) = app.multiselect(key="chosen").options
    assert not toasts(open_page("runs", chosen=known))


def test_notes_are_saved(home):
    app = compare(home, record())
    app.text_area[0].set_value("looks odd")
    press(app, "Save")
    assert Records(home).annotation(record().run_id)[0] == "looks odd"
