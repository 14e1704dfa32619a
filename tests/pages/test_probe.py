"""Probe in Streamlit's test harness: what is submitted, results, refusals."""

from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.specs.transfer import ProbeSpec
from tests.pages.support import choose, open_page, press, submitted
from tests.support.records import record, write


def test_what_was_chosen_is_submitted(home):
    press(choose(open_page("probe"), seeds=2), "Start probe")
    (probe,) = submitted(home, "probe")
    assert (probe.spec.backbone, probe.spec.dataset, probe.seeds) == ("efficientnet_lite0", "digits", (0, 1))
    assert probe.spec.settings.epochs == 150


def test_learning_rates_that_are_not_numbers_are_refused():
    app = choose(open_page("probe"), sweep="fast slow")
    assert "Expected learning rates such as" in app.error[0].value


def test_a_finished_probe_shows_its_accuracy(home):
    records = [record(seed=0), record(seed=1, best=0.8)]
    write(home, *records)
    job_id = queue.submit(home, Job("probe", ProbeSpec("efficientnet_lite0", "digits"), (0, 1)))
    queue.end(home, job_id, "done", result={"runs": [entry.run_id for entry in records], "found": []})
    assert open_page("probe", job=job_id).metric[1].value == "85.0 ± 7.1 % (n = 2)"


def test_a_failed_probe_gives_the_reason(home):
    job_id = queue.submit(home, Job("probe", ProbeSpec("efficientnet_lite0", "digits"), (0,)))
    queue.end(home, job_id, "failed", "The disk is full.")
    assert open_page("probe", job=job_id).error[0].value == "The disk is full."


def test_an_image_size_in_the_link_goes_into_the_command():
    app = open_page("probe", size="64")
    assert app.number_input(key="size").value == 64
    (command,) = [code.value for code in app.code]
    assert "--image-size 64" in command
