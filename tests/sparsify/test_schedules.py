"""Schedules at points computed by hand."""

import math

import pytest

from sparse_core.sparsify import schedules
from tests.support.refusals import refused


def test_the_cubic_schedule_at_points_computed_by_hand():
    """0.9 + (0.1 − 0.9) · (1 − t)³."""
    points = [schedules.cubic(share, 0.9, first=0.1) for share in (0, 0.25, 0.5, 0.75, 1)]
    assert points == pytest.approx([0.1, 0.5625, 0.8, 0.8875, 0.9])


def test_pruning_starts_with_five_percent_and_ends_after_two_fifths_of_the_training():
    planned = schedules.pruning_steps(1001, 5, 0.85)
    assert list(planned) == [0, 100, 200, 300, 400]
    assert list(planned.values()) == pytest.approx([0.05, 0.5125, 0.75, 0.8375, 0.85])
    assert schedules.pruning_steps(50, 1, 0.9) == {0: 0.9}


def test_a_target_below_the_first_step_is_not_exceeded():
    assert max(schedules.pruning_steps(100, 4, 0.03).values()) == pytest.approx(0.03)


def test_pruning_steps_that_do_not_fit_are_refused():
    assert "at most 5 pruning steps" in refused(schedules.pruning_steps, 10, 8, 0.9)
    assert len(schedules.pruning_steps(10, 5, 0.9)) == 5


def test_the_phases_of_acdc_are_those_of_the_paper():
    """100 epochs of one step: compressed in epochs 10 to 15, 20 to 25, … 70 to 75, and 85 to 100."""
    expected = [(start, start + 5) for start in (10, 20, 30, 40, 50, 60, 70)] + [(85, 100)]
    assert schedules.compressed_phases(100) == expected
    assert all(start < end for start, end in schedules.compressed_phases(20))
    assert schedules.compressed_phases(47)[-1][1] == 47
    assert "at least 20 training steps" in refused(schedules.compressed_phases, 19)


@pytest.mark.parametrize(("steps", "count"), [(15, 0), (60, 0), (100_000, 0), (200, 30)])
def test_rigl_updates_at_least_ten_times_and_every_100_steps_in_long_trainings(steps, count):
    updates = schedules.rigl_updates(steps, count)
    due = [step for step in range(steps) if updates.are_due(step)]
    assert len(due) >= (count or 10)
    assert max(due) < 0.75 * steps
    assert (updates.interval == 100) == (steps == 100_000)


def test_the_share_that_rigl_replaces_falls_along_a_cosine():
    updates = schedules.Updates(10, 90)
    assert updates.dropped(0) == pytest.approx(0.3)
    assert updates.dropped(30) == pytest.approx(0.15 * (1 + 0.5))
    assert updates.dropped(45) == pytest.approx(0.15)
    assert "Train for more epochs" in refused(schedules.rigl_updates, 14)


def test_learning_rates_at_points_computed_by_hand():
    cosine = [schedules.learning_rate("cosine", 1.0, step, 100) for step in (0, 4, 5, 52, 99)]
    expected = [0.2, 1.0, 1.0, (1 + math.cos(math.pi * 47 / 95)) / 2, (1 + math.cos(math.pi * 94 / 95)) / 2]
    assert cosine == pytest.approx(expected)
    steps = [schedules.learning_rate("step", 0.1, step, 100) for step in (0, 49, 50, 74, 75, 99)]
    assert steps == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    one_cycle = [schedules.learning_rate("one-cycle", 0.3, step, 100) for step in (0, 14, 29, 65, 99)]
    assert one_cycle == pytest.approx([0.01, 0.15, 0.3, 0.15, 0.3 * (1 + math.cos(math.pi * 69 / 70)) / 2])
