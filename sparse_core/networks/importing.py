"""Import a checkpoint file into the library: name it, describe it on a card, write it atomically."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from sparse_core.errors import InputError
from sparse_core.networks import architectures, checkpoints, masks
from sparse_core.networks.checkpoints import Checkpoint
from sparse_core.networks.guesses import guess_method, guess_upstream, known_method, nominal
from sparse_core.networks.library import BackboneCard, folder, read_card, require_free_name, sweep
from sparse_core.networks.masks import Mask
from sparse_core.paths import atomic_folder, require_space
from sparse_core.specs.checkpoints import ImportSpec
from sparse_core.specs.progress import Progress, Report


def run_import(home: Path, spec: ImportSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Import a checkpoint file; returns the backbone's card."""
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

    Defaults come from the file: ``architecture`` from its keys, ``method`` from its format, else "Dense" or "Unknown",
    nominal ``sparsity`` in [0, 1) from its zeros, ``upstream`` from its metadata or its number of classes.
    Raises InputError, and keeps nothing, on a malformed or used name and on a file that ``checkpoints.read`` refuses.
    """
    sweep(home)
    require_free_name(home, name)
    method = known_method(method)
    if sparsity is not None and not 0 <= sparsity < 1:
        raise InputError(f"Expected a sparsity in [0, 1), such as 0.9; got {sparsity}.")
    checkpoint = checkpoints.read(path, architecture)
    mask = checkpoint.full_mask()
    card = _card(checkpoint, mask, name, method, sparsity, upstream, origin)
    require_space(folder(home), 2 * checkpoint.size_bytes)
    with atomic_folder(folder(home) / name) as temporary:
        _write(temporary, checkpoint, mask, card)
    if read_card(folder(home) / name) != card:
        raise InputError(f"Another import created '{name}' at the same time. Choose another name.")
    return card


def _card(
    checkpoint: Checkpoint,
    mask: Mask,
    name: str,
    method: str | None,
    sparsity: float | None,
    upstream: str | None,
    origin: str,
) -> BackboneCard:
    module = checkpoint.network()
    measured = masks.sparsity(module).total
    figure = nominal(measured) if sparsity is None else sparsity
    differs = abs(figure - measured) > 0.05
    differing = [f"known as {100 * figure:.0f} % sparse, measured {100 * measured:.0f} %"] if differs else []
    return BackboneCard(
        name=name,
        architecture=checkpoint.architecture,
        upstream=upstream
        or guess_upstream(checkpoint.dataset, checkpoint.upstream, checkpoint.classes, checkpoint.architecture),
        method=method or guess_method(checkpoint.method, measured),
        sparsity=figure,
        kind="library",
        note="; ".join([f"imported from {checkpoint.path.name}", *differing, *checkpoint.notes]),
        ready=True,
        variant=checkpoint.variant,
        origin=origin or checkpoint.path.name,
        hash=architectures.content_hash(checkpoint.architecture, checkpoint.variant, module, mask),
        measured_sparsity=measured,
        classes=checkpoint.classes,
        formats=checkpoint.formats,
        imported_at=datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds"),
    )


def _write(target: Path, checkpoint: Checkpoint, mask: Mask, card: BackboneCard) -> None:
    save_file(checkpoint.state, target / "weights.safetensors", {"format": "pt"})
    if checkpoint.classifier:
        save_file(checkpoint.classifier, target / "classifier.safetensors", {"format": "pt"})
    masks.save(mask, target / "mask.safetensors")
    (target / "card.json").write_text(json.dumps(dataclasses.asdict(card), indent=1), encoding="utf-8")
