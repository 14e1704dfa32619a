"""The layouts of folders with boxes: VOC (XML), COCO (JSON), YOLO (text). Which one a folder has is told from its files.

- VOC: ``Annotations/*.xml``, ``JPEGImages/``, and the lists of ``ImageSets/Main`` where there are any. Pixels count from 1.
- COCO: one JSON file for each split, in ``annotations/`` or in the folder of the split; boxes are left, top, width, height.
- YOLO: ``images/`` and ``labels/``, with the splits within them or around them; a line is a class and the box's centre, width and
  height in shares of the image. The names of the classes come from a YAML file or ``classes.txt``.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from sparse_core.datasets.boxes import UNKNOWN_CLASS, Annotated, Annotations, annotated, split_by_seed
from sparse_core.datasets.contents import SPLITS, TEST, TRAIN, VALIDATION, is_litter, listed, role_of, split_note
from sparse_core.datasets.folders import SUFFIXES
from sparse_core.errors import InputError

LAYOUTS = "VOC (D/Annotations/*.xml with D/JPEGImages/), COCO (JSON files in D/annotations/) or YOLO (D/images/ with D/labels/)"
LARGEST = 1 << 30  # bytes of an annotation file
MOST_CLASSES = 10_000  # of YOLO's numbers: a larger one is no class
BY_SEED = "split by seed 0"

Splits = dict[str, list[Annotated]]
Row = tuple[float, float, float, float, int, bool]


def layout_of(path: Path) -> str:
    """The layout of a folder with boxes, or of a COCO file: voc, coco or yolo; "" for any other folder or file, and for a folder
    that cannot be read."""
    if path.is_file():
        return "coco" if path.suffix == ".json" else ""
    with suppress(OSError):
        if next((path / "Annotations").glob("*.xml"), None) and _has_images_of_voc(path):
            return "voc"
        if _coco_files(path):
            return "coco"
        return "yolo" if _yolo_folders(path) else ""
    return ""


def read(path: Path) -> Annotations:
    """The annotations of a folder or COCO file. Raises InputError where there are none, or where a file cannot be read."""
    readers: dict[str, Callable[[Path], Annotations]] = {"voc": _read_voc, "coco": _read_coco, "yolo": _read_yolo}
    layout = layout_of(path)
    if not layout:
        raise InputError(f"Expected images with boxes in {path}: {LAYOUTS}.")
    return readers[layout](path)


def _split(
    found: Splits, class_names: list[str], layout: str, files: list[Path], notes: Sequence[str] = ()
) -> Annotations:
    """The annotations with a training and a test split: as found, validation images in place of test images, else by seed."""
    tested = next((role for role in (TEST, VALIDATION) if found.get(role)), "")
    if found.get(TRAIN) and tested:
        train, test = found[TRAIN], found[tested]
        others = [role for role in found if role not in (TRAIN, tested)]
        used = split_note("train", "test" if tested == TEST else "val", others)
        return Annotations(class_names, train, test, f"{layout}, {TRAIN} and {tested} splits", files, (*notes, *used))
    everything = [each for images in found.values() for each in images]
    if len(everything) < 2:
        raise InputError(f"Expected at least two annotated images; got {len(everything)} ({layout}).")
    return Annotations(class_names, *split_by_seed(everything), f"{layout}, {BY_SEED}", files, tuple(notes))


def _read_voc(path: Path) -> Annotations:
    files = sorted(file for file in (path / "Annotations").glob("*.xml") if not is_litter(file.name))
    lists, notes = _voc_lists(path, {file.stem: file for file in files})
    return read_voc(lists, notes)


def read_voc(lists: Mapping[str, Sequence[Path]], notes: Sequence[str] = ()) -> Annotations:
    """The annotations in VOC's files, ``Annotations/*.xml`` below the folder of each, by split; the split "all" is divided."""
    files = [file for split in lists.values() for file in split]
    roots = {file: _xml(file) for file in files}
    trained = [roots[file] for file in lists.get(TRAIN, files)]
    class_names = sorted({_text(each, "name") for root in trained for each in root.iter("object")} - {""})
    numbers = {name: number for number, name in enumerate(class_names)}
    splits = {role: [_voc_image(file, roots[file], numbers) for file in split] for role, split in lists.items()}
    return _split(splits, class_names, "VOC", files, notes)


def _voc_lists(path: Path, known: Mapping[str, Path]) -> tuple[dict[str, list[Path]], list[str]]:
    """The annotation files of each split that ImageSets/Main lists, else of "all"; and a note on images that are listed
    without."""
    names = {name: _voc_list(path, name) for name in ("trainval", "train", "test", "val")}
    lists = {TRAIN: names["trainval"] or names["train"], TEST: names["test"]}
    if not lists[TEST]:  # trainval would hold the images of val
        lists = {TRAIN: names["train"], VALIDATION: names["val"]}
    lacking = [name for split in lists.values() for name in split if name not in known]
    notes = [f"{len(lacking):,} listed images have no annotation file and are left out: {listed(lacking)}."]
    splits = {role: [known[name] for name in split if name in known] for role, split in lists.items()}
    return splits if all(splits.values()) else {"all": list(known.values())}, notes[: len(lacking)]


def _voc_list(path: Path, name: str) -> list[str]:
    file = path / "ImageSets" / "Main" / f"{name}.txt"
    return [line.split()[0] for line in _read_text(file).splitlines() if line.strip()] if file.is_file() else []


def _voc_image(file: Path, root: ElementTree.Element, numbers: Mapping[str, int]) -> Annotated:
    rows: list[Row] = []
    for entry in root.iter("object"):
        box = entry.find("bndbox")
        left, top, right, bottom = (_number(None if box is None else box.findtext(side)) for side in _SIDES)
        label = numbers.get(_text(entry, "name"), UNKNOWN_CLASS)
        rows.append((left - 1, top - 1, right, bottom, label, _text(entry, "difficult") == "1"))
    size = root.find("size")
    width, height = (_number(None if size is None else size.findtext(side)) for side in ("width", "height"))
    return annotated(_voc_file(file, root), rows, _size(width, height))


_SIDES = ("xmin", "ymin", "xmax", "ymax")


def _has_images_of_voc(path: Path) -> bool:
    """Whether images stand where VOC has them; where they stand in a folder for each class, they are to be classified."""
    return (path / "JPEGImages").is_dir() or any(file.suffix.lower() in SUFFIXES for file in path.iterdir())


def _voc_file(file: Path, root: ElementTree.Element) -> Path:
    """The image of an annotation file: the one of its name, else the one that it states."""
    path = file.parent.parent
    folder = path / "JPEGImages" if (path / "JPEGImages").is_dir() else path
    own = next(
        (each for suffix in (".jpg", *sorted(SUFFIXES)) if (each := folder / f"{file.stem}{suffix}").is_file()), None
    )
    return own or folder / Path(_text(root, "filename") or f"{file.stem}.jpg").name


def _coco_files(path: Path) -> dict[str, list[Path]]:
    """The JSON files of boxes by split; the split "all" where the name says none."""
    places = [path / "annotations", path, *(path / name for name in _folders(path) if role_of(name))]
    found: dict[str, list[Path]] = {}
    for place in places:
        for file in sorted(place.glob("*.json")):
            if not is_litter(file.name) and _is_coco(file):
                words = re.findall(r"[a-z]+", file.stem.lower())
                role = next(filter(None, map(role_of, words)), "") or (role_of(place.name) if place != path else "")
                found.setdefault(role or "all", []).append(file)
    return found


def _is_coco(file: Path) -> bool:
    """Whether a JSON file begins as one with images and boxes; those of captions or keypoints are others."""
    if re.search(r"caption|keypoint|panoptic|stuff", file.name):
        return False
    with file.open("rb") as stream:
        start = stream.read(1 << 16)
    return start.lstrip()[:1] == b"{" and any(key in start for key in (b'"images"', b'"annotations"', b'"categories"'))


def _read_coco(path: Path) -> Annotations:
    files = {"all": [path]} if path.is_file() else _coco_files(path)
    root = path.parent if path.is_file() else path
    documents = {file: _json(file) for group in files.values() for file in group}
    categories, notes = _coco_categories(documents)
    numbers = {category: number for number, category in enumerate(sorted(categories))}
    splits = {
        role: [each for file in group for each in _coco_images(root, file, documents[file], numbers)]
        for role, group in files.items()
    }
    notes += [note for file, document in documents.items() for note in _coco_notes(file, document)]
    return _split(splits, [categories[each] for each in sorted(categories)], "COCO", list(documents), notes)


def _coco_categories(documents: Mapping[Path, Mapping[str, Any]]) -> tuple[dict[int, str], list[str]]:
    """The names of the classes by id, and a note for each id that has another name later on: the first counts."""
    categories: dict[int, str] = {}
    notes = {}
    for file, document in documents.items():
        for entry in document["categories"]:
            if isinstance(entry, dict) and isinstance(entry.get("id"), int):
                number, name = entry["id"], str(entry.get("name", entry["id"]))
                if categories.setdefault(number, name) != name:
                    notes[number] = (
                        f"Class {number} is '{categories[number]}', and '{name}' in {file.name}: the first counts."
                    )
    return categories, list(notes.values())


def _coco_notes(file: Path, document: Mapping[str, Any]) -> Iterator[str]:
    """What is left out of a file: boxes that belong to no image of it, and images whose id is listed before."""
    images, entries = _coco_entries(document)
    known = {str(each.get("id")) for each in images}
    lacking = sum(str(each.get("image_id")) not in known for each in entries)
    if lacking:
        yield f"Boxes of images that {file.name} does not list, left out: {lacking:,}."
    repeated = sum(isinstance(each, dict) for each in document["images"]) - len(images)
    if repeated:
        yield f"Images whose id {file.name} lists more than once, left out after the first: {repeated:,}."


def _coco_images(root: Path, file: Path, document: Mapping[str, Any], numbers: Mapping[int, int]) -> list[Annotated]:
    images, entries = _coco_entries(document)
    rows: dict[str, list[Row]] = {}
    for entry in entries:
        box = entry.get("bbox")
        values = box if isinstance(box, list) and len(box) == 4 else [None] * 4
        left, top, width, height = map(_number, values)
        category = entry.get("category_id")
        label = numbers.get(category, UNKNOWN_CLASS) if isinstance(category, int) else UNKNOWN_CLASS
        crowd = entry.get("iscrowd") == 1
        rows.setdefault(str(entry.get("image_id")), []).append((left, top, left + width, top + height, label, crowd))
    found = []
    for entry in images:
        name = entry.get("file_name")
        width, height = (_number(entry.get(side)) for side in ("width", "height"))
        if isinstance(name, str):
            image = _coco_image(root, file, name)
            found.append(annotated(image, rows.get(str(entry.get("id")), []), _size(width, height)))
    return found


def _coco_entries(document: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The images of a document, the first of each id, and its annotations."""
    images, entries = ([each for each in document[key] if isinstance(each, dict)] for key in ("images", "annotations"))
    first: dict[str, dict[str, Any]] = {}
    for place, image in enumerate(images):
        first.setdefault(str(image.get("id", f"none, {place}")), image)
    return list(first.values()), entries


def _coco_image(root: Path, file: Path, name: str) -> Path:
    """Where an image is: beside its JSON file, or in a folder named as the split is."""
    split = re.sub(r"^(instances|annotations)_", "", file.stem)
    places = [file.parent, root / split, root / "images" / split, root / "images", root, root / "train2017"]
    return next((place / name for place in places if (place / name).is_file()), file.parent / name)


def _yolo_folders(path: Path) -> dict[str, tuple[Path, Path]]:
    """The folders of images and labels by split; the split "all" where there is none."""
    if not path.is_dir():
        return {}
    found: dict[str, tuple[Path, Path]] = {}
    for name in _folders(path / "images") if (path / "images").is_dir() and (path / "labels").is_dir() else ():
        if role_of(re.sub(r"\d+$", "", name)) and (path / "labels" / name).is_dir():
            found.setdefault(role_of(re.sub(r"\d+$", "", name)), (path / "images" / name, path / "labels" / name))
    for name in _folders(path):
        if role_of(name) and (path / name / "images").is_dir() and (path / name / "labels").is_dir():
            found.setdefault(role_of(name), (path / name / "images", path / name / "labels"))
    if not found and (path / "images").is_dir() and next((path / "labels").glob("*.txt"), None):
        found["all"] = (path / "images", path / "labels")
    return found


def _read_yolo(path: Path) -> Annotations:
    folders = _yolo_folders(path)
    names, notes = _yolo_names(path)
    splits: Splits = {}
    files: list[Path] = []
    highest = -1
    for role, (images, labels) in folders.items():
        for image in sorted(
            file for file in images.iterdir() if file.suffix.lower() in SUFFIXES and not is_litter(file.name)
        ):
            label = labels / f"{image.stem}.txt"
            rows = _yolo_rows(label) if label.is_file() else []
            files += [label] if label.is_file() else []
            highest = max([highest, *(row[4] for row in rows)])
            splits.setdefault(role, []).append(annotated(image, rows, None, relative=True))
    if not names:
        names = [str(number) for number in range(highest + 1)]
        notes.append("No file names the classes (data.yaml or classes.txt): they are shown as numbers.")
    for each in (each for split in splits.values() for each in split):
        each.labels[each.labels >= len(names)] = UNKNOWN_CLASS
    return _split({role: splits[role] for role in (*SPLITS, "all") if role in splits}, names, "YOLO", files, notes)


def _yolo_rows(file: Path) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(_read_text(file).splitlines(), 1):
        if not line.strip():
            continue
        values = [_number(part) for part in line.split()]
        if len(values) < 5 or len(values) % 2 == 0 or not 0 <= values[0] < MOST_CLASSES or values[0] != int(values[0]):
            raise InputError(
                f"Line {number} of {file} is not a class number below {MOST_CLASSES:,} and four numbers from 0 to 1, or a "
                f"polygon's corners: '{line.strip()[:60]}'. Repair or remove it."
            )
        if len(values) > 5:  # the corners of a polygon
            x, y = values[1::2], values[2::2]
            rows.append((min(x), min(y), max(x), max(y), int(values[0]), False))
        else:
            centre_x, centre_y, half_width, half_height = values[1], values[2], values[3] / 2, values[4] / 2
            left, top = centre_x - half_width, centre_y - half_height
            rows.append((left, top, centre_x + half_width, centre_y + half_height, int(values[0]), False))
    return rows


def _yolo_names(path: Path) -> tuple[list[str], list[str]]:
    """The names of the classes, none where no file has them; and notes."""
    for file in sorted([*path.glob("*.yaml"), *path.glob("*.yml")]):
        try:
            document = yaml.safe_load(_read_text(file))
        except (yaml.YAMLError, RecursionError) as error:
            raise InputError(f"{file} is no YAML that can be read. Repair it, or remove it.") from error
        names = document.get("names") if isinstance(document, dict) else None
        if isinstance(names, dict) and all(isinstance(key, int) and key < MOST_CLASSES for key in names):
            return [str(names.get(number, number)) for number in range(max(names, default=-1) + 1)], []
        if isinstance(names, list) and names:
            return [str(name) for name in names], []
    for name in ("classes.txt", "obj.names", "labels/classes.txt"):
        if (path / name).is_file():
            return [line.strip() for line in _read_text(path / name).splitlines() if line.strip()], []
    return [], []


def _folders(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not is_litter(entry.name))


def _number(value: Any) -> float:
    """The value as a number; NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _size(width: float, height: float) -> tuple[int, int] | None:
    """Width and height in pixels; None where they are none."""
    return (int(width), int(height)) if 0 < width < math.inf and 0 < height < math.inf else None


def _text(entry: ElementTree.Element, name: str) -> str:
    return (entry.findtext(name) or "").strip()


def _xml(file: Path) -> ElementTree.Element:
    text = _read_text(file)
    if "<!ENTITY" in text or "<!DOCTYPE" in text:
        raise InputError(f"{file} declares a document type, which annotations need not; it was not read.")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(
            f"{file} is no XML that can be read ({error}). Repair it, or remove it with its image."
        ) from error


def _json(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(_read_text(file))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is no JSON that can be read ({str(error)[:80]}). Copy it again.") from error
    lists = document if isinstance(document, dict) else {}
    lacking = [key for key in ("images", "annotations", "categories") if not isinstance(lists.get(key), list)]
    if lacking:
        raise InputError(f"{file} is no COCO file of boxes: it has no list of {' and '.join(lacking)}.")
    return document


def _read_text(file: Path) -> str:
    try:
        if file.stat().st_size > LARGEST:
            raise InputError(f"{file} has more than {LARGEST >> 30} GB, far more than annotations need.")
        return file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}). Make it readable, or remove it.") from error
