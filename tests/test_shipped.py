"""The data that comes with the product: the zoo's networks load and reach their recorded accuracies, the shipped results."""

import dataclasses
import math

import pandas as pd
import pytest
import torch

from sparse_core import paths
from sparse_core.jobs.kinds import Job, run
from sparse_core.networks import backbones, library, packed_masks, structure, structure_analysis
from sparse_core.paths import SHIPPED, ZOO
from sparse_core.results import measures, store
from sparse_core.results.records import Records
from sparse_core.results.store import Store
from sparse_core.specs.transfer import ProbeSpec
from sparse_core.speed import measurements
from sparse_core.views import speed_tables

RESULTS = store.SHIPPED_RESULTS  # as imported, like ZOO: tests usually do not see them


@pytest.fixture
def shipped(monkeypatch):
    monkeypatch.setattr(store, "SHIPPED_RESULTS", RESULTS)
    monkeypatch.setattr(paths, "ZOO", ZOO)
    monkeypatch.setattr(paths, "SHIPPED", SHIPPED)


@pytest.fixture
def cards(shipped):
    return {card.name: card for card in library.zoo_cards()}


def test_the_zoo_has_the_networks_that_the_study_at_small_scale_needs(cards):
    def has(method, percent, seeds=1):
        return {f"resnet20_{method}_{percent}_s{seed}" for seed in range(seeds)} <= cards.keys()

    assert {f"resnet20_dense_s{seed}" for seed in range(3)} <= cards.keys()
    ranked, others = (
        ("gmp", "acdc", "rigl1x"),
        ("woodfisher", "mfac", "str", "ltht", "magnitude", "structured", "rigl5x"),
    )
    assert all(has(method, 90, 3) for method in ranked) and all(has(method, 90) for method in others)
    assert all(has(m, p) for m in ("gmp", "woodfisher", "str", "acdc", "rigl1x", "ltht") for p in (80, 95))
    assert {"resnet20_acdc3x_90_s0", "resnet20_dense_smoothed_s0", "resnet20_acdc_smoothed_90_s0"} <= cards.keys()
    assert sum(file.stat().st_size for file in ZOO.iterdir()) < 15e6


def test_every_network_of_the_zoo_says_what_made_it(cards):
    for card in cards.values():
        made = card.provenance
        assert made.epochs == (
            36 if "3x" in card.name else 60 if "5x" in card.name else 0 if card.method == "Magnitude" else 12
        )
        assert (
            0.1 <= made.upstream_accuracy < 0.9
            and made.details["machine"]
            and not made.options["dataset"].startswith("/")
        )
        assert made.parents == () or made.parents[0] in {other.hash for other in cards.values()}


@pytest.mark.parametrize("name", ["resnet20_gmp_90_s0", "resnet20_structured_90_s0", "resnet20_dense_s2"])
def test_a_network_of_the_zoo_loads_with_its_mask_and_classifier(home, cards, name):
    backbone = backbones.load(home, name)
    assert backbone.sparsity == pytest.approx(cards[name].sparsity, abs=0.005)
    assert backbone.classifier[0].shape == (10, 64) and backbone.transform.crop == 32
    with torch.inference_mode():
        assert backbone.module(torch.zeros(1, 3, 32, 32)).shape == (1, 64)


@pytest.mark.parametrize("name", ["resnet20_acdc_90_s0", "resnet20_dense_s0"])
def test_a_digits_probe_meets_the_shipped_accuracies(tmp_path, shipped, name):
    rows = Store(Records(tmp_path)).results(source="shipped", datasets=["digits"], transfer="linear")
    recorded = rows[rows["network_name"] == name].set_index("seed")["accuracy_best"]
    result = run(tmp_path, Job("probe", ProbeSpec(name, "digits"), (0, 1)), lambda _: None)
    made = [Records(tmp_path).read(run_id).result["accuracy_best"] for run_id in result["runs"]]
    assert made == pytest.approx(recorded.loc[[0, 1]].tolist(), abs=0.015)  # processors differ in rounding


def test_every_network_of_the_zoo_has_its_structure(cards, home):
    known = {name: structure.recall_card(home, card) for name, card in cards.items()}
    assert all(known.values())
    backbone = backbones.load(home, "resnet20_acdc_90_s0")
    again = structure_analysis.analyse(backbone.module, 32)
    assert dataclasses.replace(again, hash=backbone.hash) == known["resnet20_acdc_90_s0"]
    packed, shapes = structure.load_mask(home, backbone.hash)
    kept = sum(packed_masks.count(bits) for bits in packed.values()) / sum(map(math.prod, shapes.values()))
    assert 1 - kept == pytest.approx(backbone.sparsity, abs=1e-6)


def test_the_shipped_speeds_are_timing_only_and_fill_the_page(shipped):
    records = measurements.shipped()
    rows = speed_tables.table(SHIPPED, records, {})
    inference, training = (rows[rows["mode"] == mode] for mode in ("inference", "training"))
    assert sorted(inference.loc[inference["engine"] == "deepsparse", "sparsity"]) == [0.8, 0.9, 0.95]
    assert set(rows["architecture"]) == {"resnet50"} and rows["timing_only"].all()
    assert set(inference["engine"]) == {"deepsparse", "onnxruntime", "torch"}
    published = store.published_rows()
    task = published[(published["dataset"] == "caltech101") & (published["transfer"] == "linear")]
    figure_4 = speed_tables.training_with_paper_accuracy(training, task)
    assert (figure_4["sparsity"] == 0.9).any() and figure_4["ratio"].gt(1).all()
    assert not any(record["spec"]["dataset"].startswith("/") for record in records)


def test_shipped_results_are_of_the_zoo_and_small(cards):
    rows = pd.read_parquet(store.SHIPPED_RESULTS)
    assert set(rows["network"]) <= {card.hash for card in cards.values()}
    assert rows["run_id"].is_unique and (rows["recipe"] != "").all()
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*.*")) < 7e6
    details = Records(SHIPPED)
    assert details.ids() == set(rows["run_id"])
    assert not any(record.spec["dataset"].startswith("/") for record in details.read_many(set(rows["run_id"][:50])))


def test_shipped_networks_of_one_recipe_are_joined(shipped, home):
    rows = measures.joined(Store(Records(home)).results(source="shipped", datasets=["digits"]))
    table = measures.per_configuration(rows)
    gmp = table[(table["method"] == "GMP") & (table["sparsity"] == 0.9) & (table["transfer"] == "linear")]
    assert gmp["networks"].tolist() == [3]
