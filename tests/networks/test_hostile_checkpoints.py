"""Files that try to run something, or to take memory or time, are refused in one line."""

import os
import pickle
import resource
import struct
from pathlib import Path

import pytest
import torch
from torch import nn

from sparse_core.networks import checkpoints, reader_process
from tests.support.checkpoints import Runs, linear, packed_anew, save
from tests.support.refusals import refused

HOSTILE = {
    "os.system": lambda canary: Runs(os.system, f"touch {canary}"),
    "open": lambda canary: Runs(open, str(canary), "w"),
    "exec": lambda canary: Runs(exec, f"open({str(canary)!r}, 'w')"),
    "Path.touch": lambda canary: Runs(Path.touch, canary),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_pickles_that_run_something_are_refused_and_run_nothing(resnet20, tmp_path, kind):
    canary = tmp_path / "canary"
    document = {**resnet20[1], "extra": HOSTILE[kind](canary)}
    for number, legacy in enumerate((False, True)):
        assert "wants to run" in refused(checkpoints.read, save(document, tmp_path / f"{number}.pth", legacy))
    for protocol in range(6):
        path = tmp_path / "raw"
        path.write_bytes(pickle.dumps(HOSTILE[kind](canary), protocol=protocol))
        refused(checkpoints.read, path)
    assert not canary.exists()


def test_programs_are_refused(tmp_path):
    torch.jit.save(torch.jit.trace(nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 4, 4)), tmp_path / "script.pt")
    assert "TorchScript" in refused(checkpoints.read, tmp_path / "script.pt")


def in_an_archive(index, path, legacy=False):
    """A torch file whose pickled part is given."""
    save({} if legacy else {"a": torch.ones(1)}, path, legacy)
    if legacy:
        path.write_bytes(path.read_bytes().replace(pickle.dumps({}, 2), index, 1))
        return path
    return packed_anew(path, lambda _: index)


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def number(value):
    """As pickle writes long numbers."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def called(name, *arguments):
    return b"c" + name.replace(" ", "\n").encode() + b"\n(" + b"".join(arguments) + b"tR"


def encoded(times):
    """Hexadecimal digits of hexadecimal digits: each time twice as many bytes."""
    once = called("_codecs encode", text("a"), text("latin1"))
    return once if times == 0 else called("_codecs encode", encoded(times - 1), text("hex"))


DOUBLED = b"K\x01\x85" + b"q\x00h\x00\x86" * 40  # a tuple of twice the tuple before: 2⁴⁰ ones, written out
ADDRESS = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x01tQ"
EXPANDED = called("torch._utils _rebuild_tensor", ADDRESS, b"K\x00", number(1 << 40), b"\x85", b"K\x00\x85")
PAIRS = b"](" + b"".join(b"](" + text(f"a.{key}") + b"Ne" for key in range(5000)) + b"eq\x01"
SHARED = b"}(" + b"".join(number(key) + b"N" for key in range(60_000)) + b"uq\x01"
NAMES = b"".join(text(f"{key}") + b"h\x01" for key in range(60_000))
GREEDY = {
    "bytearray": b"](" + 3 * called("builtins bytearray", number(1 << 30)) + b"e",
    "bytearray by its older name": b"](" + 3 * called("__builtin__ bytearray", number(1 << 30)) + b"e",
    "bytes made of bytes": encoded(33),
    "a tensor made by its size": called("torch FloatTensor", number(1 << 40)),
    "a storage made by its size": called("torch.storage UntypedStorage", number(1 << 40)),
    "a set of a tensor's rows": called("builtins set", EXPANDED),
    "a dictionary of a tensor's rows": called("collections OrderedDict", EXPANDED),
    "a tensor's rows as arguments": b"ccollections\nOrderedDict\n" + EXPANDED + b"R",
    "numbers that hash alike": b"}(" + b"".join(number(k * (2**61 - 1)) + b"N" for k in range(9, 90_000)) + b"u",
    "tuples as keys": b"}" + DOUBLED + b"Ns",
    "tuples as a function": DOUBLED + b")R",
    "tuples as a class": DOUBLED + b")\x81",
    "tuples as an address": b"(" + text("storage") + b"ctorch\nFloatStorage\n" + DOUBLED + text("cpu") + b"K\x01tQ",
    "a list copied often": b"](" + PAIRS + b"ccollections\nOrderedDict\nq\x02" + b"h\x02h\x01\x85R" * 30_000 + b"e",
    "a dictionary named often": b"}(" + text("a") + SHARED + NAMES + b"u",
    "many operations": b"N" * 3_000_000,
}


def refused_within_200_megabytes(path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = refused(checkpoints.read, path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes
    return message


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", GREEDY)
def test_small_files_take_neither_memory_nor_time(tmp_path, monkeypatch, kind, legacy):
    monkeypatch.setattr(reader_process, "CPU_SECONDS", 1.0)
    refused_within_200_megabytes(in_an_archive(b"\x80\x02" + GREEDY[kind] + b".", tmp_path / "a.pth", legacy))


def test_a_reader_that_does_not_answer_in_time_is_replaced(resnet20, tmp_path, monkeypatch):
    path = save(linear(resnet20[1]), tmp_path / "a.pth")
    with monkeypatch.context() as patched:
        patched.setattr(reader_process, "CPU_SECONDS", 0.0)
        patched.setattr(reader_process, "WAIT_SECONDS", 0.0)
        assert "was not read: it takes more than" in refused(checkpoints.read, path)
    assert checkpoints.read(path).architecture == "resnet20"


def test_the_last_part_of_an_older_file_is_examined_as_well(tmp_path):
    index = b"\x80\x02}.\x80\x02" + called("builtins exec", text("1")) + b"."
    assert "wants to run builtins.exec" in refused(
        checkpoints.read, in_an_archive(index, tmp_path / "a.pth", legacy=True)
    )
    index = b"\x80\x02}.\x80\x02" + GREEDY["bytearray"] + b"."
    refused_within_200_megabytes(in_an_archive(index, tmp_path / "a.pth", legacy=True))


def test_a_name_of_a_million_parts_is_refused_at_once(tmp_path):
    path = save({"a." * 500_000: torch.ones(1)}, tmp_path / "a.pth")
    assert "names of more than 500 characters" in refused_within_200_megabytes(path)


def test_an_archive_in_front_of_another_is_read_within_the_limits(resnet20, tmp_path):
    """Python reads the list of contents that ends last, torch the one that the end of the file points at."""
    save(linear(resnet20[1]), tmp_path / "shown.pth")
    shown = packed_anew(tmp_path / "shown.pth").read_bytes()
    hidden = in_an_archive(b"\x80\x02" + GREEDY["bytearray"] + b".", tmp_path / "hidden.pth").read_bytes()[:-22]
    start = shown.index(b"PK\1\2")
    pointed = hidden.index(b"PK\1\2")
    entries, where = bytearray(shown[start:-22]), 0
    while (where := entries.find(b"PK\1\2", where)) >= 0:
        (offset,) = struct.unpack("<I", entries[where + 42 : where + 46])
        entries[where + 42 : where + 46] = struct.pack("<I", (offset + pointed - start) % 2**32)  # Python adds the rest
        where += 4
    end = shown[-22:-6] + struct.pack("<I", pointed) + b"\0\0"
    path = tmp_path / "both.pth"
    path.write_bytes(hidden + shown[:start] + entries + end)
    refused_within_200_megabytes(path)
