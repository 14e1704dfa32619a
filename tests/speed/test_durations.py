"""How long a measurement of speed will take: sums by hand, and what is learnt from whole measurements."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sparse_core.engines import machine
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.speed import durations, measurements
from tests.support.measurements import line, speed_record, training_line, training_record

INFERENCE = SpeedupSpec(architecture="resnet50", sparsity=0.9, engines=("deepsparse",), batch_sizes=(1, 64), rounds=8)
# Two sizes compiled twice, 20 s; 10 rounds of 64 images at 16 ms, and of one, which is repeated for 0.1 s.
SECONDS = 20 + 10 * (1.024 + 0.1)


def rows(*records: dict[str, Any]) -> pd.DataFrame:
    return measurements.frame(Path(), records)


def here(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "machine": machine.machine()}


def timed() -> pd.DataFrame:
    return rows(here(speed_record(lines=[line(milliseconds=4.0, ratio=3.0, seconds_to_compile=5.0)])))


def test_the_parts_of_a_measurement_add_up(home):
    assert durations.estimate(home, INFERENCE, "resnet50", timed()) == pytest.approx(SECONDS)
    assert durations.estimate(home, INFERENCE, "resnet18", timed()) is None
    spec = SpeedupSpec(backbone="net", mode="training", dataset="digits", engines=("deepsparse",), epochs=2)
    training = rows(here(training_record(lines=[training_line()])))
    assert durations.estimate(home, spec, "efficientnet_lite0", training) == pytest.approx(2 * (40 + 100))


def test_other_machines_say_nothing(home):
    assert durations.estimate(home, INFERENCE, "resnet50", rows(speed_record(lines=[line()]))) is None


def test_whole_measurements_correct_the_sum(home):
    for seconds in (2 * SECONDS, 3 * SECONDS, 40 * SECONDS):  # the median counts
        durations.learn(home, INFERENCE, "resnet50", timed(), seconds)
    assert durations.estimate(home, INFERENCE, "resnet50", timed()) == pytest.approx(3 * SECONDS)
    durations.learn(home, INFERENCE, "resnet50", timed().iloc[:0], 1.0)  # nothing was estimated, so nothing is learnt
    assert durations.estimate(home, INFERENCE, "resnet50", timed()) == pytest.approx(3 * SECONDS)
