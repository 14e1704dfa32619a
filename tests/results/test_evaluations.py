"""Records of evaluations: whole or not there, one a network and dataset, and which of them is the upstream accuracy."""

import json

import pytest

from sparse_core import stored
from sparse_core.errors import InputError
from sparse_core.results import evaluations
from tests.support.evaluations import evaluation


def test_a_new_evaluation_of_the_same_network_and_dataset_takes_the_place_of_the_old(home):
    first, again = evaluation(top1=0.5), evaluation(top1=0.6)
    others = [evaluation(dataset="imagenet-real"), evaluation("b" * 64), evaluation(dataset="mine")]
    others.append(evaluation(dataset="mine", dataset_hash="e" * 64))  # other content under the same name
    for record in (first, again, *others):
        evaluations.write(home, record)
    found = evaluations.read_all(home)
    assert len(found) == 5 and again in found and first not in found


def test_deleted_ones_come_back(home):
    record = evaluation()
    evaluations.write(home, record)
    evaluations.delete(home, record["id"])
    assert evaluations.read_all(home) == []
    evaluations.restore(home, record["id"])
    assert evaluations.read_all(home) == [record]
    for change in (evaluations.delete, evaluations.restore):
        with pytest.raises(InputError):
            change(home, "../../elsewhere")
    with pytest.raises(InputError, match="evaluation"):
        evaluations.delete(home, "unknown")


@pytest.mark.parametrize(
    "change",
    [
        {"top1": 1.5},
        {"top1": "high"},
        {"top1": None},
        {"mean_per_class": -0.1},
        {"parts": {"top-images": "high"}},
        {"images": 0},
        {"created_at": "yesterday"},
        {"id": "../x"},
        {"network": 7},
    ],
)
def test_invalid_records_are_neither_written_nor_read(home, change):
    record = evaluation(**change)
    with pytest.raises(InputError, match="Not an evaluation"):
        evaluations.write(home, record)
    assert not evaluations.folder(home).exists()
    good = evaluation("b" * 64)
    evaluations.write(home, good)
    bad = evaluations.folder(home) / "bad.json"
    bad.write_text(json.dumps(record))
    assert evaluations.read_all(home) == [good]
    assert "evaluations/bad.json" in stored.notes(home)


def test_a_renamed_record_is_left_out_and_fields_of_newer_versions_are_kept(home):
    record = evaluation(of_a_newer_version=1)
    evaluations.write(home, record)
    file = evaluations.folder(home) / f"{record['id']}.json"
    assert evaluations.read_all(home) == [record]
    file.rename(file.with_name("other.json"))
    assert evaluations.read_all(home) == []


@pytest.mark.parametrize(
    ("upstream", "dataset", "is_upstream"),
    [
        ("ImageNet", "imagenet", True),
        ("ImageNet", "imagenet-real", False),
        ("ImageNet", "imagenetv2", False),
        ("ImageNet", "cifar10", False),
        ("CIFAR-10 (JPEG copy)", "cifar10", True),
        ("ImageNet → CIFAR-10", "cifar10", True),
        ("ImageNet → CIFAR-10", "imagenet", False),
        ("Flowers at home", "Flowers at home", True),
        ("Unknown", "imagenet", True),
        ("Unknown", "Flowers at home", False),
        ("a local file", "cifar10", True),
    ],
)
def test_the_upstream_accuracy_is_that_on_the_data_trained_on_last(upstream, dataset, is_upstream):
    assert evaluations.is_upstream(evaluation(upstream=upstream, dataset=dataset)) is is_upstream


def test_the_pace_is_that_of_the_latest_evaluation_of_the_architecture():
    records = [evaluation(seconds=10.0), evaluation(seconds=50.0), evaluation(architecture="resnet18", seconds=1.0)]
    assert evaluations.seconds_per_image(records, "resnet50") == 0.05
    assert evaluations.seconds_per_image(records, "resnet20") is None
