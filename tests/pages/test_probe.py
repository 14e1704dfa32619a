"""Probe in Streamlit's test harness: what is submitted, results, refusals."""

from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.results.records import Records
from sparse_core.specs.transfer import ProbeSpec
from tests.pages.support import open_page, press, submitted
from tests.support.records import record


def test_what_was_chosen_is_submitted(home):
    app = open_page("probe")
    app.number_input(key="seeds").set_value(2).run()
    press(app, "Start probe")
    (probe,) = submitted(home, "probe")
    assert (probe.spec.backbone, probe.spec.dataset, probe.seeds) == ("efficientnet_lite0", "digits", (0, 1))
    assert probe.spec.settings.epochs == 150


def test_learning_rates_that_are_not_numbers_are_refused():
    app = open_page("probe")
    app.text_input(key="sweep").set_value("fast slow").run()
    assert "Expected learning rates such as" in app.error[0].value


def test_a_finished_probe_shows_its_accuracy(home):
    records = [record(seed=0), record(seed=1, best=0.8)]
    for entry in records:
        Records(home).write(entry)
    job_id = queue.submit(home, Job("probe", ProbeSpec("efficientnet_lite0", "digits"), (0, 1)))
    queue.end(home, job_id, "done", result={"runs": [entry.run_id for entry in records], "found": []})
    app = open_page("probe", job=job_id)
    assert app.metric[1].value == "85.0 ± 7.1 %"


def test_a_failed_probe_gives_the_reason(home):
    job_id = queue.submit(home, Job("probe", ProbeSpec("efficientnet_lite0", "digits"), (0,)))
    queue.end(home, job_id, "failed", "The disk is full.")
    assert open_page("probe", job=job_id).error[0].value == "The disk is full."
