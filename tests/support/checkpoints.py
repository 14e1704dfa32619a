"""Checkpoints for tests: a network's state dict as the projects of the field save it, and checks of what is read back."""

import copy
import math
import re
import zipfile

import numpy as np
import torch
from torch import nn

from sparse_core.networks import architectures, checkpoints
from tests.support.networks import live_batch_norm


def dense(architecture, variant=""):
    """A network with live BatchNorm, and its whole state dict with a classifier of 7 classes called ``fc``."""
    torch.manual_seed(0)
    module = live_batch_norm(architectures.build(architecture, variant)).eval()
    classifier = nn.Linear(module.dimensions, 7)
    state = {**module.state_dict(), **{f"fc.{key}": tensor for key, tensor in classifier.state_dict().items()}}
    return module, {key: tensor.clone() for key, tensor in state.items()}


class Runs:
    """Pickles as a call: a canary that would leave a file behind."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def packed_anew(path, change=lambda pickled: pickled):
    """The torch file as another program packs it, with its pickled part changed."""
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, change(content) if name.endswith("data.pkl") else content)
    return path


def weights_of(module):
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    return {f"{name}.weight": layer.weight for name, layer in layers.items()}


def random_masks(state, share=0.6):
    """A mask of floats for each convolution and linear weight, as masks are saved in the wild."""
    generator = torch.Generator().manual_seed(3)
    names = [name for name, tensor in state.items() if name.endswith("weight") and tensor.dim() > 1]
    return {name: (torch.rand(state[name].shape, generator=generator) > share).float() for name in names}


def masked(module, given):
    """A copy of the module with the masks multiplied into its weights."""
    module = copy.deepcopy(module)
    for name, weight in weights_of(module).items():
        if name in given:
            weight.data *= given[name]
    return module


def wrapped(state, given):
    """X._layer.weight with X._weight_mask, and X._bias_mask where there is a bias."""
    out = {}
    for name, tensor in state.items():
        stem, _, leaf = name.rpartition(".")
        out[f"{stem}._layer.{leaf}" if f"{stem}.weight" in given else name] = tensor
        if f"{stem}.weight" in given and leaf in ("weight", "bias"):
            out[f"{stem}._{leaf}_mask"] = given.get(name, torch.ones_like(tensor))
    return out


def parallel(state):
    return {f"module.{name}": tensor for name, tensor in state.items()}


def in_the_middle(state):
    """DataParallel around the layers and not around the network."""
    return {name.replace("layer2.", "layer2.module.", 1): tensor for name, tensor in state.items()}


def with_thresholds(state, value=-4.0):
    """STR: a threshold beside each convolution, the classifier a 1 × 1 convolution without bias."""
    out = {}
    for number, (name, tensor) in enumerate(state.items()):
        if name == "fc.bias":
            continue
        out[name] = tensor = tensor[:, :, None, None] if name == "fc.weight" else tensor
        if name.endswith("weight") and tensor.dim() == 4:
            out[f"{name.removesuffix('weight')}sparseThreshold"] = torch.full((1, 1), value + 0.01 * number)
    return out


def thresholded(weight, s):
    """sign(w) · relu(|w| − sigmoid(s)) in double precision."""
    w = weight.double().numpy()
    return torch.tensor(np.sign(w) * np.maximum(np.abs(w) - 1 / (1 + math.exp(-s)), 0), dtype=torch.float32)


def after_thresholds(module, state):
    module = copy.deepcopy(module)
    for name, weight in weights_of(module).items():
        if (s := state.get(f"{name.removesuffix('weight')}sparseThreshold")) is not None:
            weight.data = thresholded(state[name], s.item())
    return module


def from_tensorflow(state):
    block, renamed = r"^(layer\d)\.(\d+)\.", state
    for pattern, name in (
        (r"^(conv|bn)1\.", r"initial_conv.\1."),
        (rf"{block}downsample\.0\.", r"\1.block.\2.shortcut.conv."),
        (rf"{block}downsample\.1\.", r"\1.block.\2.shortcut.bn."),
        (rf"{block}(conv|bn)(\d)\.", r"\1.block.\2.conv\4.\3."),
    ):
        renamed = {re.sub(pattern, name, key): tensor for key, tensor in renamed.items()}
    return renamed


def as_amc(state, classifier="classifier.0.", stem="conv1."):
    out = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if parts[0] == "fc":
            out[classifier + parts[1]] = tensor
        elif parts[1] == "0":
            out[stem + ".".join(parts[2:])] = tensor
        else:
            shift = 0 if stem.startswith("features") else 1
            out[f"features.{int(parts[1]) - shift}.{'.'.join(parts[2:])}"] = tensor
    return out


def linear(state):
    return {name.replace("fc.", "linear.", 1): tensor for name, tensor in state.items()}


def save(document, path, legacy=False):
    torch.save(document, path, _use_new_zipfile_serialization=not legacy)
    return path


def features(module):
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        return module(images)


def check(path, expected, formats, architecture, variant="", **others):
    """Assert that the file holds the expected network in these formats."""
    found = checkpoints.read(path)
    assert set(found.formats) == set(formats)
    assert (found.architecture, found.variant) == (architecture, variant)
    ours, theirs = features(found.network().eval()), features(expected)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * max(1.0, theirs.abs().max().item()))
    for name, value in others.items():
        assert getattr(found, name) == value, name
    return found
