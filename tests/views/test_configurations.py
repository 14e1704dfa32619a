"""Runs by configuration: means over seeds, and names and settings that tell configurations apart."""

import dataclasses
import statistics

import pytest

from sparse_core.jobs import queue, sweeps
from sparse_core.jobs.kinds import Job
from sparse_core.results.annotations import Annotation
from sparse_core.results.records import Records
from sparse_core.results.store import Store
from sparse_core.specs.progress import Progress
from sparse_core.specs.sweep import Plan, transfers
from sparse_core.specs.transfer import ProbeSpec
from sparse_core.views import activity, configurations
from tests.support.records import record, write


def test_a_configuration_is_the_mean_over_its_seeds(home):
    finals = {0: 0.7, 1: 0.8, 2: 0.75}
    write(home, *(record(seed=seed, final=final) for seed, final in finals.items()), record(sparsity=0.5))
    rows = Store(Records(home)).results(source="measured")
    tagged = {record(seed=0).run_id: Annotation(tags=("b",)), record(seed=1).run_id: Annotation("odd", ("a", "b"))}
    table = configurations.configurations(configurations.annotated(rows, tagged))
    dense = table[table["method"] == "Dense"].iloc[0]
    assert len(table) == 2 and dense["seeds"] == dense["runs"] == 3
    assert dense["final_mean"] == pytest.approx(statistics.mean(finals.values()))
    assert dense["final_std"] == pytest.approx(statistics.stdev(finals.values()))
    assert (dense["tags"], dense["note"]) == ("a b", "odd")
    assert sorted(dense["run_ids"]) == sorted(record(seed=seed).run_id for seed in finals)


def test_a_rerun_is_averaged_into_its_seed(home):
    write(home, record(seed=0, final=0.6), record(seed=0, final=0.8, replicate=1), record(seed=1, final=0.9))
    rows = Store(Records(home)).results(source="measured")
    (row,) = configurations.configurations(configurations.annotated(rows, {})).itertuples()
    assert (row.seeds, row.runs) == (2, 3)
    assert row.final_mean == pytest.approx((0.7 + 0.9) / 2)


def test_no_runs_are_no_configurations(home):
    rows = Store(Records(home)).results(source="measured")
    assert configurations.configurations(configurations.annotated(rows, {})).empty


def test_names_say_what_differs():
    usual = record()
    short = dataclasses.replace(usual, spec={**usual.spec, "settings": {**usual.spec["settings"], "epochs": 5}})
    assert configurations.names([usual, usual]) == ["Dense, Digits, linear"] * 2
    epochs = usual.spec["settings"]["epochs"]
    assert configurations.names([usual, short]) == [f"Dense, Digits, linear ({epochs})", "Dense, Digits, linear (5)"]
    assert configurations.settings([usual, short]).to_dict("list") == {"Epochs": [str(epochs), "5"]}


def test_what_goes_on_is_named_with_its_stage_and_time_left(home, no_worker):
    job_id = queue.submit(home, Job("probe", ProbeSpec("net", "digits"), (0, 1)))
    queue.submit(home, Job("estimate", ProbeSpec("net", "digits")))  # no user asked for it
    (found,) = activity.going_on(home)
    assert (found.name, found.page, found.state) == (job_id, "probe", "waiting")
    assert found.text == "Probe of net on Digits, 2 seeds: waiting"
    queue.open_reports(home, job_id).report(Progress("Training", 1, 4, seconds_left=30))
    with queue.claim(home, job_id):
        (found,) = activity.going_on(home)
        assert found.text == "Probe of net on Digits, 2 seeds: Training 1 of 4, about 30 s left"
        assert found.share == 0.25
    activity.cancel(home, found)
    assert activity.going_on(home) == []
    assert [each.state for each in activity.ended(home, [("job", job_id), ("job", "gone")])] == ["cancelled"]


def test_a_sweep_is_one_entry_and_its_jobs_are_none(home, no_worker):
    specs = [ProbeSpec("efficientnet_lite0", "digits"), ProbeSpec("efficientnet_lite0_magnitude_50", "digits")]
    sweep_id = sweeps.submit(home, Plan("probe", tuple(transfers("probe", specs, (0, 1)))))
    sweeps.advance(home, sweep_id)
    (found,) = activity.going_on(home)
    assert (found.parameter, found.name, found.label) == ("sweep_id", sweep_id, "Batch of 4 runs")
    assert found.state == "waiting"
    activity.cancel(home, found)
    assert activity.going_on(home) == []
