"""Mutations of valid and hostile files never crash the reader, hang it or run anything."""

import itertools
import os
import random
import resource
import signal

from safetensors.torch import save_file

from sparse_core.errors import InputError
from sparse_core.networks import architectures, checkpoints, recognition
from tests.support.checkpoints import Runs, dense, save

FUZZED = 2400


def mutated(data, random_):
    """Flipped bytes, cuts, rewritten headers and directories, moved and doubled pieces."""
    data = bytearray(data)
    places = (
        lambda: random_.randrange(len(data)),
        lambda: random_.randrange(min(2000, len(data))),
        lambda: len(data) - 1 - random_.randrange(min(6000, len(data))),
    )
    place = random_.choice(places)
    kind = random_.randrange(6)
    if kind == 0:
        for _ in range(random_.choice((1, 2, 8, 64))):
            data[place()] ^= 1 << random_.randrange(8)
    elif kind == 1:
        del data[place() :]
    elif kind == 2:
        at, size = place(), random_.choice((1, 2, 4, 8))
        data[at : at + size] = random_.choice((b"\xff", b"\0", b"\x7f", b"\x80")) * size
    elif kind == 3:
        at = place()
        data[at:at] = random_.randbytes(random_.randrange(1, 40))
    elif kind == 4:
        at = place()
        del data[at : at + random_.randrange(1, 40)]
    else:
        source, at, size = place(), place(), random_.randrange(1, 200)
        data[at : at + size] = data[source : source + size]
    return bytes(data)


def test_damaged_files_never_crash_hang_or_run_anything(tmp_path, monkeypatch):
    """Mutations of a tiny valid network in three kinds of file, and of the same with a canary in it."""
    variants = {"A": architectures.ARCHITECTURES["resnet20"].transform}
    tiny = architectures.Architecture(64, variants, lambda _: architectures.CifarResNet(1, "A"))
    names = ("resnet20", "resnet18", "resnet34", "resnet50")
    monkeypatch.setattr(architectures, "ARCHITECTURES", dict.fromkeys(names, tiny))
    monkeypatch.setattr(recognition, "shapes_of", recognition.shapes_of.__wrapped__)
    layout = recognition.Layout(None, candidates=(("resnet20", "A"),))
    monkeypatch.setattr(recognition, "layout_of", lambda weights: layout)
    _, state = dense("resnet20")
    canary = tmp_path / "canary"
    hostile = {"epoch": Runs(os.system, f"touch {canary}"), "state_dict": state}
    files = itertools.product((state, hostile), (False, True))
    seeds = [save(document, tmp_path / "a", legacy).read_bytes() for document, legacy in files]
    save_file(state, tmp_path / "a")
    seeds.append((tmp_path / "a").read_bytes())
    path = tmp_path / "fuzzed"
    outcomes = {"read": 0, "refused": 0}

    class Hang(BaseException):
        """Nothing that reads files takes this for a fault of the file."""

    def hang(*_):
        raise Hang("reading a damaged file hangs")

    path.write_bytes(seeds[0])
    checkpoints.read(path)  # starts the process that reads, which is no part of what may hang
    before = signal.signal(signal.SIGALRM, hang)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        for number in range(FUZZED):
            random_ = random.Random(number)
            path.write_bytes(mutated(seeds[number % len(seeds)], random_))
            signal.alarm(60)
            try:
                checkpoints.read(path)
                outcomes["read"] += 1
            except InputError as error:
                assert "\n" not in str(error), number
                outcomes["refused"] += 1
            finally:
                signal.alarm(0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not canary.exists()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 500_000  # kilobytes
    assert outcomes["refused"] > FUZZED / 3
    assert outcomes["read"] > 20
