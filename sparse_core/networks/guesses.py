"""Guesses where a checkpoint file does not say: nominal sparsity, pruning method, upstream data. Needs no torch."""

import difflib
import re

from sparse_core.catalog import DETECTORS, METHODS, UNKNOWN, task_label
from sparse_core.errors import InputError, unknown_name
from sparse_core.networks.preprocessing import CIFAR_ARCHITECTURES

_USUAL_SPARSITIES = (0.5, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)


def nominal(sparsity: float) -> float:
    """The round figure for a measured sparsity in [0, 1): a usual one if close, else whole percent."""
    usual = min(_USUAL_SPARSITIES, key=lambda figure: abs(figure - sparsity))
    if abs(usual - sparsity) <= min(0.01, (1 - usual) / 4):
        return usual
    return min(round(sparsity, 2), 0.99)


def guess_method(stated: str | None, sparsity: float) -> str:
    """The method a file states, or Unknown if misspelled or dense and yet sparse. If it states none: Dense at a nominal
    sparsity of 0, else Unknown."""
    dense = nominal(sparsity) == 0
    try:
        method = known_method(stated) or ("Dense" if dense else UNKNOWN)
    except InputError:
        return UNKNOWN
    return UNKNOWN if method == "Dense" and not dense else method


def guess_upstream(dataset: str | None, upstream: str | None, classes: int | None, architecture: str) -> str:
    """The training data of a network: as its file states, else guessed from its number of classes. 10 or 100 classes
    mean CIFAR only for CIFAR architectures, 80 COCO for detectors; others may be finetuned on any dataset."""
    stated = [_dataset_label(name) for name in (upstream, dataset) if name]
    if stated:
        return stated[0] if stated[0].endswith(stated[-1]) else " → ".join(stated)
    if architecture in DETECTORS:
        return {80: "COCO"}.get(classes or 0, UNKNOWN)
    cifar = {10: "CIFAR-10", 100: "CIFAR-100"} if architecture in CIFAR_ARCHITECTURES else {}
    return {1000: "ImageNet", **cifar}.get(classes or 0, UNKNOWN)


def _dataset_label(name: str) -> str:
    label = "ImageNet" if name.lower() == "imagenet" else task_label(name.lower())
    return name if label == name.lower() else label


def known_method(method: str | None) -> str | None:
    """The method in the catalog's spelling, ignoring case and punctuation ("acdc" is AC/DC); other names are kept as
    given. Raises InputError on a name close to a known one, which is probably misspelled."""
    if not method:
        return None
    spelled = {_letters(name): name for name in METHODS}
    if _letters(method) in spelled:
        return spelled[_letters(method)]
    if difflib.get_close_matches(_letters(method), spelled, cutoff=0.7):
        raise unknown_name("method", method, METHODS)
    return method


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())
