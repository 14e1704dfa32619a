"""Finetune in Streamlit's test harness: what is submitted, results, the finetuned network, progress."""

from dataclasses import replace

import pytest
from safetensors.torch import save_file
from streamlit.testing.v1 import AppTest

from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import finetuned, importing
from sparse_core.results.records import Record, Records
from sparse_core.specs.identity import record_document, run_id
from sparse_core.specs.progress import Progress
from sparse_core.specs.transfer import FinetuneSpec, protocol
from tests.pages.support import choose, metrics, open_page, press, submitted
from tests.support.records import record

ASKED = FinetuneSpec("efficientnet_lite0", "digits")


def finetuned_run(home, seed: int = 0, **changed: object) -> Record:
    """A finished run of full transfer as the worker leaves it."""
    probed = record(sparsity=0.5, seed=seed)
    spec = replace(ASKED, backbone_hash="b", dataset_hash="d")
    result = {**probed.result, "protocol": protocol(spec), "top1_final_fp32": None}
    result |= {"sparsity_before": 0.5, "sparsity_after": 0.5, "mask_violations": 0, "seconds_training": 75.0}
    made = Record(run_id(spec, seed), record_document(spec, seed), {**result, **changed}, probed.events)
    Records(home).write(made)
    return made


def ended(home, *records: Record) -> AppTest:
    """The Finetune page of a job that gave these runs."""
    job_id = queue.submit(home, Job("finetune", ASKED, tuple(range(len(records)))))
    queue.end(home, job_id, "done", result={"runs": [each.run_id for each in records], "found": []})
    return open_page("finetune", job=job_id)


def test_what_was_chosen_is_submitted(home, file):
    importing.add(home, file, "mine")
    settings = {"backbone": "mine", "seeds": 2, "epochs": 3, "optimizer": "adamw", "smoothing": 0.1}
    app = choose(open_page("finetune"), **settings, augment=False, frozen=True, scratch=True)
    press(app, "Start finetuning")
    (job,) = submitted(home, "finetune")
    assert (job.spec.backbone, job.spec.dataset, job.seeds) == ("mine", "digits", (0, 1))
    assert (job.spec.optimizer, job.spec.label_smoothing, job.spec.settings.epochs) == ("adamw", 0.1, 3)
    assert (job.spec.augment, job.spec.freeze_batch_norm, job.spec.from_scratch) == (False, True, True)


@pytest.mark.parametrize(("dataset", "rate"), [("cars", 0.01), ("pets", 0.001)])
def test_an_empty_learning_rate_is_the_papers(home, dataset, rate, monkeypatch):
    monkeypatch.setattr("pages.parts.transfer_choice.require_trainable", lambda *_: None)  # the images are not here
    press(choose(open_page("finetune"), dataset=dataset), "Start finetuning")
    (job,) = submitted(home, "finetune")
    assert job.spec.settings.learning_rate == rate


def test_the_link_restores_the_settings():
    app = open_page("finetune", epochs="7", augment="false", optimizer="AdamW", smoothing="0.2")
    assert (app.number_input(key="epochs").value, app.toggle(key="augment").value) == (7, False)
    assert (app.selectbox(key="optimizer").value, app.number_input(key="smoothing").value) == ("adamw", 0.2)
    (command,) = [code.value for code in app.code]
    arguments = ("finetune", "--epochs 7", "--optimizer adamw", "--label-smoothing 0.2", "--no-augment")
    assert all(each in command for each in arguments), command


def test_a_finished_finetuning_shows_that_its_mask_was_kept(home):
    app = ended(home, finetuned_run(home))
    shown = metrics(app)
    assert shown["Mask violations"] == "0"
    assert shown["Backbone sparsity before → after"] == "50.0 → 50.0 %"
    assert shown["Best top-1 accuracy"] == "90.0 % (n = 1)" and shown["Training"] == "75 s"
    assert not app.error
    assert "network's file was deleted" in " ".join(caption.value for caption in app.caption)


def test_a_mask_that_was_not_kept_is_an_error(home):
    app = ended(home, finetuned_run(home, mask_violations=12))
    assert metrics(app)["Mask violations"] == "12"
    assert "pruned weights became nonzero during training" in app.error[0].value


def test_accuracy_in_fp32_is_shown_beside_that_in_bf16(home):
    app = ended(home, finetuned_run(home, top1_final_fp32=0.875))
    assert "Seed 0: top-1 88.0 % in bf16, 87.5 % in fp32." in [caption.value for caption in app.caption]


def test_the_network_of_each_seed_can_be_downloaded_imported_and_exported(home, state):
    runs = [finetuned_run(home, seed) for seed in (0, 1)]
    files = [finetuned.file(home, each.run_id) for each in runs]
    for file in files:
        file.parent.mkdir(parents=True)
        save_file({name.replace("linear", "fc"): tensor for name, tensor in state.items()}, file)
    app = ended(home, *runs)
    choose(app, network_seed=1)
    assert "Weights (safetensors), 1.1 MB" in [button.proto.label for button in app.get("download_button")]
    press(app, "Import")
    (job,) = submitted(home, "import")
    spec = job.spec
    assert spec.path == str(files[1])
    assert (spec.method, spec.sparsity, spec.upstream) == ("Magnitude", 0.5, "ImageNet → Digits")
    press(app, "Make ONNX")
    (export,) = submitted(home, "export")
    assert export.spec.run_id == runs[1].run_id


def test_a_failed_and_a_cancelled_finetuning_give_the_reason(home):
    failed, cancelled = (queue.submit(home, Job("finetune", ASKED)) for _ in range(2))
    queue.end(home, failed, "failed", "The disk is full.")
    queue.cancel(home, cancelled)
    assert open_page("finetune", job=failed).error[0].value == "The disk is full."
    assert "Press “Start finetuning” to start again" in open_page("finetune", job=cancelled).info[0].value


def test_progress_shows_each_epoch_once_and_can_be_cancelled(home):
    job_id = queue.submit(home, Job("finetune", ASKED))
    epoch = {"seed": 0, "epoch": 1, "loss": 1.0, "top1": 0.5, "mean_per_class": 0.5}
    for _ in range(2):  # a resumed training reports an epoch twice
        queue.open_reports(home, job_id).report(Progress("Training", 1, 2, epochs=(epoch,)))
    app = open_page("finetune", job=job_id)
    (chart,) = app.get("plotly_chart")
    assert chart.proto.spec.count('"x":[1]') == 1
    press(app, "Cancel")
    assert queue.status(home, job_id).state == "cancelled"
