"""The simulated end of tasks against schedules drawn by hand."""

import pytest

from sparse_core.jobs.schedule import makespan
from sparse_core.specs.sweep import Task
from sparse_core.specs.transfer import ProbeSpec


def tasks(**after):
    """A task of each name, after those named in its text."""
    return [Task(key, "probe", ProbeSpec("net", "digits"), (0,), tuple(names.split())) for key, names in after.items()]


def seconds(**given):
    return lambda task: given[task.key]


@pytest.mark.parametrize(("workers", "whole"), [(1, 12), (2, 6), (3, 5), (64, 5)])
def test_the_next_task_takes_the_first_free_worker(workers, whole):
    """On two workers: a 0–5, b 0–4, c 4–6, d 5–6. On three: c 0–2, d 2–3."""
    assert makespan(tasks(a="", b="", c="", d=""), seconds(a=5, b=4, c=2, d=1), workers) == whole


def test_a_task_waits_for_those_that_it_needs():
    """Two workers: dense 0–10; both prunings 10–13 and 10–14; the probe of the first 13–14, of both 14–16."""
    grid = tasks(dense="", gmp="dense", str="dense", probe="gmp", both="gmp str")
    lengths = {"dense": 10, "gmp": 3, "str": 4, "probe": 1, "both": 2}
    assert makespan(grid, seconds(**lengths), 2) == 16
    assert makespan(grid, seconds(**lengths), 1) == 20
    assert makespan(grid, seconds(**lengths), 8) == 16  # no more worker shortens a chain


def test_what_is_not_in_the_list_has_ended_before():
    assert makespan(tasks(probe="dense"), seconds(probe=3), 4) == 3


def test_unknown_tasks_count_as_the_mean_of_the_others():
    assert makespan(tasks(a="", b="", c=""), seconds(a=2, b=4, c=None), 1) == 9
    assert makespan(tasks(a="", b=""), seconds(a=None, b=None), 1) is None
    assert makespan([], seconds(), 1) == 0
