"""What is guessed of a network whose file does not say: nominal sparsity, pruning method, upstream data. Needs no torch."""

import difflib
import re

from sparse_core.catalog import METHODS, UNKNOWN, task_label
from sparse_core.errors import InputError, unknown_name

WELL_KNOWN = (0.5, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
CIFAR_ARCHITECTURES = ("resnet20", "resnet32", "resnet44", "resnet56")


def nominal(sparsity: float) -> float:
    """The round figure a measured sparsity in [0, 1) is known by: a usual one close by, else whole percent."""
    usual = min(WELL_KNOWN, key=lambda figure: abs(figure - sparsity))
    if abs(usual - sparsity) <= min(0.01, (1 - usual) / 4):
        return usual
    return min(round(sparsity, 2), 0.99)


def guess_method(stated: str | None, sparsity: float) -> str:
    """The method a file states, Unknown where that is a slip; else Dense where nothing to speak of is pruned, else Unknown."""
    try:
        return known_method(stated) or ("Dense" if nominal(sparsity) == 0 else UNKNOWN)
    except InputError:
        return UNKNOWN


def guess_upstream(dataset: str | None, upstream: str | None, classes: int | None, architecture: str) -> str:
    """What a network was trained on: what its file names, else told from the number of its classes.

    Ten or a hundred classes tell of CIFAR only where the architecture was made for it: others are finetuned on anything.
    """
    named = [_dataset_label(name) for name in (upstream, dataset) if name]
    if named:
        return named[0] if named[0].endswith(named[-1]) else " → ".join(named)
    cifar = {10: "CIFAR-10", 100: "CIFAR-100"} if architecture in CIFAR_ARCHITECTURES else {}
    return {1000: "ImageNet", **cifar}.get(classes or 0, UNKNOWN)


def _dataset_label(name: str) -> str:
    """The name that people write, where the catalog knows it."""
    label = "ImageNet" if name.lower() == "imagenet" else task_label(name.lower())
    return name if label == name.lower() else label


def known_method(method: str | None) -> str | None:
    """The method as the catalog writes it, however its letters and digits are put down, as in "acdc". One that is close to a
    known one is taken for a slip and refused, others stand as given."""
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
