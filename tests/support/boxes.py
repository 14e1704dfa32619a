"""Drawn images with boxes, and their annotations in three layouts."""

import json

import numpy as np
from PIL import Image, ImageDraw

NAMES = ["circle", "square"]
SIDE = 96


def drawn(number, side=SIDE):
    """A noisy image with one to three shapes, and its boxes: left, top, right, bottom, class."""
    generator = np.random.default_rng(number)
    image = Image.fromarray(generator.integers(0, 60, (side, side, 3), dtype=np.uint8))
    draw, boxes = ImageDraw.Draw(image), []
    for slot in generator.permutation(4)[: generator.integers(1, 4)]:
        size = int(generator.integers(side // 4, side // 2 - 4))
        left, top = (int(side // 2 * part + generator.integers(0, side // 2 - size)) for part in divmod(int(slot), 2))
        label = int(generator.integers(2))
        shape = draw.ellipse if label == 0 else draw.rectangle
        shape((left, top, left + size, top + size), fill=(230, 60, 60) if label == 0 else (60, 90, 230))
        boxes.append((left, top, left + size + 1, top + size + 1, label))
    return image, boxes


def voc(folder, count=8, tested=4, names=NAMES):
    """A folder in VOC's layout; the last ``tested`` images are for test."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        image, boxes = drawn(number)
        image.save(folder / "JPEGImages" / f"{number:03}.jpg", quality=95)
        (folder / "Annotations" / f"{number:03}.xml").write_text(voc_xml(f"{number:03}.jpg", image.size, boxes, names))
    numbers = [f"{number:03}" for number in range(count)]
    (folder / "ImageSets/Main/train.txt").write_text("\n".join(numbers[: count - tested]))
    (folder / "ImageSets/Main/test.txt").write_text("\n".join(numbers[count - tested :]))
    return folder


def voc_xml(name, size, boxes, names=NAMES, difficult=0):
    objects = "".join(
        f"<object><name>{names[label]}</name><difficult>{difficult}</difficult><bndbox><xmin>{left + 1}</xmin>"
        f"<ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        for left, top, right, bottom, label in boxes
    )
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    return f"<annotation><filename>{name}</filename>{sides}{objects}</annotation>"


def coco(folder, count=8, tested=4):
    """A folder in COCO's layout."""
    for split, numbers in (("train", range(count - tested)), ("val", range(count - tested, count))):
        (folder / split).mkdir(parents=True)
        document = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 7 + n, "name": name} for n, name in enumerate(NAMES)],
        }
        for number in numbers:
            image, boxes = drawn(number)
            image.save(folder / split / f"{number}.png")
            document["images"].append({"id": number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE})
            for left, top, right, bottom, label in boxes:
                box = [left, top, right - left, bottom - top]
                entry = {"id": len(document["annotations"]), "image_id": number, "bbox": box, "category_id": 7 + label}
                document["annotations"].append(entry)
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(document))
    return folder


def yolo(folder, count=8, tested=4):
    """A folder in YOLO's layout."""
    for split, numbers in (("train", range(count - tested)), ("val", range(count - tested, count))):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for number in numbers:
            image, boxes = drawn(number)
            image.save(folder / "images" / split / f"{number}.png")
            lines = [
                f"{label} {(left + right) / 2 / SIDE} {(top + bottom) / 2 / SIDE} {(right - left) / SIDE} {(bottom - top) / SIDE}"
                for left, top, right, bottom, label in boxes
            ]
            (folder / "labels" / split / f"{number}.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text("names: [circle, square]\n")
    return folder
