"""Files that are damaged, or hold something other than one finite network, are refused in one line."""

import itertools
import math
import os
import resource
import struct
import zipfile

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from sparse_core.errors import InputError
from sparse_core.networks import checkpoints
from tests.support.checkpoints import refused, save


def zip_bomb(path, state):
    save(state, path)
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
        archive.writestr("archive/data/999", bytes(300_000_000))


def overlapping(path, state):
    """Every entry of the archive's directory points at the largest of its contents."""
    save(state, path)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    position = data.find(b"PK\1\2")
    while position >= 0:
        data[position + 20 : position + 28] = struct.pack("<II", largest.file_size, largest.file_size)
        position = data.find(b"PK\1\2", position + 4)
    path.write_bytes(data)


def header(length, rest=b"{}"):
    return struct.pack("<Q", length) + rest


BAD_FILES = {
    "empty": (lambda path, state: path.write_bytes(b""), "0 bytes"),
    "text": (lambda path, state: path.write_text("weights"), "neither safetensors nor"),
    "image": (lambda path, state: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(600)), "neither safetensors nor"),
    "gigantic header": (lambda path, state: path.write_bytes(header(2**63)), "claims a header"),
    "large header": (lambda path, state: path.write_bytes(header(10**8, b"{" + b" " * 10**8)), "at most"),
    "broken header": (lambda path, state: path.write_bytes(header(9, b"{}}}}}}}}")), "not a whole safetensors"),
    "deep header": (
        lambda path, state: path.write_bytes(header(99999, b'{"a":' + b"[" * 99999)),
        "not a whole safetensors",
    ),
    "zip of something": (lambda path, state: zipfile.ZipFile(path, "w").writestr("a.txt", "a"), "cut off|data.pkl"),
    "zip bomb": (zip_bomb, "so it was not unpacked"),
    "overlapping zip": (overlapping, "so it was not unpacked"),
    "tar": (lambda path, state: path.write_bytes(b"a" * 257 + b"ustar" + bytes(600)), "tar archive"),
    "a number": (lambda path, state: save(3, path), "Expected .* state dict.* Got a int"),
    "no tensors": (lambda path, state: save({"epoch": 3}, path), "Got a dictionary of epoch"),
    "two networks": (
        lambda path, state: save({"net": state, "ema": state}, path),
        "several networks, under 'net', 'ema'",
    ),
    "not only tensors": (lambda path, state: save({**state, "a.b": "text"}, path), r"not named tensors \(a.b\)"),
    "keys that are numbers": (lambda path, state: save({**state, 3: torch.ones(1)}, path), "not named tensors"),
    "sparse tensors": (lambda path, state: save({"a.b": torch.eye(3).to_sparse()}, path), "sparse, quantised"),
    "integers": (
        lambda path, state: save({**state, "conv1.weight": torch.ones(16, 3, 3, 3, dtype=torch.int8)}, path),
        "'conv1.weight' is int8",
    ),
    "expanded": (
        lambda path, state: save({**state, "conv1.weight": torch.zeros(1).expand(16, 3, 3, 3)}, path),
        "larger than its content",
    ),
    "not finite": (
        lambda path, state: save({**state, "bn1.bias": torch.full((16,), math.nan)}, path),
        r"NaN or infinity in 1 tensors \(bn1.bias\)",
    ),
    "all zero": (
        lambda path, state: save({name: torch.zeros_like(tensor) for name, tensor in state.items()}, path),
        "All weights in .* are 0",
    ),
    "all zero but the classifier": (
        lambda path, state: save(
            {name: t if name.startswith("fc") or t.dim() < 4 else torch.zeros_like(t) for name, t in state.items()},
            path,
        ),
        "All weights in .* are 0",
    ),
    "variances below 0": (
        lambda path, state: save({**state, "bn1.running_var": torch.full((16,), -0.5)}, path),
        r"variances below 0 in 1 tensors \(bn1.running_var\)",
    ),
    "a classifier of integers": (
        lambda path, state: save({**state, "fc.weight": torch.ones(7, 64, dtype=torch.int32)}, path),
        "'linear.weight' is int32",
    ),
    "two classifiers": (
        lambda path, state: save({**state, "linear.weight": state["fc.weight"]}, path),
        "'linear.weight' twice, as 'fc.weight' and as 'linear.weight'",
    ),
    "a threshold that is an integer": (
        lambda path, state: save({**state, "conv1.sparseThreshold": torch.ones(1, 1, dtype=torch.int64)}, path),
        r"a floating point number; got shape \(1, 1\), int64",
    ),
    "class counts that differ": (lambda path, state: save({**state, "fc.bias": torch.ones(9)}, path), "7 classes"),
    "bias alone": (
        lambda path, state: save({name: t for name, t in state.items() if name != "fc.weight"}, path),
        "without its weight",
    ),
    "classifier of other features": (
        lambda path, state: save({**state, "fc.weight": torch.ones(7, 65)}, path),
        "takes 65 features instead of 64",
    ),
    "classifier of odd shape": (
        lambda path, state: save({**state, "fc.weight": torch.ones(7, 64, 3, 3)}, path),
        "Expected a cl",
    ),
    "masks of nothing": (
        lambda path, state: save({**state, "layer9._weight_mask": torch.ones(2)}, path),
        r"1 weights it lacks \(layer9.weight\)",
    ),
    "masks that are no masks": (
        lambda path, state: save({**state, "conv1.weight_mask": torch.full((16, 3, 3, 3), 0.5)}, path),
        "only 0 and 1; 'conv1.weight'",
    ),
    "masks of another shape": (
        lambda path, state: save({**state, "conv1.weight_mask": torch.ones(16)}, path),
        "The mask of 'conv1.weight' is",
    ),
    "thresholds of a filter each": (
        lambda path, state: save({**state, "conv1.sparseThreshold": torch.ones(16, 1)}, path),
        "one threshold for 'conv1.weight'",
    ),
    "a name twice": (
        lambda path, state: save({**state, "module.conv1.weight": state["conv1.weight"]}, path),
        "'conv1.weight' twice",
    ),
    "an empty name": (lambda path, state: save({**state, "": torch.ones(1)}, path), "1 unexpected"),
    "a name with a zero byte": (lambda path, state: save({**state, "a\0.b": torch.ones(1)}, path), "unexpected .a␀.b"),
    "an unknown network": (
        lambda path, state: save(torchvision.models.squeezenet1_1().state_dict(), path),
        "cannot be recognised from its keys .* Name one of .*resnet18",
    ),
    "a piece of a network": (
        lambda path, state: save({name: t for name, t in state.items() if name.startswith("layer1")}, path),
        "cannot be recognised .* Name one of resnet18, resnet34, resnet50, resnet20, resnet32",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_are_refused_in_one_line(resnet20, tmp_path, kind):
    make, words = BAD_FILES[kind]
    path = tmp_path / "file.pth"
    make(path, dict(resnet20[1]))
    with pytest.raises(InputError, match=words) as caught:
        checkpoints.read(path)
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_files(tmp_path):
    assert "no weight file at" in refused(tmp_path / "absent.pth")
    assert "no weight file at" in refused(f"{tmp_path}/a\0b")
    assert "is not a file" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is not a file" in refused(tmp_path / "pipe")


def test_a_file_larger_than_memory_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.pth"
    with open(path, "wb") as stream:
        stream.truncate(1 << 42)
    assert "Not enough memory" in refused(path)


def test_truncated_files(resnet20, tmp_path):
    for legacy, share in itertools.product((False, True), (0.1, 0.5, 0.99)):
        path = save(resnet20[1], tmp_path / "a.pth", legacy)
        os.truncate(path, int(share * path.stat().st_size))
        assert "cut off" in refused(path)
    save_file(resnet20[1], tmp_path / "b")
    os.truncate(tmp_path / "b", 100_000)
    assert "not a whole safetensors file" in refused(tmp_path / "b")


def test_sizes_in_a_pickle_are_held_against_the_file(resnet20, tmp_path):
    """A tensor that claims 2³¹ rows of what is there."""
    path = save({"a.b": torch.zeros(4, 4)}, tmp_path / "a.pth")
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    index = next(name for name in parts if name.endswith("data.pkl"))
    parts[index] = parts[index].replace(b"K\x04K\x04\x86", b"J\xff\xff\xff\x7fK\x04\x86", 1)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path)
    old = save({"a.b": torch.zeros(4, 4)}, tmp_path / "old.pth", legacy=True)
    old.write_bytes(old.read_bytes().replace(b"K\x04K\x04\x86", b"J\xff\xff\xff\x7fK\x04\x86", 1))
    refused(old)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
