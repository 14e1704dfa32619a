"""Exported backbones: ONNX that runs and comes back, compact forms that compute the same, and the sizes of all files."""

import json
import zlib

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torchvision
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from sparse_core import cli
from sparse_core.datasets import transforms
from sparse_core.jobs import kinds
from sparse_core.jobs.kinds import Job
from sparse_core.networks import architectures, backbones, exporting, exports, importing, inspection, masks
from sparse_core.specs.checkpoints import ExportSpec
from sparse_core.speed import measurements
from tests.support.checkpoints import dense
from tests.support.exporting import assert_same, in_library, structured_state, with_mask
from tests.support.measurements import backbone_record, line
from tests.support.networks import pruned_state
from tests.support.refusals import refused

SIDES = {"resnet20": {}, "resnet18": {"resize": 64, "crop": 64}}
SIDES |= dict.fromkeys(("mobilenet_v1", "efficientnet_lite0"), SIDES["resnet18"])


def run(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})


def expected_outputs(backbone, pixels):
    """Features and logits, from torch and from the backbone's own preparation."""
    mean, std = np.float32(backbone.transform.mean), np.float32(backbone.transform.std)
    images = torch.from_numpy(((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))
    with torch.inference_mode():
        features = backbone.module(images)
        return features, torch.nn.functional.linear(features, *backbone.classifier)


def pixels(backbone, count=3):
    side = backbone.transform.crop
    values = np.random.default_rng(0).integers(0, 256, (count, side + 9, side + 4, 3), dtype=np.uint8)
    return np.stack([transforms.prepare(Image.fromarray(value), backbone.transform) for value in values])


def assert_outputs(backbone, path):
    for count in (1, 3):
        given = pixels(backbone, count)
        features, logits = expected_outputs(backbone, given)
        found = run(path, given)
        np.testing.assert_allclose(found[0], features, atol=1e-4 * float(features.abs().max()))
        np.testing.assert_allclose(found[1], logits, atol=1e-4 * float(logits.abs().max()))
        np.testing.assert_allclose(found[2], logits.softmax(1), atol=1e-4)


@pytest.mark.parametrize("architecture", SIDES)
def test_an_onnx_file_gives_the_outputs_of_torch_and_comes_back_unchanged(home, tmp_path, architecture):
    _, state = dense(architecture)
    state = {name: tensor * (tensor.abs() > 0.03) if tensor.dim() == 4 else tensor for name, tensor in state.items()}
    backbone = in_library(home, "net", state, method="GMP", sparsity=0.42, upstream="Photos", **SIDES[architecture])
    kept = {name: flags.contiguous() for name, flags in masks.from_zeros(backbone.module).tensors.items()}
    kept[next(iter(kept))].view(-1)[0] ^= True
    mask = masks.Mask(kept)
    backbone = with_mask(home, backbone, mask)
    path = tmp_path / "net.onnx"
    exporting.write(backbone, path)
    onnx.checker.check_model(str(path), full_check=True)
    assert_outputs(backbone, path)
    importing.add(home, path, "again")
    assert_same(backbones.load(home, "again"), backbone)
    assert "onnx" in inspection.inspect(path)["formats"]


@pytest.mark.parametrize("architecture", SIDES)
def test_the_compact_form_loads_strictly_and_computes_the_same(home, tmp_path, architecture):
    backbone = in_library(home, "net", structured_state(architecture), method="Structured", **SIDES[architecture])
    exporting.write(backbone, tmp_path / "net.safetensors", "compact")
    with safe_open(tmp_path / "net.safetensors", "pt") as file:
        stated = file.metadata()
    body = architectures.build(stated["architecture"], stated["variant"]).eval()
    last = {"resnet20": "linear", "efficientnet_lite0": "_fc"}.get(architecture, "fc")
    state = load_file(tmp_path / "net.safetensors")
    classifier = [state.pop(f"{last}.{name}") for name in ("weight", "bias")]
    for name, sizes in json.loads(stated["layers"]).items():
        layer = body.get_submodule(name)
        for field, size in sizes.items():
            setattr(layer, field, size)
        for key in ("weight", "bias", "running_mean", "running_var"):
            if getattr(layer, key, None) is not None:
                empty = torch.empty(state[f"{name}.{key}"].shape)
                setattr(layer, key, torch.nn.Parameter(empty) if key in ("weight", "bias") else empty)
    body.load_state_dict(state, strict=True)
    side = backbone.transform.crop
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = backbone.module(images), body(images)
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    assert all(torch.equal(*pair) for pair in zip(classifier, backbone.classifier, strict=True))
    whole = sum(tensor.nbytes for tensor in backbone.module.state_dict().values())
    assert (tmp_path / "net.safetensors").stat().st_size < 0.7 * whole
    exporting.write(backbone, tmp_path / "net.onnx", "compact")
    assert_outputs(backbone, tmp_path / "net.onnx")


def test_what_cannot_be_imported_is_refused_in_one_line(home, tmp_path):
    backbone = in_library(home, "net", structured_state("resnet20"), method="Structured")
    for ending in ("safetensors", "onnx"):
        exporting.write(backbone, tmp_path / f"compact.{ending}", "compact")
        assert "fits no named architecture" in refused(importing.add, home, tmp_path / f"compact.{ending}", "again")
    exporting.write(backbone, tmp_path / "net.onnx")
    whole = (tmp_path / "net.onnx").read_bytes()
    (tmp_path / "net.onnx").write_bytes(whole[: len(whole) // 2])
    assert "not a whole ONNX file" in refused(importing.add, home, tmp_path / "net.onnx", "again")
    model = onnx.load_model_from_string(whole)
    for change, message in (
        (lambda entry: entry.Clear(), "not exported from a backbone here"),
        (lambda entry: setattr(entry, "value", "[1]"), "does not fit its weights"),
        (lambda entry: setattr(entry, "value", '{"conv1.weight": "nowhere"}'), "does not fit its weights"),
    ):
        changed = onnx.ModelProto.FromString(model.SerializeToString())
        change(next(entry for entry in changed.metadata_props if entry.key == "tensors"))
        (tmp_path / "net.onnx").write_bytes(changed.SerializeToString())
        assert message in refused(importing.add, home, tmp_path / "net.onnx", "again")


def test_onnx_weights_outside_the_file_are_not_read(home, tmp_path):
    exporting.write(in_library(home, "net", pruned_state(0.5)), tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    for tensor in model.graph.initializer:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")
        tensor.ClearField("raw_data")
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    assert "does not fit its weights" in refused(importing.add, home, tmp_path / "net.onnx", "again")


def test_the_bytes_of_all_forms_are_printed_together(home, tmp_path, capsys):
    backbone = in_library(home, "net", structured_state("resnet20"), method="Structured")
    path = tmp_path / "out.safetensors"
    assert cli.main(["export", str(path), "--backbone", "net", "--json"]) == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert answer["bytes"].keys() == {"dense", "packed", "zipped", "compact"}
    assert answer["bytes"]["dense"] == path.stat().st_size
    assert all(answer["bytes"][name] < answer["bytes"]["dense"] for name in ("packed", "zipped", "compact"))
    assert answer["bytes"]["zipped"] == pytest.approx(len(zlib.compress(path.read_bytes(), 6)), rel=0.01)
    assert "zlib, level 6" in printed.err
    for form in ("packed", "compact"):
        assert cli.main(["export", str(path), "--backbone", "net", "--form", form, "--json"]) == 0
        capsys.readouterr()
        assert path.stat().st_size == answer["bytes"][form]
    assert exporting.public_state(backbone).keys() >= {"linear.weight", "linear.bias"}


def test_the_measured_time_is_printed_beside_the_bytes(home, tmp_path, capsys):
    backbone = in_library(home, "net", pruned_state(0.5))
    export = ["export", str(tmp_path / "net.safetensors"), "--backbone", "net", "--json"]
    assert cli.main(export) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["measured"] is None and "Measured time: none yet" in printed.err
    lines = [line(milliseconds=4.0), line(milliseconds=2.5, ratio=2.0, batch_size=1)]
    measurements.write(home, backbone_record(backbone="net", backbone_hash=backbone.hash, lines=lines))
    measurements.write(home, backbone_record("other", backbone_hash="of another", lines=[line(milliseconds=1.0)]))
    assert cli.main(export) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)["measured"]
    assert (found["milliseconds_per_image"], found["dense_milliseconds_per_image"], found["ratio"]) == (2.5, 5.0, 2.0)
    assert (found["engine"], found["batch_size"], found["mode"]) == ("deepsparse", 1, "inference")
    assert "Measured time: 2.50 ms/image, 2.00× faster (1.90–2.10)." in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["net.pth", "--backbone", "net"], "ending in .safetensors or .onnx, got 'net.pth'"),
        (["net.onnx", "--backbone", "net", "--form", "packed"], "An ONNX file cannot be packed"),
        (["net.onnx", "--backbone", "net", "--form", "compact"], "net has no compact form"),
        (["net.onnx", "--backbone", "other"], "Unknown backbone 'other'"),
        (["net.onnx", "--backbone", "net", "--run", "a"], "either --run or --backbone"),
        (["all.csv", "--form", "packed"], "--form is of a backbone"),
        (["net.onnx", "--backbone", "net", "--form", "tiny"], "invalid choice: 'tiny'"),
    ],
)
def test_wrong_exports_are_refused_in_one_line(home, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    in_library(home, "net", pruned_state(0.5))
    assert cli.main(["export", *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1
    assert not list(tmp_path.glob("net.*")) and not list(tmp_path.glob("all.*"))


def test_files_wait_for_their_download_and_are_made_again_where_one_is_missing(home):
    backbone = in_library(home, "net", pruned_state(0.9))
    spec = ExportSpec(backbone="net")
    made = kinds.run(home, Job("export", spec), lambda _: None)
    folder = exports.folder(home, backbone.hash)
    assert made["path"] == str(folder)
    sizes = exports.sizes(home, backbone.hash)
    assert sizes.keys() == {exports.PLAIN, exports.PACKED, exports.ZIPPED, exports.ONNX}
    assert all(size == (folder / name).stat().st_size for name, size in sizes.items() if name != exports.ZIPPED)
    (folder / exports.ONNX).unlink()
    assert exports.sizes(home, backbone.hash) == {}
    kinds.run(home, Job("export", spec), lambda _: None)
    again = exports.sizes(home, backbone.hash)
    assert {name: again[name] for name in again if name != exports.ZIPPED} == {
        name: size for name, size in sizes.items() if name != exports.ZIPPED
    }


def test_the_classifier_of_a_plain_file_is_torchvisions(home, tmp_path):
    backbone = in_library(home, "net", structured_state("resnet18"), method="Structured", **SIDES["resnet18"])
    exporting.write(backbone, tmp_path / "net.safetensors")
    network = torchvision.models.resnet18(num_classes=7).eval()
    network.load_state_dict(load_file(tmp_path / "net.safetensors"), strict=True)
    given = pixels(backbone)
    mean, std = np.float32(backbone.transform.mean), np.float32(backbone.transform.std)
    images = torch.from_numpy(((given / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))
    with torch.inference_mode():
        torch.testing.assert_close(network(images), expected_outputs(backbone, given)[1])
