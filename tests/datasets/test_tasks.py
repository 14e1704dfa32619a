"""The tasks of the paper: torchvision's downloads and folders put in place by hand."""

import inspect
import re
from pathlib import Path

import pytest
from torchvision import datasets

from sparse_core.datasets import catalogue, tasks
from tests.support.images import image, image_folder
from tests.support.refusals import refused


def test_the_split_of_sun397_is_independent_of_the_order_of_the_disk(home, monkeypatch):
    root = home / "datasets" / "sun397" / "SUN397"
    for letter, name in (("a", "abbey"), ("b", "bar")):
        (root / letter / name).mkdir(parents=True)
        for index in range(8):
            image(10 * index).save(root / letter / name / f"sun_{index}.jpg")
    (root / "ClassName.txt").write_text("/a/abbey\n/b/bar\n")
    found = list(Path.rglob(root, "sun_*.jpg"))
    rglob = Path.rglob
    loaded = []
    for listed in (found, found[::-1]):
        monkeypatch.setattr(
            Path,
            "rglob",
            lambda self, pattern, listed=listed: listed if pattern.startswith("sun") else rglob(self, pattern),
        )
        loaded.append(catalogue.load(home, "sun397"))
    first, second = (
        [(int(label), dataset.train.load(row).getpixel((0, 0))) for row, label in enumerate(dataset.train.labels)]
        for dataset in loaded
    )
    assert first == second
    assert [label for label, _ in first] == [0] * 4 + [1] * 4


def test_a_task_from_folders(home):
    image_folder(home / "datasets" / "birds" / "train", {"a": 3, "b": 3})
    image_folder(home / "datasets" / "birds" / "test", {"a": 3, "b": 3})
    assert catalogue.load(home, "birds").class_names == ["a", "b"]
    assert {card.id: card.ready for card in catalogue.available(home)}["birds"]


def test_a_failed_download_is_reported_in_one_line_and_leaves_nothing(home, monkeypatch):
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/none.tar.gz")
    refused(catalogue.load, home, "cifar10", match=r"Could not download CIFAR-10 .*train/CLASS")
    assert not list((home / "datasets").iterdir())


@pytest.mark.parametrize("name", tasks.DOWNLOADS)
def test_torchvision_still_has_the_private_names(name):
    """The names are in ``tasks.LABELS`` and ``tasks.FILES``: adapt them when this fails after an update of torchvision."""
    made_by = getattr(datasets, tasks.DOWNLOADS[name][0])
    source = "".join(inspect.getsource(kind) for kind in made_by.__mro__ if kind.__module__.startswith("torchvision"))
    names = [tasks.LABELS.get(name, tasks.OTHER_LABELS), *([tasks.FILES[name]] if name in tasks.FILES else [])]
    gone = [attribute for attribute in names if not re.search(rf"self\.{attribute}\b[^=\n]* = ", source)]
    assert not gone, (
        f"torchvision's {made_by.__name__} no longer sets {gone}, which sparse_core/datasets/tasks.py reads"
    )
