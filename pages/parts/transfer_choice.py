"""The controls of Probe and Finetune that say what is transferred to what: one backbone and dataset, or a batch of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from pages.parts import box_data, choices, frame
from pages.parts.frame import home
from sparse_core.catalog import COARSEST, MAX_SIDE, MIN_SIDE, architecture_label
from sparse_core.datasets import catalogue
from sparse_core.datasets.catalogue import Summary
from sparse_core.errors import InputError
from sparse_core.jobs.kinds import transfer_kind
from sparse_core.networks import library
from sparse_core.networks.library import BackboneCard
from sparse_core.specs import sweep
from sparse_core.specs.identity import AnyRun
from sparse_core.specs.sweep import Plan, Task
from sparse_core.specs.training import VALIDATION_SHARE
from sparse_core.specs.transfer import DetectionSpec, ProbeSpec
from sparse_core.views import labels

BATCH_HELP = "Several backbones, datasets and seeds in one press, with the dense networks that they are compared with."
MIXED = "A batch has detectors or networks that classify images, not both: they take different data and have different metrics."
NO_DETECTORS = "Detectors have no features of a whole image to probe: finetune them."
BASELINE_HELP = "Adds the dense network of each architecture and upstream data, so that every result has its baseline."


@dataclass(frozen=True)
class Chosen:
    """Backbones, datasets by name or path, and the number of seeds; one of each unless it is a ``batch``."""

    backbones: tuple[BackboneCard, ...]
    datasets: tuple[str, ...]
    seeds: int
    batch: bool = False

    @property
    def detects(self) -> bool:
        """Whether it is a detector, with images that have boxes."""
        return self.backbones[0].is_detector

    def plan(self, name: str, make: Callable[[str, str], AnyRun]) -> Plan:
        """The runs as a sweep of that name, task by task, each with all backbones; ``make`` gives the spec for a backbone and a
        dataset."""
        specs = [make(card.name, dataset) for dataset in self.datasets for card in self.backbones]
        found: list[Task] = list(sweep.transfers(transfer_kind(specs[0]), specs, tuple(range(self.seeds))))
        return Plan(name, tuple(found))


def choose(seeds: int, seeds_help: str, detectors: bool) -> Chosen | None:
    """The controls (``seeds`` at first), with the ``detectors`` among the backbones or without; None while something is missing
    or wrong."""
    row = st.container(horizontal=True, vertical_alignment="bottom")
    chosen = row.container(horizontal=True, vertical_alignment="bottom", width="content")
    with row:
        batch = st.toggle("Batch", key="several", bind="query-params", help=BATCH_HELP)
    with chosen:
        cards, asked = _several(detectors) if batch else _one(detectors)
        count = st.number_input("Seeds", 1, 50, seeds, key="seeds", bind="query-params", width=110, help=seeds_help)
    for card in cards:
        if not card.ready:
            st.caption(f"{labels.backbone_label(card)}: {frame.plain(card.note)}.")
    detect = {card.is_detector for card in cards}
    if len(detect) > 1:
        st.error(MIXED)
        return None
    if True in detect:
        datasets = [each if box_data.look(each) else None for each in asked]
        if not asked:  # a message says what is missing
            return None
    else:
        datasets = [choices.resolve_dataset(each) for each in asked]
    if batch:
        cards = _with_baselines(cards)
    if not cards or not datasets:
        st.info("Choose at least one backbone and one dataset.")
        return None
    known = tuple(dataset for dataset in datasets if dataset)
    return Chosen(tuple(cards), known, int(count), batch) if len(known) == len(datasets) else None


def require_trainable(dataset: str, spec: AnyRun) -> None:
    """Raise InputError for what can be known of a dataset before the work starts."""
    if isinstance(spec, DetectionSpec):
        return  # ``box_data.look`` has opened it
    card = next((card for card in catalogue.available(home()) if card.id == dataset), None)
    if card and not card.ready:
        if card.kind == "folder":  # the caption above says where it belongs
            raise InputError(
                f"{card.name} is not on this machine and cannot be downloaded: put its images in place first."
            )
        return
    seen = summary(str(home()), dataset)
    if len(seen.class_names) < 2:
        raise InputError(f"A classifier needs at least two classes; {Path(dataset).name} has {len(seen.class_names)}.")
    held_out = round(VALIDATION_SHARE * seen.train / len(seen.class_names))
    if isinstance(spec, ProbeSpec) and spec.sweep_lr and not held_out:
        raise InputError(
            f"{seen.train} training images in {len(seen.class_names)} classes are too few to hold some out for a learning-rate "
            "sweep. Leave the sweep empty and give the learning rate."
        )


@st.cache_data(ttl=60, show_spinner=False, max_entries=20)
def summary(folder: str, dataset: str) -> Summary:
    """A first look at a dataset that is on this machine."""
    return catalogue.describe(Path(folder), dataset)


def image_size(chosen: Chosen) -> int:
    """The field for the side of the network's input; 0 while it is empty, which means the backbone's own."""
    crops = {card.preprocessing.crop for card in chosen.backbones}
    usual = f"a multiple of {COARSEST}" if chosen.detects else "224 in the paper, 32 for CIFAR networks"
    smallest = COARSEST if chosen.detects else MIN_SIDE
    value = st.number_input(
        "Image size (px)",
        smallest,
        MAX_SIDE,
        None,
        COARSEST if chosen.detects else 1,
        key="box_size" if chosen.detects else "size",
        bind="query-params",
        placeholder=f"{crops.pop()} (the backbone's own)" if len(crops) == 1 else "each backbone's own",
        help=f"Each side of the network's input: {usual}. Another size is another run.",
        width=330,
    )
    return int(value or 0)


def _one(detectors: bool) -> tuple[list[BackboneCard], list[str]]:
    cards = library.available(home()) if detectors else library.classifying(home())
    about = choices.IMPORT_HELP if detectors else f"{choices.IMPORT_HELP} {NO_DETECTORS}"
    settings: dict[str, Any] = {"persist_state": "session", "width": 330, "help": about}
    card = choices.backbone_choice(cards, index=choices.example(cards), **settings)
    dataset = box_data.dataset_choice() if card.is_detector else choices.dataset_choice()
    return [card], [dataset] if dataset else []


def _several(detectors: bool) -> tuple[list[BackboneCard], list[str]]:
    cards = library.available(home()) if detectors else library.classifying(home())
    by_name = {card.name: card for card in cards}
    names = {name: labels.backbone_label(card) for name, card in by_name.items()}
    first = [list(by_name)[choices.example(list(by_name.values()))]]
    chosen = choices.multiselect(
        "Backbones",
        list(names),
        default=first,
        format_func=names.__getitem__,
        key="backbones",
        width=520,
        help=choices.IMPORT_HELP,
    )
    found = [by_name[name] for name in chosen]
    detect = {card.is_detector for card in found}
    if len(detect) > 1:
        return found, []
    return found, box_data.dataset_choices() if True in detect else choices.dataset_choices()


def _with_baselines(cards: Sequence[BackboneCard]) -> list[BackboneCard]:
    """The cards, after the dense networks that they are compared with, unless the user wants none; says which these are."""
    detects = any(card.is_detector for card in cards)
    available = [card for card in library.available(home()) if card.is_detector == detects]
    found = {card.name: library.dense_baseline(card, available) for card in cards if card.method != "Dense"}
    with st.container(horizontal=True, vertical_alignment="center"):
        wanted = st.toggle("Dense baselines", True, key="baselines", bind="query-params", help=BASELINE_HELP)
        added = {dense.name: dense for dense in found.values() if dense and dense not in cards} if wanted else {}
        if added:
            names = ", ".join(labels.backbone_label(card) for card in added.values())
            st.caption(frame.plain(f"Added: {names}."), width="content")
    lacking = sorted({_kind_of(card) for card in cards if card.name in found and found[card.name] is None})
    for kind in lacking if wanted else ():
        st.caption(frame.plain(f"No baseline: there is no dense {kind} here. Import one, or make it on Sparsify."))
    return [*added.values(), *cards]


def _kind_of(card: BackboneCard) -> str:
    return f"{architecture_label(card.architecture)} from {card.upstream}"
