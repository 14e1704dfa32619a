"""Images on a page: a sample of a dataset as the network gets it, and after a run those that were classified wrongly."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import streamlit as st

from pages.parts import choices, frame
from pages.parts.frame import home
from sparse_core.datasets import catalogue
from sparse_core.datasets.dataset import Dataset, Split
from sparse_core.datasets.transforms import Transform, prepare
from sparse_core.errors import InputError
from sparse_core.networks import library
from sparse_core.networks.library import BackboneCard
from sparse_core.results import predictions
from sparse_core.results.records import Record
from sparse_core.results.store import Store
from sparse_core.views import labels, runs

SHOWN = 24
SAMPLE = 12
WIDTH = 112  # pixels of the page
CELLS, LOST, WON = "cells", "lost", "won"


def sample(card: BackboneCard, dataset: str, image_size: int) -> None:
    """Some training images of a dataset, closed at first; ``image_size`` of 0 is the backbone's own."""
    part = st.expander("Images as the network sees them", key="look_before", on_change="rerun")
    if part.open:
        with part, frame.errors_as_messages():
            _sample(card.preprocessing.at(image_size) if image_size else card.preprocessing, dataset)


def _sample(transform: Transform, dataset: str) -> None:
    found = _opened(home(), dataset, checked=False)
    split, names = found.train, found.class_names
    rows = _one_of_each_class(split)
    st.caption(
        f"{len(rows)} of {len(split.labels):,} training images after the backbone's preprocessing "
        f"({transform.description}), without augmentation."
    )
    _show(split, rows, transform, [names[split.labels[row]] for row in rows])


def misclassified(store: Store, records: Sequence[Record]) -> None:
    """The test images that a run got wrong, by cell of its confusion matrix, and where it differs from the dense network."""
    part = st.expander("Misclassified images", key="look_after", on_change="rerun")
    if part.open:
        with part, frame.errors_as_messages():
            _misclassified(store, records)


def _misclassified(store: Store, records: Sequence[Record]) -> None:
    kept = [record for record in records if "predicted" in record.result]
    if not kept:
        st.info(
            "The predictions of this run were not kept: it comes with the product, or an earlier version made it. Make the same "
            "run here to see its images."
        )
        return
    by_seed = {record.spec["seed"]: record for record in kept}
    cells = runs.wrong_cells(kept)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        record = by_seed[st.selectbox("Seed", list(by_seed), key="look_seed", width=100)]
        dense = _dense_run(store, record)
        options = {CELLS: "Cells of the confusion matrix"}
        options |= {LOST: "Dense right, this network wrong", WON: "Dense wrong, this network right"} if dense else {}
        help_text = (
            None if dense else "Run the dense network with the same settings and seed to see where the two differ."
        )
        which = choices.choice("Images", "look_at", options, help_text, persist=None)
    data, predicted = _images_of(record), _predicted(record)
    truth = data.test.labels
    if which == CELLS:
        rows = _rows_of_cells(predicted, truth, cells)
    else:
        right, dense_right = predicted == truth, _predicted(dense) == truth if dense else predicted == truth
        rows = np.flatnonzero(dense_right & ~right if which == LOST else right & ~dense_right)
    shown = rows[:SHOWN]
    if len(rows) > len(shown):
        st.caption(f"The first {len(shown)} of {len(rows):,} images.")
    elif not len(rows):
        st.caption("There is no such image.")
    captions = [f"{data.class_names[truth[row]]}, predicted {data.class_names[predicted[row]]}" for row in shown]
    _show(data.test, shown, _transform(record), captions)


def _rows_of_cells(predicted: np.ndarray, truth: np.ndarray, cells: Mapping[tuple[int, int], str]) -> np.ndarray:
    """The rows of the ``cells``, by name, that the user chooses here or clicks in the matrix; at first of the most frequent."""
    wrong = np.flatnonzero(predicted != truth)
    of_row = [cells.get(cell, "") for cell in zip(truth[wrong].tolist(), predicted[wrong].tolist(), strict=True)]
    counts = dict.fromkeys(cells.values(), 0) | Counter(filter(None, of_row))
    if "look_cells" in st.session_state:  # may be of another run
        st.session_state["look_cells"] = [name for name in st.session_state["look_cells"] if name in counts]
    chosen = st.multiselect(
        "Cells",
        sorted(counts, key=lambda name: -counts[name]),
        default=max(counts, key=counts.__getitem__, default=None),
        format_func=lambda name: f"{name} ({labels.counted(counts[name], 'image')})",
        key="look_cells",
        placeholder="Choose a true and a predicted class, or click a cell of the confusion matrix",
        help="True class, predicted class, and how often with this seed: the most frequent confusion first.",
    )
    return wrong[np.array([name in chosen for name in of_row], dtype=bool)]


def _dense_run(store: Store, record: Record) -> Record | None:
    """The run of the dense network with the same images, protocol and seed, if there is one that kept its predictions."""
    found = runs.dense_baselines(store, [record])
    same = [dense for dense in found if dense.spec["seed"] == record.spec["seed"] and "predicted" in dense.result]
    return same[0] if same else None


def _predicted(record: Record) -> np.ndarray:
    return predictions.decode(
        record.result["predicted"], record.result["test_images"], len(record.result["class_names"])
    )


def _images_of(record: Record) -> Dataset:
    """The dataset of a run. Raises InputError if its images are not here as they were."""
    data = _opened(home(), record.spec["dataset"])
    if data.hash != record.spec["dataset_hash"] or len(data.test.labels) != record.result["test_images"]:
        raise InputError(
            "The images have changed since this run, so its predictions cannot be shown with them. Run it again."
        )
    return data


def _transform(record: Record) -> Transform:
    """How the run's images were prepared."""
    card = library.find(home(), record.spec["backbone"])
    if card is None:
        raise InputError(
            "The run's backbone is no longer in the library, so how its images were prepared is not known."
        )
    size = record.spec.get("image_size", 0)
    return card.preprocessing.at(size) if size else card.preprocessing


@st.cache_resource(show_spinner="Opening the images …", max_entries=4, ttl=600)
def _opened(folder: Path, dataset: str, checked: bool = True) -> Dataset:
    """A dataset that is on this machine; cached for a short while, so that moving through its images opens it once."""
    return catalogue.load_present(folder, dataset, checked=checked)


def _one_of_each_class(split: Split) -> list[int]:
    """The first image of up to ``SAMPLE`` classes, evenly over the classes."""
    firsts = np.unique(split.labels, return_index=True)[1]
    return firsts[np.linspace(0, len(firsts) - 1, min(SAMPLE, len(firsts))).astype(int)].tolist()


def _show(split: Split, rows: Iterable[int], transform: Transform, captions: Sequence[str]) -> None:
    images = [prepare(split.load(int(row)), transform) for row in rows]
    if images:
        plain = [frame.plain(caption) for caption in captions]
        st.image(images, caption=plain, width=WIDTH, alt=list(captions))
