"""Leases: one holder at a time, taken over from the dead, on one machine and from another."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

from sparse_core import leases
from sparse_core.paths import REPOSITORY

HOLDER = """
import sys, time
from pathlib import Path
from sparse_core import leases
with leases.hold(Path(sys.argv[1])) as held:
    print(held, flush=True)
    time.sleep(60)
"""


def test_one_process_holds_it_and_the_next_gets_it_after(tmp_path):
    place = tmp_path / "new" / "lease"
    with leases.hold(place) as first:
        assert first
        with leases.hold(place) as second:
            assert not second
        assert place.is_dir()
    assert not place.exists() and not list(place.parent.iterdir())
    with leases.hold(place) as again:
        assert again


def test_a_killed_holder_on_this_machine_loses_it_at_once(tmp_path):
    place = tmp_path / "lease"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, place], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    with leases.hold(place) as held:
        assert not held
    holder.kill()
    holder.wait()
    with leases.hold(place) as held:
        assert held


def foreign(place: Path, age: float) -> None:
    """A lease that another machine's process took and has not touched for ``age`` seconds."""
    place.mkdir()
    (place / "anothermachine-1-00").touch()
    os.utime(place, (time.time() - age, time.time() - age))


def test_a_holder_on_another_machine_loses_it_without_signs_of_life(tmp_path):
    foreign(tmp_path / "fresh", leases.LOST_SECONDS / 2)
    foreign(tmp_path / "old", leases.LOST_SECONDS + 5)
    with leases.hold(tmp_path / "fresh") as held:
        assert not held
    with leases.hold(tmp_path / "old") as held:
        assert held


def test_a_holder_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    with leases.hold(tmp_path / "lease"):
        os.utime(tmp_path / "lease", (1, 1))
        deadline = time.monotonic() + 30
        while (tmp_path / "lease").stat().st_mtime < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def _try(place: Path, barrier, results) -> None:
    barrier.wait()
    with leases.hold(place) as held:
        results.put(held)
        barrier.wait()


def test_of_many_that_take_over_a_lost_lease_one_gets_it(tmp_path):
    context = multiprocessing.get_context("fork")
    for number in range(5):
        place = tmp_path / str(number)
        foreign(place, leases.LOST_SECONDS + 5)
        barrier, results = context.Barrier(6), context.Queue()
        tries = [context.Process(target=_try, args=(place, barrier, results)) for _ in range(6)]
        for each in tries:
            each.start()
        assert sorted(results.get(timeout=60) for _ in tries) == [False] * 5 + [True]
        for each in tries:
            each.join(60)
