"""ImageNet's three label sets as they lie on disk: validation images in class folders, ReaL's json of label sets, and the three
folders of ImageNetV2. Imports no torch.

Sources: Beyer et al., "Are we done with ImageNet?", 2020 (ReaL); Recht et al., ICML 2019 (ImageNetV2, three samples).
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from sparse_core.datasets.dataset import Split
from sparse_core.datasets.folders import SUFFIXES, open_split
from sparse_core.errors import InputError

CLASSES = 1000
REAL_FILE = "real.json"
_V2_MARKS = {"matched-frequency": "matched", "threshold-0.7": "threshold", "top-images": "top"}
_VALIDATION_NUMBER = re.compile(r"val_0*(\d+)$")


def class_folders(folder: Path) -> list[Path]:
    """The 1,000 class folders below ``folder`` or below a folder ``val`` in it, in the order of their labels: by WordNet id, or
    numbered 0 to 999. Raises InputError for another number of them."""
    root = _root(folder)
    found = _folders(root)
    if len(found) != CLASSES:
        raise InputError(
            f"Expected {CLASSES:,} class folders in {root}, found {len(found)}. Give ImageNet's validation images."
        )
    numbered = all(entry.name.isdigit() for entry in found)
    return sorted(found, key=lambda entry: int(entry.name)) if numbered else found


def validation_split(folder: Path) -> Split:
    """ImageNet's validation images, or those of a part of ImageNetV2. Raises InputError where there are none."""
    root = _root(folder)
    files = [(file, label) for label, entry in enumerate(class_folders(folder)) for file in _images(entry)]
    if not files:
        raise InputError(f"The class folders in {root} hold no images.")
    return open_split(root, files)


def real_sets(folder: Path) -> list[frozenset[int]]:
    """ReaL's label set of each validation image, in the order of their numbers. Raises InputError for another file."""
    file = folder / REAL_FILE
    try:
        document = json.loads(file.read_bytes())
        return [frozenset(int(label) for label in labels) for labels in document]
    except FileNotFoundError:
        raise InputError(f"Expected ReaL's labels in {file}. Download real.json there.") from None
    except (ValueError, TypeError):
        raise InputError(f"Expected a JSON list of label lists in {file}; got something else.") from None


def real_split(folder: Path) -> tuple[Split, list[frozenset[int]]]:
    """The validation images that have a label, in class folders or all in one, and the label set of each; the split's own labels
    mean nothing. Raises InputError for images that are not numbered as ImageNet's."""
    sets, root = real_sets(folder), _root(folder)
    files, labels = [], []
    for file in [file for entry in (root, *_folders(root)) for file in _images(entry)]:
        number = _VALIDATION_NUMBER.search(file.stem)
        if not number or not 0 < int(number[1]) <= len(sets):
            raise InputError(
                f"{file.name} is not named as a validation image with labels, such as ILSVRC2012_val_00000001.JPEG."
            )
        if sets[int(number[1]) - 1]:
            files.append((file, 0))
            labels.append(sets[int(number[1]) - 1])
    if not files:
        raise InputError(f"There are no labelled images in {root}.")
    return open_split(root, files), labels


def v2_folders(folder: Path) -> dict[str, Path]:
    """The folder of each of ImageNetV2's three samples. Raises InputError where one is missing."""
    found = {}
    for name, mark in _V2_MARKS.items():
        places = [entry for entry in _folders(folder) if mark in entry.name.lower()]
        if len(places) != 1:
            raise InputError(f"Expected one folder of ImageNetV2's {name} images in {folder}, found {len(places)}.")
        found[name] = places[0]
    return found


def _root(folder: Path) -> Path:
    return folder / "val" if (folder / "val").is_dir() else folder


def _images(folder: Path) -> Sequence[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir())
