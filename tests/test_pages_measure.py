"""Probe and Runs without a browser: empty states, results, refusals, and no torch in the serving process."""

import errno
import subprocess
import sys

import pytest
from streamlit.testing.v1 import AppTest

from sparse_core import jobs
from sparse_core.paths import REPOSITORY
from sparse_core.records import Records
from tests.records import record


@pytest.fixture(autouse=True)
def no_worker(monkeypatch):
    monkeypatch.setattr(jobs, "ensure_worker", lambda *_: None)
    monkeypatch.setattr("streamlit.page_link", lambda *_, **__: None)  # a page alone has no others; see tests/browser


def open_page(name: str, **query: str) -> AppTest:
    app = AppTest.from_file(str(REPOSITORY / "pages" / f"{name}.py"), default_timeout=60)
    app.session_state["framed"] = True
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception, app.exception
    return app


def test_probe_submits_what_was_chosen():
    app = open_page("probe")
    app.number_input(key="seeds").set_value(2).run()
    app.button[0].click().run()
    asked = [jobs.status(job_id).job for job_id in jobs.queued()]
    (probe,) = [job for job in asked if job.kind == "probe"]
    assert (probe.spec.backbone, probe.spec.dataset, probe.seeds) == ("efficientnet_lite0", "digits", (0, 1))
    assert probe.spec.settings.epochs == 150


def test_probe_refuses_learning_rates_that_are_words():
    app = open_page("probe")
    app.text_input(key="sweep").set_value("fast slow").run()
    assert "Expected learning rates such as" in app.error[0].value


def test_probe_shows_a_finished_job():
    records = [record(seed=0), record(seed=1, best=0.8)]
    for entry in records:
        Records().write(entry)
    from sparse_core.spec import Job, ProbeSpec

    job_id = jobs.submit(Job("probe", ProbeSpec("efficientnet_lite0", "digits"), (0, 1)))
    jobs.end(job_id, "done", result={"runs": [entry.run_id for entry in records], "found": []})
    app = open_page("probe", job=job_id)
    assert app.metric[1].value == "85.0 ± 7.1 %"


def test_probe_shows_why_a_job_failed():
    from sparse_core.spec import Job, ProbeSpec

    job_id = jobs.submit(Job("probe", ProbeSpec("efficientnet_lite0", "digits"), (0,)))
    jobs.end(job_id, "failed", "The disk is full.")
    assert open_page("probe", job=job_id).error[0].value == "The disk is full."


def test_runs_says_what_to_do_when_there_are_none():
    assert "No run was made on this machine yet" in open_page("runs").info[0].value


def test_runs_compares_several():
    for seed in (0, 1):
        Records().write(record(seed=seed))
    app = open_page("runs")
    options = app.multiselect(key="chosen").options
    assert len(options) == 2
    app.multiselect(key="chosen").set_value(list(options)).run()
    assert not app.exception


@pytest.mark.parametrize("refusal", ["file", "full"])
def test_a_home_that_cannot_be_used_is_one_sentence(refusal, home, monkeypatch):
    told = f"SPARSE_TRANSFER_HOME takes a folder; got the file {home}"
    if refusal == "file":
        home.write_text("")
    else:
        told = "Expected room on the disk for the file, but it is full"
        monkeypatch.setattr(Records, "fingerprint", lambda _: no_space())
    app = AppTest.from_file(str(REPOSITORY / "app.py"), default_timeout=60).run()
    assert not app.exception
    (error,) = app.error
    assert error.value.startswith(told)


def no_space():
    raise OSError(errno.ENOSPC, "No space left on device")


def test_notes_are_kept():
    entry = record()
    Records().write(entry)
    app = open_page("runs")
    app.multiselect(key="chosen").set_value(list(app.multiselect(key="chosen").options)).run()
    app.text_area[0].set_value("looks odd")
    next(button for button in app.button if button.label == "Save").click().run()
    assert Records().annotation(entry.run_id)[0] == "looks odd"


def test_the_probe_page_imports_no_torch():
    script = (
        "import sys; from streamlit.testing.v1 import AppTest; from sparse_core import jobs; jobs.ensure_worker = lambda *_: 0;"
        "app = AppTest.from_file('pages/probe.py', default_timeout=60); app.session_state['framed'] = True; app.run();"
        "assert not app.exception; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
