"""Probe in Streamlit's test harness: what is submitted, results, refusals."""

from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.results.records import Records
from sparse_core.specs.transfer import ProbeSpec
from tests.pages.support import open_page
from tests.support.records import record


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
