"""Probe in Streamlit's test harness: what is submitted, results, refusals."""

from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import ProbeSpec
from tests.pages.support import buttons, choose, metrics, open_page, press, shown, submitted
from tests.support.images import image_folder
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


def started(home, **changed) -> str:
    """A probe that waits, with settings of its own."""
    settings = Hyperparameters(epochs=7, learning_rate=0.05)
    spec = ProbeSpec("efficientnet_lite0", "digits", settings=settings, image_size=64, **changed)
    return queue.submit(home, Job("probe", spec, (0, 1, 2)))


def test_a_wrong_input_hides_neither_the_running_job_nor_its_cancel(home):
    job_id = started(home)
    app = choose(open_page("probe", job=job_id), sweep="fast slow")
    assert "Expected learning rates such as" in app.error[0].value
    assert shown(app.header[0].value) == "EfficientNet-Lite0, dense on Digits"
    (start,) = (button for button in app.button if button.label == "Start probe")
    assert start.disabled
    press(app, "Cancel")
    assert queue.status(home, job_id).state == "cancelled"


def test_a_refused_spec_disables_start_and_keeps_the_job(home):
    started(home)
    app = choose(open_page("probe"), sweep="-1")
    assert "finite and above 0" in app.error[0].value
    assert "Cancel" in buttons(app)


def test_a_job_that_was_started_elsewhere_is_shown_when_the_page_is_opened(home):
    started(home)
    app = open_page("probe")
    assert shown(app.header[0].value) == "EfficientNet-Lite0, dense on Digits"
    assert not open_page("finetune").header


def test_every_page_shows_what_runs_and_can_cancel_it(home):
    job_id = started(home)
    for page in ("tradeoffs", "tasks", "runs", "structure"):
        app = open_page(page)
        (bar,) = (each.proto.text for each in app.get("progress") if "Probe of" in each.proto.text)
        assert shown(bar) == "Probe of efficientnet_lite0 on Digits, 3 seeds: waiting"
    press(app, "Cancel")
    assert queue.status(home, job_id).state == "cancelled"
    app = open_page("tasks", state={"seen_jobs": {("job", job_id): None}})
    press(app, "Dismiss")
    assert "Dismiss" not in buttons(app)


def test_opening_a_job_fills_the_form_with_its_own_settings(home):
    job_id = started(home, sweep_lr=(0.1, 0.2))
    app = open_page("probe", job=job_id)
    values = {key: app.number_input(key=key).value for key in ("epochs", "lr", "size", "seeds")}
    assert values == {"epochs": 7, "lr": 0.05, "size": 64, "seeds": 3}
    assert app.text_input(key="sweep").value == "0.1 0.2"
    assert open_page("probe", job=job_id, epochs="9").number_input(key="epochs").value == 9


def test_the_learning_rate_that_a_sweep_chose_is_on_the_result(home):
    made = record()
    made.result.update(learning_rate=0.1, validation={"0.01": 0.7, "0.1": 0.8})
    write(home, made)
    job_id = queue.submit(home, Job("probe", ProbeSpec("efficientnet_lite0", "digits", sweep_lr=(0.01, 0.1)), (0,)))
    queue.end(home, job_id, "done", result={"runs": [made.run_id], "found": []})
    assert metrics(open_page("probe", job=job_id))["Learning rate chosen"] == "0.1"


def test_what_cannot_be_trained_is_refused_before_the_start(home, tmp_path):
    """Two images in each of two classes leave none for a validation split."""
    image_folder(tmp_path / "few", {"a": 3, "b": 3})
    app = choose(open_page("probe"), dataset="My own folder or Parquet file")
    app = choose(choose(app, path=str(tmp_path / "few")), sweep="0.1 0.2")
    assert "too few to hold some out" in app.error[0].value
    assert next(button for button in app.button if button.label == "Start probe").disabled
    app = choose(open_page("probe"), dataset="cars")
    assert "is not on this machine" in app.error[0].value
