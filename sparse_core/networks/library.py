"""The library: backbones that the user imported from checkpoint files, kept as safetensors. Listing needs no torch.

An entry is a folder ``library/<name>/`` with ``weights.safetensors`` (the backbone, under the names of ``models``),
``classifier.safetensors`` where the file had one, ``mask.safetensors`` (a bit a weight) and ``card.json``. It is written
whole or not at all; what a killed import leaves is swept after a day. A removed entry waits in ``library/.trash`` until it
is restored or the trash is emptied.
"""

import dataclasses
import difflib
import itertools
import json
import os
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparse_core.catalog import METHODS, task_label
from sparse_core.errors import InputError, unknown_name
from sparse_core.networks import uploads
from sparse_core.paths import atomic_folder, require_space
from sparse_core.specs.checkpoints import ImportSpec
from sparse_core.specs.progress import Progress, Report

if TYPE_CHECKING:
    from sparse_core.networks.checkpoints import Checkpoint
    from sparse_core.networks.masks import Mask

UNKNOWN = "Unknown"
WELL_KNOWN = (0.5, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
CIFAR_ARCHITECTURES = ("resnet20", "resnet32", "resnet44", "resnet56")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class BackboneCard:
    """What a backbone is. ``sparsity`` is nominal, 0..1; ``kind`` is offline, download, file or library; ``ready`` means
    that loading it needs no network. The rest is known of imported ones: ``variant`` of the architecture, ``origin`` in
    the user's words, ``hash`` of the content, ``measured_sparsity`` of its convolutions, classes it could tell,
    ``formats`` of its file, ``imported_at`` in UTC."""

    name: str
    architecture: str
    upstream: str
    method: str
    sparsity: float
    kind: str
    note: str
    ready: bool
    variant: str = ""
    origin: str = ""
    hash: str = ""
    measured_sparsity: float | None = None
    classes: int | None = None
    formats: tuple[str, ...] = ()
    imported_at: str = ""


def folder(home: Path) -> Path:
    """Where imported backbones lie."""
    return home / "library"


def cards(home: Path) -> list[BackboneCard]:
    """The imported backbones by name. Entries whose card cannot be read are left out."""
    _sweep(home)
    found = (_read_card(entry) for entry in _entries(folder(home)))
    return sorted((card for card in found if card is not None), key=lambda card: card.name.lower())


def run_import(home: Path, spec: ImportSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Put a checkpoint file into the library; returns the backbone's card."""
    report(Progress(f"Importing {Path(spec.path).name}"))
    card = add(
        home,
        Path(spec.path),
        spec.name,
        architecture=spec.architecture or None,
        method=spec.method or None,
        sparsity=spec.sparsity,
        upstream=spec.upstream or None,
        origin=spec.origin,
    )
    return dataclasses.asdict(card)


def add(
    home: Path,
    path: str | Path,
    name: str,
    *,
    architecture: str | None = None,
    method: str | None = None,
    sparsity: float | None = None,
    upstream: str | None = None,
    origin: str = "",
) -> BackboneCard:
    """Import the network in a checkpoint file under ``name``; returns its card.

    What is not given is taken from the file: ``architecture`` from its keys, ``method`` from its format, else "Dense" or
    "Unknown", nominal ``sparsity`` in [0, 1) from its zeros, ``upstream`` from what it names or its number of classes.
    Raises InputError on a name that is taken or no plain word, and whatever ``checkpoints.read`` refuses; nothing is kept then.
    """
    from sparse_core.networks import checkpoints

    _sweep(home)
    _check_name(home, name)
    method = _known_method(method)
    if sparsity is not None and not 0 <= sparsity < 1:
        raise InputError(f"A sparsity is a share in [0, 1), such as 0.9; got {sparsity}.")
    checkpoint = checkpoints.read(path, architecture)
    mask = checkpoint.full_mask()
    card = _card(checkpoint, mask, name, method, sparsity, upstream, origin)
    require_space(folder(home), 2 * checkpoint.size_bytes)
    with atomic_folder(folder(home) / name) as temporary:
        _write(temporary, checkpoint, mask, card)
    if _read_card(folder(home) / name) != card:
        raise InputError(f"The library got another '{name}' meanwhile. Choose another name.")
    return card


def read(home: Path, card: BackboneCard) -> tuple[Any, "Mask"]:
    """The network of a library card, in evaluation mode, and its mask. Raises InputError where the entry is damaged."""
    from sparse_core.networks import architectures, checkpoints, masks, weight_files

    entry = folder(home) / card.name
    try:
        document = weight_files.open_file(entry / "weights.safetensors").document
        state = checkpoints.owned({name: tensor for name, tensor in document.items() if name != "__metadata__"})
        module = architectures.assemble(card.architecture, card.variant, state).eval()
        mask = masks.load(entry / "mask.safetensors")
        damaged = architectures.content_hash(card.architecture, card.variant, module, mask) != card.hash
    except (InputError, RuntimeError, KeyError) as error:
        raise InputError(f"The library's '{card.name}' is damaged ({error}). Remove it and import it again.") from error
    if damaged:
        raise InputError(
            f"The library's '{card.name}' is damaged: its content is not what was imported. Remove it and import it again."
        )
    return module, mask


def remove(home: Path, name: str) -> None:
    """Move an imported backbone into the trash, from which ``restore`` brings it back."""
    if not _NAME.fullmatch(name) or not (folder(home) / name).is_dir():
        raise unknown_name("backbone of the library", name, [card.name for card in cards(home)])
    trash = folder(home) / ".trash"
    trash.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(trash / name, ignore_errors=True)
    os.rename(folder(home) / name, trash / name)


def restore(home: Path, name: str) -> BackboneCard:
    """Bring a removed backbone back. Raises InputError where the trash does not hold it or the name is taken anew."""
    trash = folder(home) / ".trash"
    if not _NAME.fullmatch(name) or not (trash / name).is_dir():
        raise InputError(f"Backbone '{name}' is not in the library's trash, so it cannot be restored.")
    if (folder(home) / name).exists():
        raise InputError(f"The library has another '{name}' by now. Remove that one first.")
    card = _read_card(trash / name)
    if card is None:
        raise InputError(f"The removed backbone '{name}' is damaged, so it cannot be restored.")
    os.rename(trash / name, folder(home) / name)
    return card


def removed(home: Path) -> list[str]:
    """The names that ``restore`` can bring back."""
    return sorted(entry.name for entry in _entries(folder(home) / ".trash"))


def empty_trash(home: Path) -> None:
    """Delete what was removed for good."""
    shutil.rmtree(folder(home) / ".trash", ignore_errors=True)


def nominal(sparsity: float) -> float:
    """The round figure a measured sparsity in [0, 1) is known by: a usual one close by, else whole percent."""
    usual = min(WELL_KNOWN, key=lambda figure: abs(figure - sparsity))
    if abs(usual - sparsity) <= min(0.01, (1 - usual) / 4):
        return usual
    return min(round(sparsity, 2), 0.99)


def guess_method(stated: str | None, sparsity: float) -> str:
    """The method a file states, Unknown where that is a slip; else Dense where nothing to speak of is pruned, else Unknown."""
    try:
        return _known_method(stated) or ("Dense" if nominal(sparsity) == 0 else UNKNOWN)
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


def free_name(home: Path, words: str) -> str:
    """A name that an import may take, made of ``words``; numbered where there is a backbone of that name already."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", words).lstrip("._-")[:60] or "backbone"
    taken = _taken(home)
    numbers = itertools.count(2)
    return (
        name
        if name.lower() not in taken
        else next(numbered for numbered in (f"{name}-{number}" for number in numbers) if numbered.lower() not in taken)
    )


def _card(
    checkpoint: "Checkpoint",
    mask: "Mask",
    name: str,
    method: str | None,
    sparsity: float | None,
    upstream: str | None,
    origin: str,
) -> BackboneCard:
    from sparse_core.networks import architectures, masks

    module = checkpoint.network()
    measured = masks.sparsity(module).total
    figure = nominal(measured) if sparsity is None else sparsity
    note = f"imported from {checkpoint.path.name}"
    if abs(figure - measured) > 0.05:
        note += f"; known as {100 * figure:.0f} % sparse, measured {100 * measured:.0f} %"
    note = "; ".join([note, *checkpoint.notes])
    return BackboneCard(
        name=name,
        architecture=checkpoint.architecture,
        upstream=upstream
        or guess_upstream(checkpoint.dataset, checkpoint.upstream, checkpoint.classes, checkpoint.architecture),
        method=method or guess_method(checkpoint.method, measured),
        sparsity=figure,
        kind="library",
        note=note,
        ready=True,
        variant=checkpoint.variant,
        origin=origin or checkpoint.path.name,
        hash=architectures.content_hash(checkpoint.architecture, checkpoint.variant, module, mask),
        measured_sparsity=measured,
        classes=checkpoint.classes,
        formats=checkpoint.formats,
        imported_at=datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds"),
    )


def _write(target: Path, checkpoint: "Checkpoint", mask: "Mask", card: BackboneCard) -> None:
    from safetensors.torch import save_file

    from sparse_core.networks import masks

    save_file(checkpoint.state, target / "weights.safetensors", {"format": "pt"})
    if checkpoint.classifier:
        save_file(checkpoint.classifier, target / "classifier.safetensors", {"format": "pt"})
    masks.save(mask, target / "mask.safetensors")
    (target / "card.json").write_text(json.dumps(dataclasses.asdict(card), indent=1), encoding="utf-8")


def _taken(home: Path) -> set[str]:
    """The names of all backbones there are, and of entries that cannot be read, in small letters."""
    from sparse_core.networks import backbones

    return {card.name.lower() for card in backbones.available(home)} | {
        entry.name.lower() for entry in _entries(folder(home))
    }


def _check_name(home: Path, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(
            f"A backbone's name is 1 to 64 letters, digits, dots, dashes and underscores and starts with a letter or digit; "
            f"got {name[:80]!r}."
        )
    if name.lower() in _taken(home):
        raise InputError(f"There is a backbone named '{name}' already. Choose another name, or remove that one first.")


def _known_method(method: str | None) -> str | None:
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


def _sweep(home: Path) -> None:
    """Remove what a killed import left: such folders are hidden and have a dot in their name, which the trash has not."""
    uploads.remove_old(folder(home).glob(".?*.*"))


def _entries(where: Path) -> list[Path]:
    if not where.is_dir():
        return []
    return [Path(entry.path) for entry in os.scandir(where) if entry.is_dir() and _NAME.fullmatch(entry.name)]


def _read_card(entry: Path) -> BackboneCard | None:
    try:
        document = json.loads((entry / "card.json").read_text(encoding="utf-8"))
        card = BackboneCard(**{**document, "formats": tuple(document["formats"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return card if card.name == entry.name else None
