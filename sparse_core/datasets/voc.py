"""PASCAL VOC with the splits of the paper's section 4, downloaded by torchvision: trainval of 2007 and 2012 (16,551 images) for
training, test of 2007 (4,952). Its files are in ``home/datasets/voc``, in torchvision's own layout."""

import dataclasses
from pathlib import Path

from sparse_core.catalog import BOX_TASKS, VOC
from sparse_core.datasets import box_layouts, boxes
from sparse_core.datasets.boxes import BoxDataset
from sparse_core.datasets.contents import TEST, TRAIN
from sparse_core.datasets.local_files import content_hash, laid_out_by_torchvision
from sparse_core.errors import InputError
from sparse_core.paths import atomic_folder

LISTS = {TRAIN: (("2007", "trainval"), ("2012", "trainval")), TEST: (("2007", "test"),)}  # year and list
SPLIT = "the paper's split: trainval 2007 and 2012 against test 2007"
SIZE = "2.8 GB"


def folder(home: Path) -> Path:
    """Where its files are or belong."""
    return home / "datasets" / VOC


def open_voc(home: Path, *, download: bool) -> BoxDataset:
    """The dataset. Raises InputError where it is not on disk and cannot or must not be downloaded."""
    place, name = folder(home), BOX_TASKS[VOC]
    if not place.is_dir():
        if not download:
            raise InputError(f"{name} is not downloaded yet; this happens when the run starts.")
        _download(place)
    with laid_out_by_torchvision(name, place):
        found = _annotations(place)
    images = [each.image for each in (*found.train, *found.test)]
    content = content_hash(home, place, sorted({file for file in (*images, *found.files) if file.is_file()}))
    return dataclasses.replace(boxes.dataset(VOC, place, found, content), task=VOC)


def _annotations(place: Path) -> boxes.Annotations:
    lists = {
        split: [Path(file) for year, name in parts for file in _annotation_files(place, year, name)]
        for split, parts in LISTS.items()
    }
    return dataclasses.replace(box_layouts.read_voc(lists), layout=SPLIT)


def _download(place: Path) -> None:
    with atomic_folder(place) as temporary:
        try:
            for year, name in (each for parts in LISTS.values() for each in parts):
                _annotation_files(temporary, year, name, download=True)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"Could not download {BOX_TASKS[VOC]} ({error}). Without a network, put its folder VOCdevkit into {place}, or "
                "give the path of a folder with boxes of your own."
            ) from error
        for archive in temporary.glob("*.tar"):  # the same images again
            archive.unlink()


def _annotation_files(place: Path, year: str, name: str, *, download: bool = False) -> list[str]:
    """The annotation files of one of VOC's lists."""
    from torchvision.datasets import VOCDetection

    return VOCDetection(str(place), year=year, image_set=name, download=download).annotations
