"""A backbone with a classifier, and its safetensors file, whose metadata suffices to use the network.

The file holds the backbone's weights under their own names and the classifier as ``fc.weight`` and ``fc.bias``. Its metadata
holds the architecture, the class names, the image transform, and the training data: ``dataset`` is the last one,
``upstream`` lists all from first to last, such as "ImageNet → CIFAR-10".
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sparse_core.catalog import task_label
from sparse_core.datasets import transforms
from sparse_core.networks import architectures
from sparse_core.networks.backbones import Backbone
from sparse_core.networks.masks import Mask
from sparse_core.paths import atomic_file

CLASSIFIER = "fc"


class ClassifierNetwork(nn.Module):
    """Images (N, 3, H, W) to logits (N, C): ``body`` gives features (N, D), ``classifier`` is linear. ``weight`` (C, D)
    and ``bias`` (C,) are used without copying."""

    def __init__(self, body: nn.Module, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        classes, dimensions = weight.shape
        self.body = body
        self.classifier = nn.Linear(dimensions, classes, device="meta")
        self.classifier.weight, self.classifier.bias = nn.Parameter(weight), nn.Parameter(bias)

    @property
    def classes(self) -> int:
        """C."""
        return self.classifier.out_features

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.body(images))


def metadata(backbone: Backbone, class_names: list[str], dataset: str) -> dict[str, str]:
    """What the file of a finetuned network says of it: see above."""
    label = task_label(dataset)
    return {
        "format": "pt",
        "architecture": backbone.card.architecture,
        "variant": backbone.variant,
        "method": backbone.card.method,
        "class_names": json.dumps(class_names),
        "transform": json.dumps(dataclasses.asdict(backbone.transform)),
        "dataset": label,
        "upstream": f"{backbone.card.upstream} → {label}",
    }


def save(network: ClassifierNetwork, backbone: Backbone, class_names: list[str], target: Path, dataset: str) -> None:
    """Write a finetuned network atomically. ``dataset`` is the data it was finetuned on, as results list it."""
    body = {name: tensor.contiguous() for name, tensor in network.body.state_dict().items()}
    classifier = {f"{CLASSIFIER}.{name}": tensor for name, tensor in network.classifier.state_dict().items()}
    with atomic_file(target) as temporary:
        save_file({**body, **classifier}, temporary, metadata(backbone, class_names, dataset))


def load(source: Path) -> tuple[ClassifierNetwork, dict[str, Any]]:
    """The network written by ``save``, in evaluation mode, and its metadata: ``class_names`` is a list of str,
    ``transform`` a Transform."""
    with safe_open(source, "pt") as tensors:
        metadata: dict[str, Any] = dict(tensors.metadata())
        state = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    metadata["class_names"] = json.loads(metadata["class_names"])
    metadata["transform"] = transforms.from_document(json.loads(metadata["transform"]))
    body = architectures.build(metadata["architecture"], metadata["variant"])
    network = ClassifierNetwork(body, state.pop(f"{CLASSIFIER}.weight"), state.pop(f"{CLASSIFIER}.bias"))
    body.load_state_dict(state)
    return network.eval(), metadata


def violations(source: Path, mask: Mask) -> int:
    """The number of pruned weights that are not exactly 0 in a file written by ``save``."""
    with safe_open(source, "pt") as tensors:
        return sum(int(tensors.get_tensor(name)[~kept].count_nonzero()) for name, kept in mask.tensors.items())
