"""Import a checkpoint file into the library: name it, describe it on a card, write it atomically."""

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from sparse_core.catalog import architecture_label
from sparse_core.errors import InputError
from sparse_core.networks import architectures, checkpoints, masks, preprocessing
from sparse_core.networks.checkpoints import Checkpoint
from sparse_core.networks.guesses import guess_method, guess_upstream, known_method, nominal
from sparse_core.networks.library import CLASSIFIER_FILE, BackboneCard, folder, read_card, require_free_name, sweep
from sparse_core.networks.masks import Mask
from sparse_core.paths import atomic_file, atomic_folder, require_space
from sparse_core.specs.checkpoints import ImportSpec
from sparse_core.specs.progress import Progress, Report


def run_import(home: Path, spec: ImportSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Import a checkpoint file; returns the backbone's card."""
    report(Progress(f"Importing {Path(spec.path).name}"))
    return dataclasses.asdict(add(home, **dataclasses.asdict(spec)))


def add(home: Path, path: str | Path, name: str, **stated: Any) -> BackboneCard:
    """Import the network in a checkpoint file under ``name``; returns its card.

    ``stated`` are other fields of ``ImportSpec``. What is left out comes from the file: ``architecture`` from its keys,
    ``method`` from its format, else "Dense" or "Unknown", nominal ``sparsity`` in [0, 1) from its zeros, ``upstream`` from
    its metadata or its number of classes, preprocessing from its metadata, else guessed. Raises InputError, and keeps
    nothing, on a malformed or used name, on Dense with a sparsity, and on a file that ``checkpoints.read`` refuses.
    """
    spec = ImportSpec(str(path), name, **stated)
    sweep(home)
    require_free_name(home, name)
    method = known_method(spec.method)
    if spec.sparsity is not None and not 0 <= spec.sparsity < 1:
        raise InputError(f"Expected a sparsity in [0, 1), such as 0.9; got {spec.sparsity}.")
    checkpoint = checkpoints.read(path, spec.architecture or None, spec.weights)
    if checkpoint.alternatives:
        labels = " and ".join(map(architecture_label, checkpoint.alternatives))
        raise InputError(
            f"The weights of {checkpoint.path.name} fit {labels}; the file does not tell which. Name "
            f"{' or '.join(checkpoint.alternatives)} as the architecture.",
            checkpoint.alternatives,
        )
    mask = checkpoint.full_mask()
    card = _card(checkpoint, mask, dataclasses.replace(spec, method=method or ""))
    if card.method == "Dense" and card.sparsity:
        raise InputError(
            f"Dense means sparsity 0, not {100 * card.sparsity:.3g} %. Give the pruning method of this network, or Unknown."
        )
    require_space(folder(home), 2 * checkpoint.size_bytes)
    return keep(home, card, checkpoint.state, checkpoint.classifier, mask)


def keep(
    home: Path, card: BackboneCard, state: Mapping[str, Tensor], classifier: Mapping[str, Tensor] | None, mask: Mask
) -> BackboneCard:
    """Write a backbone to the library, all of it or nothing; returns its card. ``state`` and ``classifier`` (weight, bias) hold
    contiguous tensors. Raises InputError if the name has been taken meanwhile."""
    with atomic_folder(folder(home) / card.name) as temporary:
        _write(temporary, card, state, classifier, mask)
    if read_card(folder(home) / card.name) != card:
        raise InputError(f"Another import created '{card.name}' at the same time. Choose another name.")
    return card


def _card(checkpoint: Checkpoint, mask: Mask, spec: ImportSpec) -> BackboneCard:
    architecture, variant, classes = checkpoint.architecture, checkpoint.variant, checkpoint.classes
    module = checkpoint.network()
    measured = masks.sparsity(module).total
    known = checkpoint.card
    figure = known.sparsity if known else nominal(measured)
    figure = figure if spec.sparsity is None else spec.sparsity
    differs = abs(figure - measured) > 0.05
    differing = [f"known as {100 * figure:.0f} % sparse, measured {100 * measured:.0f} %"] if differs else []
    upstream = spec.upstream or (known.upstream if known else "")
    upstream = upstream or guess_upstream(checkpoint.dataset, checkpoint.upstream, classes, architecture)
    method = spec.method or (known.method if known else guess_method(checkpoint.method, figure))
    public = architectures.transform(architecture, variant)
    guessed = checkpoint.preprocessing or preprocessing.guess(architecture, variant, method, upstream, public)
    transform = preprocessing.chosen(spec, guessed)
    content = architectures.content_hash(architecture, variant, module, mask, transform)
    return BackboneCard(
        name=spec.name,
        architecture=architecture,
        upstream=upstream,
        method=method,
        sparsity=figure,
        kind="library",
        note="; ".join([f"imported from {checkpoint.path.name}", *differing, *checkpoint.notes]),
        ready=True,
        variant=variant,
        origin=spec.origin or checkpoint.path.name,
        hash=content,
        measured_sparsity=measured,
        classes=classes,
        formats=checkpoint.formats,
        imported_at=datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds"),
        preprocessing=transform,
        provenance=known.provenance if known and known.hash == content else None,
    )


def _write(
    target: Path, card: BackboneCard, state: Mapping[str, Tensor], classifier: Mapping[str, Tensor] | None, mask: Mask
) -> None:
    _save(state, target / "weights.safetensors")
    if classifier:
        _save(classifier, target / CLASSIFIER_FILE)
    masks.save(mask, target / "mask.safetensors")
    (target / "card.json").write_text(json.dumps(dataclasses.asdict(card), indent=1), encoding="utf-8")


def _save(tensors: Mapping[str, Tensor], file: Path) -> None:
    with atomic_file(file) as temporary:
        save_file(dict(tensors), temporary, {"format": "pt"})
