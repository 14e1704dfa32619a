"""Runs: labels, and the command that repeats them, parsed by the command line itself."""

import dataclasses
import shlex

import pytest

from sparse_core import cli
from sparse_core.jobs.kinds import KINDS
from sparse_core.results.records import Records
from sparse_core.results.store import Store
from sparse_core.specs.options import from_arguments
from sparse_core.specs.training import Hyperparameters, full_learning_rate
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec
from sparse_core.views import runs
from tests.support.records import record, write

SHORT = Hyperparameters(epochs=2, learning_rate=0.05, batch_size=32)
OTHERS = {"from_scratch": True, "freeze_batch_norm": True, "label_smoothing": 0.1, "precision": "fp32"}


@pytest.mark.parametrize(
    ("spec", "seeds"),
    [
        (ProbeSpec("net", "digits"), 5),
        (ProbeSpec("net", "my images", sweep_lr=(0.1, 0.01), precision="bf16", engine="torch"), 2),
        (FinetuneSpec("net", "digits"), 1),
        (FinetuneSpec("net", "cars", settings=Hyperparameters(learning_rate=full_learning_rate("cars"))), 3),
        (FinetuneSpec("net", "digits", settings=SHORT, augment=False, optimizer="adamw", **OTHERS), 1),
    ],
)
def test_a_command_repeats_the_same_runs(monkeypatch, spec, seeds):
    asked = []

    def transfer(given):
        asked.append((from_arguments(KINDS[given.verb].spec, given), given.seeds))
        return {}

    monkeypatch.setattr(cli, "_transfer", transfer)
    command = shlex.split(runs.command(spec, seeds))
    assert command[0] == "sparse-transfer"
    assert cli.main(command[1:]) == 0
    assert asked == [(spec, seeds)]


def test_defaults_are_left_out():
    expected = "sparse-transfer finetune --backbone net --dataset digits --json"
    assert runs.command(FinetuneSpec("net", "digits"), 1) == expected


def test_a_label_includes_the_transfer():
    assert runs.label(record(sparsity=0.5, seed=2)) == "Magnitude 50 %, Digits, linear, seed 2"


def test_the_dense_network_beside_a_run_is_of_the_most_frequent_recipe(home):
    def dense(network, recipe, seed=0):
        made = record(seed=seed)
        spec = {**made.spec, "backbone": network, "backbone_hash": network}
        named = f"linear-{seed}-{network}"
        return dataclasses.replace(made, run_id=named, spec=spec, result={**made.result, "recipe": recipe})

    sparse = [record(sparsity=0.5, seed=seed) for seed in (0, 1)]
    smoothed = [dense("a_smoothed", "12 epochs, label smoothing 0.1", seed) for seed in (0, 1)]
    write(home, *sparse, *smoothed, dense("b", "12 epochs"), dense("c", "12 epochs"))
    store = Store(Records(home))
    assert [found.spec["backbone"] for found in runs.dense_baselines(store, sparse)] == ["b"]
    write(home, dense("c", "12 epochs", 1))
    found = runs.dense_baselines(Store(Records(home)), sparse)
    assert [(each.spec["backbone"], each.spec["seed"]) for each in found] == [("c", 0), ("c", 1)]  # shares both seeds
