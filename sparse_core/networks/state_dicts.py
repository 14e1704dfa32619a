"""The names in state dicts, what does not fit among them, and the descriptions that projects store beside weights."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sparse_core.datasets import transforms
from sparse_core.datasets.transforms import Transform
from sparse_core.errors import InputError

NESTS = ("state_dict", "model_state_dict", "model", "model_state")  # where weights usually are, most usual first
MASK_NESTS = ("masks", "mask", "weight_masks", "mask_dict")
LISTED = 5  # names in a message
MAX_NAME = 500  # characters of a weight's name, far above any real one

# The classifier, under names that code of the field gives it.
HEAD = re.compile(r"(fc|linear|_fc|last_linear|classifier|head|heads|cls_head|output|logits)\d*\.")
NOISE = {"module", "_orig_mod"}  # what DataParallel and torch.compile put around a network
MASKS = {"_weight_mask": "weight", "_bias_mask": "bias", "weight_mask": "weight", "bias_mask": "bias"}
ORIGINALS = {"weight_orig": "weight", "bias_orig": "bias"}
_PLAIN_WORDS = re.compile(r"\w[\w .,/+&%()→-]{0,59}")  # no markup, no line breaks, nothing long


@dataclass(frozen=True)
class Misfit:
    """The keys that do not fit."""

    missing: list[str]
    extra: list[str]
    misshaped: list[str]

    def __len__(self) -> int:
        return len(self.missing) + len(self.extra) + len(self.misshaped)

    def kinds(self) -> dict[str, list[str]]:
        kinds = {"missing": self.missing, "unexpected": self.extra, "of another shape": self.misshaped}
        return {kind: keys for kind, keys in kinds.items() if keys}

    def summary(self) -> str:
        return "; ".join(f"{len(keys)} {kind} ({some(keys)})" for kind, keys in self.kinds().items())


class MisfitError(InputError):
    """Weights that do not fit an architecture. ``keys`` are all that are "missing", "unexpected" or "of another shape"; the
    message names the first of each."""

    def __init__(self, message: str, misfit: Misfit, advice: str = "") -> None:
        self.keys = misfit.kinds()
        if any(len(keys) > LISTED for keys in self.keys.values()):
            advice += " The dashboard's Library page lists them all."
        super().__init__(f"{message}: {misfit.summary()}.{advice}")


@dataclass(frozen=True)
class Hints:
    """Descriptions beside the weights: the dataset of the last training, the dataset before it, the method, the variant of the
    architecture, and how images are prepared. Only short texts without markup are used: pages show them."""

    dataset: str | None = None
    upstream: str | None = None
    method: str | None = None
    variant: str | None = None
    transform: Transform | None = None


class SeveralSetsError(InputError):
    """A file with several sets of weights, of which one has to be chosen: ``weight_sets``."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self.weight_sets = names
        super().__init__(
            f"{path.name} holds several sets of weights: {', '.join(names)}. Choose one: with --weights {names[0]} on the "
            "command line, or on the dashboard's Library page."
        )


def is_counter(key: str) -> bool:
    """Whether a tensor counts the batches that BatchNorm has seen."""
    return key.endswith("num_batches_tracked")


def some(keys: Iterable[object]) -> str:
    """The first few names, and how many more there are."""
    shown = [str(key)[:80].replace("\n", " ").replace("\0", "␀") for key in keys]
    more = f" and {len(shown) - LISTED} more" if len(shown) > LISTED else ""
    return ", ".join(shown[:LISTED]) + more


def hints_in(document: Mapping[Any, Any], known: Hints) -> Hints:
    """The descriptions in one dictionary of a file; what it does not say is as ``known`` from the dictionary around it."""
    texts: dict[str, str] = {}
    for place in (document, document.get("__metadata__"), document.get("model_config")):
        if isinstance(place, dict):
            plain = {key: value for key, value in place.items() if isinstance(value, str)}
            texts |= {key: value for key, value in plain.items() if _PLAIN_WORDS.fullmatch(value)}
    named = {name: texts[name] for name in ("dataset", "upstream", "method", "variant") if name in texts}
    metadata = document.get("__metadata__")
    transform = _transform(metadata.get("transform")) if isinstance(metadata, dict) else None
    return dataclasses.replace(known, **named, transform=transform or known.transform)


def _transform(text: Any) -> Transform | None:
    """The preprocessing that our own files state in their metadata (``networks.classifier``)."""
    if not isinstance(text, str) or len(text) > MAX_NAME:
        return None
    try:
        return transforms.from_document(json.loads(text))
    except (ValueError, RecursionError):
        return None


def renamed(found: Mapping[str, Tensor], names: Mapping[str, str], path: Path) -> dict[str, Tensor]:
    """The tensors under new names. Raises InputError where two get the same name."""
    origins: dict[str, str] = {}
    for key in found:
        first = origins.setdefault(names[key], key)
        if first != key:
            raise duplicate_name(path, names[key], first, key)
    return {names[key]: tensor for key, tensor in found.items()}


def duplicate_name(path: Path, name: str, first: str, second: str) -> InputError:
    """The error that two keys stand for one weight."""
    return InputError(f"{path.name} holds '{name}' twice, as '{first}' and as '{second}'. Save the one you mean alone.")
