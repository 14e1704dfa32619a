"""Images with boxes on a page: the control that chooses them, a first look, and boxes drawn over an image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image, ImageDraw, ImageFont

from pages.parts import choices, frame
from pages.parts.frame import home
from sparse_core.datasets import box_layouts, catalogue
from sparse_core.datasets.boxes import BoxDataset
from sparse_core.datasets.catalogue import DatasetCard
from sparse_core.errors import InputError
from sparse_core.specs.locations import absolute_dataset

KEY, SEVERAL_KEY, PATH_KEY = "boxes", "box_datasets", "boxes_path"
ABOUT = "Images with boxes, for detectors. Your own: VOC, COCO or YOLO layout."
OWN = "My own folder or COCO file"
TRUE, PREDICTED = "#0072B2", "#D55E00"  # blue and orange of the Okabe–Ito set
SAMPLE = 4
SIDE = 640  # pixels of the longer side of a drawn image
Row = Sequence[float]


def dataset_choice(
    label: str = "Dataset", about: str = ABOUT, key: str = KEY, path_key: str = PATH_KEY, *, needed: bool = True
) -> str | None:
    """The control for images with boxes: the id or the path of a dataset. While there is none, None with a message, or "" where
    it is not ``needed``."""
    cards = {card.id: card for card in catalogue.with_boxes(home())}
    chosen = choices.selectbox(
        label,
        [OWN, *cards],
        format_func=lambda name: _name(name, cards),
        key=key,
        persist_state="session",
        width=330,
        help=about,
    )
    return _path(path_key, needed) if chosen == OWN else chosen


def dataset_choices() -> list[str]:
    """The control for several datasets with boxes: ids and the path of the user's own; empty, with a message, while one is
    missing."""
    cards = {card.id: card for card in catalogue.with_boxes(home())}
    chosen = choices.multiselect(
        "Datasets",
        [OWN, *cards],
        default=[OWN],
        format_func=lambda name: _name(name, cards),
        key=SEVERAL_KEY,
        width=330,
        help=ABOUT,
    )
    if not chosen:
        st.info("Choose at least one dataset.")
    path = _path() if OWN in chosen else ""
    return [] if path is None else [*filter(None, [path]), *(name for name in chosen if name != OWN)]


def _name(name: str, cards: dict[str, DatasetCard]) -> str:
    return f"{cards[name].name}, {cards[name].classes} classes" if name in cards else name


def of_datasets(datasets: Sequence[str]) -> dict[str, Any]:
    """The values of the controls that choose several datasets, each given by name or path."""
    chosen = [of_dataset(dataset) for dataset in datasets]
    return {
        SEVERAL_KEY: [each[KEY] for each in chosen],
        **{key: each[key] for each in chosen for key in each if key != KEY},
    }


def of_dataset(dataset: str, key: str = KEY, path_key: str = PATH_KEY) -> dict[str, str]:
    """The values of the controls that choose a dataset, given by name or path."""
    if any(card.id == dataset for card in catalogue.with_boxes(home())):
        return {key: dataset}
    return {key: OWN, path_key: dataset}


def awaited(dataset: str) -> DatasetCard | None:
    """The card of a dataset that is downloaded at its first use and is not here yet; None for any other."""
    return next((card for card in catalogue.with_boxes(home()) if card.id == dataset and not card.ready), None)


def look(dataset: str) -> bool:
    """What the chosen images hold, and what is wrong with their labels; False, with a message, where they cannot be used."""
    card = awaited(dataset)
    if card:
        st.caption(f"{card.name}: {frame.plain(card.note)}.")
        return True
    try:
        data = opened(home(), dataset)
    except InputError as error:
        st.error(frame.plain(str(error)))
        return False
    counts = [f"{len(split.labels):,} with {split.labels.sum():,} boxes" for split in (data.train, data.test)]
    classes = "1 class" if len(data.class_names) == 1 else f"{len(data.class_names):,} classes"
    shown = ", ".join(data.class_names[:5]) + (" …" if len(data.class_names) > 5 else "")
    st.caption(
        frame.plain(
            f"{classes} ({shown}); training images: {counts[0]}, test images: {counts[1]}. Layout: {data.layout}."
        )
    )
    if data.notes:
        st.warning("  \n".join(map(frame.plain, data.notes)))
    return True


def sample(dataset: str) -> None:
    """Some training images with their boxes, closed at first."""
    if not awaited(dataset):
        part = st.expander("Training images with their boxes", key="boxes_before", on_change="rerun")
        if part.open:
            with part, frame.errors_as_messages():
                _sample(opened(home(), dataset))


def _sample(data: BoxDataset) -> None:
    rows = np.unique(np.linspace(0, len(data.train.labels) - 1, SAMPLE).astype(int)).tolist()
    for column, row in zip(st.columns(SAMPLE), rows, strict=False):
        boxes = data.train.boxes[row]
        truth = [
            [*corners, label] for corners, label in zip(boxes.corners.tolist(), boxes.labels.tolist(), strict=True)
        ]
        column.image(
            with_boxes(data.train.load(row), truth, [], data.class_names), caption=frame.plain(data.train.names[row])
        )


@st.cache_resource(show_spinner="Reading the annotations …", max_entries=2, ttl=300)
def opened(folder: Path, dataset: str) -> BoxDataset:
    """Images with boxes that are on this machine; cached for a while, so that moving through them opens them once."""
    return catalogue.load_boxes(folder, dataset, download=False)


def with_boxes(image: Image.Image, truth: Sequence[Row], predicted: Sequence[Row], names: Sequence[str]) -> Image.Image:
    """The image, its longer side ``SIDE`` pixels, with boxes (left, top, right, bottom, class and, of predictions, probability),
    which are in its own pixels: true ones in blue, named above; predicted ones in orange, named below."""
    scale = SIDE / max(image.size)
    drawn = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    draw, font = ImageDraw.Draw(drawn), ImageFont.load_default(14)
    for rows, colour in ((truth, TRUE), (predicted, PREDICTED)):
        for row in rows:
            left, top, right, bottom = (scale * each for each in row[:4])
            draw.rectangle((left, top, right, bottom), outline=colour, width=2)
            text = f"{names[int(row[4])]} {100 * row[5]:.0f} %" if len(row) > 5 else names[int(row[4])]
            place = (left + 2, max(top - 15, 0) if colour == TRUE else min(bottom - 16, drawn.height - 16))
            draw.rectangle(draw.textbbox(place, text, font=font), fill=colour)
            draw.text(place, text, fill="white", font=font)
    return drawn


def _path(key: str = PATH_KEY, needed: bool = True) -> str | None:
    what = "a folder of images with boxes (VOC, COCO or YOLO layout), or of a COCO file" if needed else ""
    dataset = choices.path_field(key, "/home/me/boxes", box_layouts.LAYOUTS, what)
    return absolute_dataset(dataset) if dataset else None if needed else ""
