"""The paper's table 3 from records of evaluations, and upstream accuracies for the charts."""

import numpy as np
import pandas as pd
import pytest

from sparse_core.results import evaluations
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.speed import network_facts
from sparse_core.views import columns
from sparse_core.views.evaluations import dataset_label, name, shown_columns, table
from tests.support import damage
from tests.support.evaluations import evaluation
from tests.support.made import add_made
from tests.support.networks import pruned_file

PARTS = {"matched-frequency": 0.6, "threshold-0.7": 0.7, "top-images": 0.8}


def test_a_row_for_each_network_a_column_for_each_dataset():
    one, two = "1" * 64, "2" * 64
    records = [
        evaluation(one, top1=0.75, images=50000),
        evaluation(one, "imagenet-real", 0.82, images=46837, created_at="2026-11-27T12:00:00+00:00"),
        evaluation(one, "imagenetv2", 0.7, images=30000, parts=PARTS),
        evaluation(two, "cifar10", 0.9, method="Dense", sparsity=0.0, images=10000),
    ]
    found = table(records)
    assert found["method"].tolist() == ["Dense", "AC/DC"]
    dense, sparse = found.iloc[0], found.iloc[1]
    assert (sparse["imagenet"], sparse["imagenet-real"], sparse["imagenetv2"]) == (0.75, 0.82, 0.7)
    assert {part: sparse[part] for part in PARTS} == PARTS
    assert np.isnan(sparse["cifar10"]) and np.isnan(dense["imagenet"]) and dense["cifar10"] == 0.9
    assert sparse["images_of"] == "ImageNet 50,000; ImageNetV2 30,000; ReaL 46,837"
    assert sparse["evaluated_at"] == pd.Timestamp("2026-11-27 12:00")
    shown = shown_columns(found)
    assert set(shown) <= set(found) and not set(PARTS) & set(shown)
    assert columns.for_display(found)["imagenet"].iloc[1] == 75.0


def test_own_datasets_have_columns_of_their_own():
    records = [
        evaluation(dataset="flowers at home", top1=0.5),
        evaluation(dataset="garden", dataset_hash="abcdef" + "0" * 58, top1=0.6),
        evaluation(dataset="garden", dataset_hash="123456" + "0" * 58, top1=0.7),
    ]
    found = table(records)
    assert len(found) == 1
    row = found.iloc[0]
    assert row["on flowers at home"] == 0.5
    assert (row["on garden (abcdef)"], row["on garden (123456)"]) == (0.6, 0.7)
    assert columns.column("on flowers at home").title == "flowers at home (%)"
    assert "on flowers at home" in shown_columns(found)
    assert table([]).empty


def test_names_in_words():
    assert dataset_label("imagenet-real") == "ReaL" and dataset_label("/home/me/garden") == "garden"
    assert dataset_label("digits") == "Digits"
    assert name(evaluation(dataset="cifar10", images=10000)) == "mine on CIFAR-10, 10,000 images"


def test_kept_upstream_accuracies_join_where_the_product_has_none(home, tmp_path):
    """A network made here has that of its training; another network that of its evaluation on what it was trained on."""
    spec = SparsifySpec("GMP", sparsity=0.9, backbone="resnet20", dataset="cifar10")
    add_made(home, pruned_file(tmp_path / "net.pth", 0.5), "made", spec, accuracy=0.9)
    known = network_facts.own_upstream(home).iloc[0]
    for record in (
        evaluation(known["network"], "Digits", 0.01, upstream="Digits"),
        evaluation("3" * 64, "imagenet-real", 0.8),
        evaluation("3" * 64, "imagenet", 0.7),
        evaluation("4" * 64, "imagenetv2", 0.6),
    ):
        evaluations.write(home, record)
    found = network_facts.own_upstream(home).set_index("network")["upstream_accuracy"]
    assert found.to_dict() == {known["network"]: 0.9, "3" * 64: 0.7}


@pytest.mark.parametrize("way", damage.FIELDS)
def test_a_changed_field_breaks_no_table(home, way):
    """Whatever is read can be shown, and the healthy record beside it still is."""
    evaluations.write(home, evaluation("1" * 64, "imagenetv2", parts=PARTS))
    file = evaluations.folder(home) / f"{evaluation('2' * 64, 'imagenetv2')['id']}.json"
    evaluations.write(home, evaluation("2" * 64, "imagenetv2", parts=PARTS))
    texts = list(damage.variants(file, damage.FIELDS[way]))
    assert len(texts) > 15
    for text in texts:
        file.write_text(text)
        records = evaluations.read_all(home)
        assert "1" * 64 in table(records)["network"].to_list()
        assert all(name(record) for record in records)
        network_facts.own_upstream(home)
