"""Files that are damaged, or hold something other than one finite network, are refused in one line."""

import itertools
import math
import os
import resource
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from sparse_core.networks import checkpoints
from tests.support.checkpoints import packed_anew, save
from tests.support.refusals import refused


def zip_bomb(path, state):
    with zipfile.ZipFile(save(state, path), "a", zipfile.ZIP_DEFLATED) as archive:
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


def without(state, *names):
    return {name: tensor for name, tensor in state.items() if name not in names}


def zeroed(state, kept=lambda name, tensor: False):
    return {name: tensor if kept(name, tensor) else torch.zeros_like(tensor) for name, tensor in state.items()}


DAMAGED_FILES = {  # a function that writes the file, and the message
    "empty": (lambda path, state: path.write_bytes(b""), "0 bytes"),
    "text": (lambda path, state: path.write_text("weights"), "neither safetensors nor"),
    "image": (lambda path, state: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(600)), "neither safetensors nor"),
    "gigantic header": (lambda path, state: path.write_bytes(header(2**63)), "claims a header"),
    "large header": (lambda path, state: path.write_bytes(header(10**8, b"{" + b" " * 10**8)), "at most"),
    "broken header": (lambda path, state: path.write_bytes(header(9, b"{}}}}}}}}")), "not a whole safetensors"),
    "deep header": (
        lambda path, _: path.write_bytes(header(99999, b'{"a":' + b"[" * 99999)),
        "not a whole safetensors",
    ),
    "other zip": (lambda path, state: zipfile.ZipFile(path, "w").writestr("a.txt", "a"), "cut off|data.pkl"),
    "zip bomb": (zip_bomb, "so it was not unpacked"),
    "overlapping zip": (overlapping, "so it was not unpacked"),
    "tar": (lambda path, state: path.write_bytes(b"a" * 257 + b"ustar" + bytes(600)), "tar archive"),
}
BAD_DOCUMENTS = {  # what is saved instead of the state dict, and the message
    "a number": (lambda state: 3, "Expected .* state dict.* Got a int"),
    "no tensors": (lambda state: {"epoch": 3}, "Got a dictionary of epoch"),
    "two networks": (
        lambda state: {"student": state, "teacher": state},
        "several sets of weights: student, teacher. Choose one: with --weights student",
    ),
    "quantised tensors": (
        lambda state: {"a.b": torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8)},
        "quantised or other special",
    ),
    "all zero": (zeroed, "All weights in .* are 0"),
    "all zero but the classifier": (
        lambda state: zeroed(state, lambda name, tensor: name.startswith("fc") or tensor.dim() < 4),
        "All weights in .* are 0",
    ),
    "two classifiers": (
        lambda state: {**state, "linear.weight": state["fc.weight"]},
        "'linear.weight' twice, as 'fc.weight' and as 'linear.weight'",
    ),
    "bias alone": (lambda state: without(state, "fc.weight"), "without its weight"),
    "a name twice": (lambda state: {**state, "module.conv1.weight": state["conv1.weight"]}, "'conv1.weight' twice"),
    "an unknown network": (
        lambda state: {"encoder.down.weight": torch.ones(16, 3, 5, 5), "encoder.up.weight": torch.ones(3, 16, 5, 5)},
        "cannot be recognised from its keys .* Name one of .*resnet18",
    ),
    "a part of a network": (
        lambda state: {name: tensor for name, tensor in state.items() if name.startswith("layer1")},
        "cannot be recognised .* Name one of resnet18, resnet34, resnet50, resnet20, resnet32",
    ),
}
BAD_ENTRIES = {  # the name of an entry of the state dict, its value, and the message
    "integers": ("conv1.weight", torch.ones(16, 3, 3, 3, dtype=torch.int8), "'conv1.weight' is int8"),
    "expanded": ("conv1.weight", torch.zeros(1).expand(16, 3, 3, 3), "larger than its content"),
    "not finite": ("bn1.bias", torch.full((16,), math.nan), r"NaN or infinity in 1 tensors \(bn1.bias\)"),
    "variances below 0": (
        *("bn1.running_var", torch.full((16,), -0.5)),
        r"variances below 0 in 1 tensors \(bn1.running_var\)",
    ),
    "a classifier of integers": ("fc.weight", torch.ones(7, 64, dtype=torch.int32), "'linear.weight' is int32"),
    "an integer threshold": (
        *("conv1.sparseThreshold", torch.ones(1, 1, dtype=torch.int64)),
        r"a floating point number; got shape \(1, 1\), int64",
    ),
    "class counts that differ": ("fc.bias", torch.ones(9), "7 classes"),
    "classifier of other features": ("fc.weight", torch.ones(7, 65), "takes 65 features instead of 64"),
    "classifier of odd shape": ("fc.weight", torch.ones(7, 64, 3, 3), "Expected a cl"),
    "masks of an unknown layer": ("layer9._weight_mask", torch.ones(2), r"1 weights it lacks \(layer9.weight\)"),
    "masks of other values": ("conv1.weight_mask", torch.full((16, 3, 3, 3), 0.5), "only 0 and 1; 'conv1.weight'"),
    "masks of another shape": ("conv1.weight_mask", torch.ones(16), "The mask of 'conv1.weight' is"),
    "one threshold per filter": ("conv1.sparseThreshold", torch.ones(16, 1), "one threshold for 'conv1.weight'"),
    "a name with a zero byte": ("layer9.a\0.b", torch.ones(1), "unexpected .layer9.a␀.b"),
    "a block that the network lacks": ("layer3.3.conv1.bias", torch.ones(1), "1 unexpected .layer3.3.conv1.bias"),
    "a second layer of the stem": ("conv2.weight", torch.ones(16, 16, 3, 3), "1 unexpected .conv2.weight"),
    "a convolution that may be within": ("attention.weight", torch.ones(1, 16, 1, 1), "1 unexpected .attention.weight"),
}
BAD_DOCUMENTS |= {
    kind: (lambda state, entry=(name, value): {**state, entry[0]: entry[1]}, message)
    for kind, (name, value, message) in BAD_ENTRIES.items()
}
BAD_FILES = DAMAGED_FILES | {
    kind: (lambda path, state, document=document: save(document(state), path), message)
    for kind, (document, message) in BAD_DOCUMENTS.items()
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_are_refused_in_one_line(resnet20, tmp_path, kind):
    make, message = BAD_FILES[kind]
    make(tmp_path / "file.pth", resnet20[1])
    refused(checkpoints.read, tmp_path / "file.pth", match=message)


def test_paths_other_than_files_are_refused(tmp_path):
    assert "no weight file at" in refused(checkpoints.read, tmp_path / "absent.pth")
    assert "no weight file at" in refused(checkpoints.read, f"{tmp_path}/a\0b")
    assert "is not a file" in refused(checkpoints.read, tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is not a file" in refused(checkpoints.read, tmp_path / "pipe")


def test_a_file_larger_than_memory_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.pth"
    with open(path, "wb") as stream:
        stream.truncate(1 << 42)
    assert "Not enough memory" in refused(checkpoints.read, path)


def test_truncated_files(resnet20, tmp_path):
    for legacy, share in itertools.product((False, True), (0.1, 0.5, 0.99)):
        path = save(resnet20[1], tmp_path / "a.pth", legacy)
        os.truncate(path, int(share * path.stat().st_size))
        assert "cut off" in refused(checkpoints.read, path)
    save_file(resnet20[1], tmp_path / "b")
    os.truncate(tmp_path / "b", 100_000)
    assert "not a whole safetensors file" in refused(checkpoints.read, tmp_path / "b")


def test_tensors_larger_than_the_file_are_refused_before_memory_is_taken(resnet20, tmp_path):
    """Tensors that claim 2³¹ rows instead of 4."""

    def enlarged(pickled):
        return pickled.replace(b"K\x04K\x04\x86", b"J\xff\xff\xff\x7fK\x04\x86", 1)

    path = packed_anew(save({"a.b": torch.zeros(4, 4)}, tmp_path / "a.pth"), enlarged)
    old = save({"a.b": torch.zeros(4, 4)}, tmp_path / "old.pth", legacy=True)
    old.write_bytes(enlarged(old.read_bytes()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(checkpoints.read, path)
    refused(checkpoints.read, old)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
