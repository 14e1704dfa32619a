"""The document of ``inspect``: what a checkpoint file is, layer by layer."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sparse_core.datasets.transforms import Transform
from sparse_core.networks import architectures, channels, checkpoints, guesses, masks, preprocessing
from sparse_core.networks.checkpoints import Checkpoint
from sparse_core.networks.recognition import classifier_name
from sparse_core.networks.structure import filters_pruned_shares
from sparse_core.specs.checkpoints import InspectSpec
from sparse_core.specs.progress import Progress, Report

STATED = ("architecture", "variant", "classes", "method", "dataset", "upstream", "weights")
LISTED = ("formats", "notes", "weight_sets", "alternatives")


def run_inspect(home: Path, spec: InspectSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """The document of ``inspect`` for a checkpoint file."""
    report(Progress(f"Reading {Path(spec.path).name}"))
    return inspect(Path(spec.path), spec.architecture or None, spec.weights)


def inspect(path: str | Path, architecture: str | None = None, weights: str = "") -> dict[str, Any]:
    """Describe a file: its formats, architecture, number of parameters, and each weight's share of zeros. ``weights`` is the set
    that was read, of the ``weight_sets`` in a file that holds several; ``alternatives`` are architectures that fit equally well.

    ``sparsity`` is zeros over size of all convolution and linear weights, the classifier's included; ``backbone_sparsity``
    leaves it out; ``nominal_sparsity`` is the one that a file exported here states, else a round figure. Classes, method, dataset
    and upstream are None where the file does not name them. ``preprocessing`` is how an import prepares images unless told
    otherwise: as the file says (``preprocessing_stated``), else guessed. A layer's filters
    are its outputs, its channels its inputs; pruned are those whose weights are all 0. The two shares of pruned filters, in
    [0, 1], are over convolutions, the classifier left out: of all filters together, and the mean of the layers' shares.
    """
    checkpoint = checkpoints.read(path, architecture, weights)
    groups = {
        f"{name}.weight": layer.groups
        for name, layer in checkpoint.network().named_modules()
        if isinstance(layer, nn.Conv2d)
    }
    convolutions = [_layer(name, checkpoint.state[name], count) for name, count in groups.items()]
    layers = list(convolutions)
    last = _last_layers(checkpoint)
    parameters = sum(parameter.numel() for parameter in checkpoint.network().parameters())
    parameters += sum(tensor.numel() for tensor in (checkpoint.classifier or {}).values())
    layers += [_layer(name, weight, 1) for name, weight in last.items()]
    of_all, mean_of_layers = filters_pruned_shares([(each["filters_pruned"], each["filters"]) for each in convolutions])
    backbone = {name: checkpoint.state[name] for name in groups}
    backbone_sparsity = masks.network_sparsity(backbone).total
    return {
        **{name: getattr(checkpoint, name) for name in STATED},
        **{name: list(getattr(checkpoint, name)) for name in LISTED},
        "parameters": parameters,
        "sparsity": masks.network_sparsity({**backbone, **last}).total,
        "backbone_sparsity": backbone_sparsity,
        "nominal_sparsity": checkpoint.card.sparsity if checkpoint.card else guesses.nominal(backbone_sparsity),
        "preprocessing": _preprocessing(checkpoint, backbone_sparsity).document(),
        "preprocessing_stated": checkpoint.preprocessing is not None,
        "layers": layers,
        "filters_pruned_share": of_all,
        "mean_layer_filters_pruned_share": mean_of_layers,
    }


def _last_layers(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The weights of the classifier or of a detector's prediction layers, under their names and in their shapes in the file."""
    name, tensors = classifier_name(checkpoint.architecture), checkpoint.classifier or {}
    if checkpoint.classifier_shape:
        return {f"{name}.weight": tensors["weight"].view(checkpoint.classifier_shape)}
    return {f"{name}.m.{key}": tensor for key, tensor in tensors.items() if key.endswith("weight")}


def _preprocessing(checkpoint: Checkpoint, sparsity: float) -> Transform:
    """How an import of this file prepares images where the user says nothing about it."""
    architecture = checkpoint.architecture
    method = guesses.guess_method(checkpoint.method, sparsity)
    upstream = guesses.guess_upstream(checkpoint.dataset, checkpoint.upstream, checkpoint.classes, architecture)
    public = architectures.transform(architecture, checkpoint.variant)
    return checkpoint.preprocessing or preprocessing.guess(architecture, checkpoint.variant, method, upstream, public)


def _layer(name: str, weight: Tensor, groups: int) -> dict[str, Any]:
    """``weight`` is (filters, channels / groups, …)."""
    used, nonzero = channels.uses(weight, groups)
    return {
        "name": name,
        "shape": list(weight.shape),
        "sparsity": 1 - nonzero / weight.numel(),
        **channels.count_pruned(used),
    }
