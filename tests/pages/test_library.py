"""Library and Finetune without a browser: what is asked for, what is shown, refusals in one line, and the way back."""

import io
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from streamlit.testing.v1 import AppTest

from pages.parts.frame import plain
from sparse_core.jobs import queue, worker
from sparse_core.jobs.kinds import Job
from sparse_core.networks import architectures, finetuned, importing, library, masks, uploads
from sparse_core.paths import REPOSITORY
from sparse_core.results.records import Record, Records
from sparse_core.specs.checkpoints import InspectSpec
from sparse_core.specs.identity import record_document, run_id
from sparse_core.specs.transfer import FinetuneSpec, protocol
from tests.support.records import record

ASKED = FinetuneSpec("efficientnet_lite0", "digits")


@pytest.fixture(autouse=True)
def no_worker(monkeypatch):
    monkeypatch.setattr(queue, "ensure_worker", lambda *_: None)
    monkeypatch.setattr("streamlit.page_link", lambda *_, **__: None)  # a page alone has no others; see tests/browser


@pytest.fixture(scope="module")
def state():
    """A CIFAR ResNet20 of 10 classes, half of its convolution weights 0."""
    torch.manual_seed(0)
    module = architectures.build("resnet20")
    masks.apply(module, masks.top_k(module, 0.5))
    return {**module.state_dict(), "linear.weight": torch.randn(10, 64), "linear.bias": torch.zeros(10)}


@pytest.fixture
def file(state, tmp_path):
    torch.save({"state_dict": state}, tmp_path / "my net.pth.tar")
    return tmp_path / "my net.pth.tar"


def open_page(name: str, **query: str) -> AppTest:
    app = AppTest.from_file(str(REPOSITORY / "pages" / f"{name}.py"), default_timeout=60)
    app.session_state["framed"] = True
    for key, value in query.items():
        app.query_params[key] = value
    return fine(app.run())


def fine(app: AppTest) -> AppTest:
    assert not app.exception, app.exception
    return app


def press(app: AppTest, label: str) -> AppTest:
    return fine(next(button for button in app.button if button.label == label).click().run())


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def do_what_was_asked(home, kind: str) -> str:
    """Does the one job of that kind that is queued; returns its name."""
    (job_id,) = [name for name in queue.queued(home) if queue.status(home, name).job.kind == kind]
    worker.work(home, job_id)
    return job_id


def look_into(home, path: object) -> AppTest:
    app = open_page("library", **{"from": "A path on this machine"})
    app.text_input(key="checkpoint").set_value(str(path))
    press(app, "Look inside")
    do_what_was_asked(home, "inspect")
    return fine(app.run())


# Library.


def test_an_empty_library_says_what_to_do():
    assert "Nothing yet. Drop a checkpoint file" in open_page("library").info[0].value


def test_a_file_is_looked_into_named_and_put_into_the_library(home, file):
    app = look_into(home, file)
    assert app.subheader[0].value == "my net.pth.tar"
    assert metrics(app)["Architecture"] == "ResNet20" and metrics(app)["Classes"] == "10"
    assert app.caption[0].value.startswith(plain("Format: nested, CIFAR ResNet; variant A"))
    (name,) = [field for field in app.text_input if field.label == "Name"]
    (method,) = [box for box in app.selectbox if box.label == "Pruned by"]
    (sparsity,) = app.number_input
    (upstream,) = [field for field in app.text_input if field.label == "Trained on"]
    assert (name.value, method.value, sparsity.value, upstream.value) == ("my-net", "Unknown", 50, "CIFAR-10")
    assert "Measured over its convolutions: 50.0 %" in sparsity.proto.help
    method.set_value("GMP")
    name.set_value("mine")
    press(app, "Put it into the library")
    do_what_was_asked(home, "import")
    fine(app.run())
    assert "“mine” is in the library." in app.success[0].value
    (card,) = library.cards(home)
    assert (card.name, card.method, card.sparsity, card.origin) == ("mine", "GMP", 0.5, "my net.pth.tar")
    shelf = app.dataframe[-1].value
    assert list(shelf["name"]) == ["mine"] and shelf["measured_sparsity"].item() == pytest.approx(50, abs=0.01)
    assert file.exists()


def test_a_name_that_is_taken_is_said_and_the_file_can_be_named_anew(home, file):
    importing.add(home, file, "mine")
    app = look_into(home, file)
    (name,) = [field for field in app.text_input if field.label == "Name"]
    assert name.value == "my-net"
    name.set_value("Mine")
    press(app, "Put it into the library")
    do_what_was_asked(home, "import")
    fine(app.run())
    assert app.error[0].value.startswith("There is a backbone named 'Mine' already")
    assert [field.label for field in app.text_input][:2] == ["Path of a checkpoint file", "Name"]


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "0 bytes"), (b"weights", "neither safetensors nor"), (b"\xff" * 7 + b"\x7f{}", "claims a header")],
)
def test_a_file_that_cannot_be_read_is_one_line(home, tmp_path, content, told):
    (tmp_path / "bad.pth").write_bytes(content)
    app = look_into(home, tmp_path / "bad.pth")
    assert told in app.error[0].value and "\n" not in app.error[0].value
    assert not app.metric and not library.cards(home)


def test_a_path_that_leads_nowhere_is_one_line(home, tmp_path):
    app = look_into(home, f"  {tmp_path}/absent.pth ")
    assert app.error[0].value == plain(f"There is no weight file at {tmp_path}/absent.pth. Check the path.")


def test_names_in_a_file_are_shown_as_they_stand(home, state, tmp_path):
    torch.save({**state, "![x](http://a.b/c)": torch.ones(1)}, tmp_path / "*net*.pth")
    app = look_into(home, tmp_path / "*net*.pth")
    assert r"\!\[x\]\(http\://a.b/c\)" in app.error[0].value
    assert app.subheader[0].value == r"\*net\*.pth"
    assert plain("`a` <b> $x$ :red[c] ~~d~~ #e |_f_|") == (r"\`a\` \<b\> \$x\$ \:red\[c\] \~\~d\~\~ \#e \|\_f\_\|")


def test_what_does_not_fit_can_be_seen_in_full(home, file):
    job_id = queue.submit(home, Job("inspect", InspectSpec(str(file))))
    keys = {"missing": [f"layer{number}" for number in range(7)], "unexpected": ["head.weight"]}
    queue.end(home, job_id, "failed", "The weights do not fit.", {"candidates": [], "keys": keys})
    app = open_page("library", job=job_id)
    assert app.expander[0].label == "All 8 keys that do not fit"
    shown = app.expander[0].dataframe[0].value
    assert list(shown["key"]) == [*keys["missing"], "head.weight"] and set(shown["what"]) == set(keys)


def test_an_upload_that_is_refused_does_not_stay(home, state, tmp_path):
    torch.save({name: tensor for name, tensor in state.items() if name.startswith("layer1")}, tmp_path / "piece.pth")
    kept = []
    for content in (b"weights", (tmp_path / "piece.pth").read_bytes()):
        kept.append(uploads.keep(home, io.BytesIO(content), "net.pth", len(content)))
        job_id = queue.submit(home, Job("inspect", InspectSpec(str(kept[-1]))))
        worker.work(home, job_id)
        open_page("library", job=job_id)
    assert [path.exists() for path in kept] == [False, True]  # the second one's architecture can be chosen


def test_the_page_sweeps_uploads_that_were_forgotten(home):
    kept = uploads.keep(home, io.BytesIO(b"w"), "net.pth", 1)
    os.utime(kept.parent, (0, 0))
    open_page("library")
    assert not kept.exists()


def test_an_architecture_that_the_keys_leave_open_is_asked_for(home, state, tmp_path):
    piece = {name: tensor for name, tensor in state.items() if name.startswith("layer1")}
    torch.save(piece, tmp_path / "piece.pth")
    app = look_into(home, tmp_path / "piece.pth")
    assert app.warning[0].value.startswith("Which architecture is this?")
    box = app.selectbox(key="candidate")
    assert "ResNet20" in box.options and "MobileNetV1" not in box.options
    box.set_value("resnet20")
    press(app, "Read it as this")
    (job_id,) = queue.queued(home)
    assert queue.status(home, job_id).job.spec == InspectSpec(str(tmp_path / "piece.pth"), "resnet20")
    worker.work(home, job_id)
    fine(app.run())
    assert "do not fit ResNet20" in app.error[0].value and "missing" in app.error[0].value
    assert app.selectbox(key="candidate").options  # another can be chosen


def test_a_link_from_another_machine_says_so():
    assert "was done on another machine" in open_page("library", job="20200101-000000-000000000-abcdef").info[0].value


def test_deleting_asks_first(home, file):
    card = importing.add(home, file, "mine")
    app = press(open_page("library"), "Delete …")
    assert "Runs that were made with it stay" in app.markdown[-1].value
    assert "Delete" in [button.label for button in app.button]
    assert library.cards(home) == [card] and library.removed(home) == []


def test_what_was_deleted_can_be_brought_back(home, file):
    """Here as the answer to the question leaves it; tests/browser presses the button in the dialog."""
    card = importing.add(home, file, "mine")
    app = open_page("library")
    library.remove(home, "mine")
    app.session_state["removed"] = "mine"
    fine(app.run())
    assert "“mine” was deleted." in app.info[0].value and "Nothing yet" in app.info[1].value
    press(app, "Undo")
    assert library.cards(home) == [card]
    assert "Undo" not in [button.label for button in app.button]


def test_what_was_deleted_long_ago_is_brought_back_or_deleted_for_good(home, file):
    card = importing.add(home, file, "mine")
    library.remove(home, "mine")
    app = open_page("library")
    assert app.expander[0].label == "Deleted (1)"
    press(app, "Delete all for good …")
    assert library.removed(home) == ["mine"]
    press(app, "Bring back")
    assert library.cards(home) == [card] and not app.expander


def test_nothing_is_brought_back_over_another_of_that_name(home, file):
    importing.add(home, file, "mine")
    library.remove(home, "mine")
    other = importing.add(home, file, "mine", method="GMP")
    app = press(open_page("library"), "Bring back")
    assert app.error[0].value == "The library has another 'mine' by now. Remove that one first."
    assert library.cards(home) == [other]


# Finetune.


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


def started(home, app: AppTest) -> Job:
    (job,) = [job for job in (queue.status(home, name).job for name in queue.queued(home)) if job.kind == "finetune"]
    return job


def test_finetuning_asks_for_what_was_chosen(home, file):
    importing.add(home, file, "mine")
    app = open_page("finetune")
    app.selectbox(key="backbone").set_value("mine")
    app.number_input(key="seeds").set_value(2)
    app.number_input(key="epochs").set_value(3)
    app.selectbox(key="optimizer").set_value("adamw")
    app.number_input(key="smoothing").set_value(0.1)
    app.toggle(key="augment").set_value(False)
    app.toggle(key="frozen").set_value(True)
    app.toggle(key="scratch").set_value(True)
    press(app, "Run the finetuning")
    job = started(home, app)
    assert (job.spec.backbone, job.spec.dataset, job.seeds) == ("mine", "digits", (0, 1))
    assert (job.spec.optimizer, job.spec.label_smoothing, job.spec.settings.epochs) == ("adamw", 0.1, 3)
    assert (job.spec.augment, job.spec.freeze_batch_norm, job.spec.from_scratch) == (False, True, True)


@pytest.mark.parametrize(("dataset", "rate"), [("cars", 0.01), ("pets", 0.001)])
def test_the_learning_rate_left_empty_is_the_studys(home, dataset, rate):
    app = open_page("finetune")
    app.selectbox(key="dataset").set_value(dataset)
    press(fine(app.run()), "Run the finetuning")
    assert started(home, app).spec.settings.learning_rate == rate


def test_the_link_restores_the_settings():
    app = open_page("finetune", epochs="7", augment="false", optimizer="AdamW", smoothing="0.2")
    assert (app.number_input(key="epochs").value, app.toggle(key="augment").value) == (7, False)
    assert (app.selectbox(key="optimizer").value, app.number_input(key="smoothing").value) == ("adamw", 0.2)
    (command,) = [code.value for code in app.code]
    words = ("finetune", "--epochs 7", "--optimizer adamw", "--label-smoothing 0.2", "--no-augment")
    assert all(each in command for each in words), command


def test_a_finished_finetuning_shows_that_the_mask_held(home):
    app = ended(home, finetuned_run(home))
    shown = metrics(app)
    assert shown["Mask violations"] == "0"
    assert shown["Sparsity before → after"] == "50.0 → 50.0 %"
    assert shown["Best top-1 accuracy"] == "90.0 % (n = 1)" and shown["Training"] == "75 s"
    assert not app.error
    assert "file is not here any more" in " ".join(caption.value for caption in app.caption)


def test_a_mask_that_did_not_hold_is_an_error(home):
    app = ended(home, finetuned_run(home, mask_violations=12))
    assert metrics(app)["Mask violations"] == "12"
    assert "Pruned weights came back during training" in app.error[0].value


def test_accuracy_in_another_precision_stands_beside_it(home):
    app = ended(home, finetuned_run(home, top1_final_fp32=0.875))
    assert "Seed 0: top-1 88.0 % in bf16, 87.5 % in fp32." in [caption.value for caption in app.caption]


def test_the_network_of_each_seed_is_offered_and_goes_into_the_library(home, state):
    from safetensors.torch import save_file

    runs = [finetuned_run(home, seed) for seed in (0, 1)]
    for each in runs:
        finetuned.file(home, each.run_id).parent.mkdir(parents=True)
        save_file(
            {name.replace("linear", "fc"): tensor for name, tensor in state.items()}, finetuned.file(home, each.run_id)
        )
    app = ended(home, *runs)
    app.selectbox(key="network_seed").set_value(1)
    fine(app.run())
    labels = [button.proto.label for button in app.get("download_button")]
    assert "Weights (safetensors), 1.1 MB" in labels
    press(app, "Put it into the library")
    (job_id,) = [name for name in queue.queued(home) if queue.status(home, name).job.kind == "import"]
    spec = queue.status(home, job_id).job.spec
    assert spec.path == str(finetuned.file(home, runs[1].run_id))
    assert (spec.method, spec.sparsity, spec.upstream) == ("Magnitude", 0.5, "ImageNet → Digits")
    press(app, "Make ONNX")
    (export,) = [
        queue.status(home, name).job for name in queue.queued(home) if queue.status(home, name).job.kind == "export"
    ]
    assert export.spec.run_id == runs[1].run_id


def test_a_failed_and_a_cancelled_finetuning_say_so(home):
    failed, cancelled = (queue.submit(home, Job("finetune", ASKED)) for _ in range(2))
    queue.end(home, failed, "failed", "The disk is full.")
    queue.cancel(home, cancelled)
    assert open_page("finetune", job=failed).error[0].value == "The disk is full."
    assert "Press Run to start again" in open_page("finetune", job=cancelled).info[0].value


def test_progress_shows_each_epoch_once_and_can_be_cancelled(home):
    job_id = queue.submit(home, Job("finetune", ASKED))
    epoch = {"seed": 0, "epoch": 1, "loss": 1.0, "top1": 0.5, "mean_per_class": 0.5}
    for _ in range(2):  # a training that was taken up again tells its epochs twice
        queue.append_event(home, job_id, {"stage": "Training", "done": 1, "total": 2, "epochs": [epoch]})
    app = open_page("finetune", job=job_id)
    (chart,) = app.get("plotly_chart")
    assert chart.proto.spec.count('"x":[1]') == 1
    press(app, "Cancel")
    assert queue.status(home, job_id).state == "cancelled"


@pytest.mark.parametrize("page", ["library", "finetune"])
def test_the_pages_import_no_torch(page):
    script = (
        "import sys; from streamlit.testing.v1 import AppTest; from sparse_core.jobs import queue;"
        "queue.ensure_worker = lambda *_: 0;"
        f"app = AppTest.from_file('pages/{page}.py', default_timeout=60); app.session_state['framed'] = True; app.run();"
        "assert not app.exception; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
