"""The classification networks of torchvision and timm by name, without their classifiers, with their weights' addresses and
preprocessing.

A name is torchvision's, such as ``resnext50_32x4d``, or timm's after ``timm/``, such as ``timm/resnet50d``. Weights other than
the usual ones are named after a dot: ``resnet50.IMAGENET1K_V2``, ``timm/resnet50d.ra2_in1k``. Both libraries take seconds to
import, so they are imported where they are needed. Nothing is downloaded here.
"""

import functools
import importlib
import math
import os
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sparse_core.datasets.transforms import IMAGENET, Transform
from sparse_core.errors import InputError, unknown_name

TIMM = "timm/"
CLASSES = (7, 11)  # two numbers of classes: what differs in shape between them is the classifier
LEAST_LAYERS = 0.1  # of a CNN's layers with weights, the share of convolutions over neighbourhoods
LEAST_WEIGHTS = 0.1  # or the share of its parameters in convolutions


class WithoutMemory(TorchFunctionMode):
    """Parameters made within this take no memory: they are on the meta device, and drawing their values is skipped, which takes
    most of the time. What constructors compute stays on the CPU; ``torch.device("meta")`` would leave it without values."""

    _FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand, torch.full)
    _FILLING = ("normal_", "uniform_", "fill_", "zero_", "erfinv_", "mul_", "add_", "div_", "clamp_", "copy_")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self._FACTORIES and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        filled = args[0] if args else kwargs.get("tensor")
        fills = getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in self._FILLING
        if fills and isinstance(filled, Tensor) and filled.is_meta:
            return filled
        return func(*args, **kwargs)


@dataclass(frozen=True)
class Weights:
    """Pretrained weights: their name among those of the network, their address, the start of their SHA-256 ("" where unknown),
    what they were trained on, and how images are prepared for them."""

    name: str
    url: str
    checksum: str
    upstream: str
    transform: Transform


def split(name: str) -> tuple[str, str]:
    """The network and the weights that a name such as ``timm/resnet50d.ra2_in1k`` stands for; weights "" are the usual ones."""
    network, _, weights = name.partition(".")
    return network, weights


@functools.cache
def torchvision_models() -> ModuleType:
    """torchvision's networks; with torch._dynamo, their import takes as long as torch's."""
    with torch.device("cpu"):  # the caller may build for another device
        return importlib.import_module("torchvision.models")


@functools.cache
def timm_library() -> ModuleType:
    """timm, which imports the client of its hub: told to send nothing."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    with torch.device("cpu"):
        return importlib.import_module("timm")


@functools.cache
def names(library: str) -> frozenset[str]:
    """The names of all classification networks of "torchvision" or "timm", as those libraries list them."""
    if library == "timm":
        return frozenset(TIMM + name for name in timm_library().list_models())
    models = torchvision_models()
    return frozenset(models.list_models(module=models))


def library_of(name: str) -> str:
    return "timm" if name.startswith(TIMM) else "torchvision"


def require(name: str) -> None:
    """Raise InputError, with the nearest names, unless this is a network of torchvision or timm."""
    known = names(library_of(name))
    if name not in known:
        raise unknown_name("architecture", name, known)


def make(name: str) -> nn.Module:
    """The network with random weights, without its classifier: images (N, 3, H, W) to pooled features (N, D)."""
    if name.startswith(TIMM):
        return timm_library().create_model(name.removeprefix(TIMM), pretrained=False, num_classes=0)
    module = _torchvision(name, CLASSES[0])
    for layer in classifier_layers(name):
        module.set_submodule(layer, nn.Identity())
    return module


def _torchvision(name: str, classes: int) -> nn.Module:
    options: dict[str, Any] = {"num_classes": classes, "weights": None}
    if name in ("googlenet", "inception_v3"):  # without the second classifiers, which serve their training only
        options |= {"aux_logits": False, "init_weights": False}
    return torchvision_models().get_model(name, **options)


@functools.cache
def classifier_layers(name: str) -> tuple[str, ...]:
    """The layers of the whole network whose size follows from the number of classes."""
    with WithoutMemory():
        if name.startswith(TIMM):
            create = timm_library().create_model
            few, many = (create(name.removeprefix(TIMM), pretrained=False, num_classes=count) for count in CLASSES)
        else:
            few, many = (_torchvision(name, count) for count in CLASSES)
    other = many.state_dict()
    differing = [key for key, tensor in few.state_dict().items() if tensor.shape != other[key].shape]
    return tuple(dict.fromkeys(key.rpartition(".")[0] for key in differing))


@functools.cache
def classifier_shapes(name: str, classes: int) -> dict[str, tuple[int, ...]]:
    """The tensors of the classifier in the network's own state dict, by name: some are convolutions, some have no bias."""
    layers = classifier_layers(name)
    with WithoutMemory():
        if name.startswith(TIMM):
            network = timm_library().create_model(name.removeprefix(TIMM), pretrained=False, num_classes=classes)
        else:
            network = _torchvision(name, classes)
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    return {key: shape for key, shape in shapes.items() if key.rpartition(".")[0] in layers}


@functools.cache
def usual_weights(name: str) -> Weights | None:
    """The weights that the network's bare name stands for: torchvision's first for ImageNet, timm's default; None without any."""
    if name.startswith(TIMM):
        config = timm_library().get_pretrained_cfg(name.removeprefix(TIMM), allow_unregistered=False)
        return _timm_weights(config) if config is not None else None
    known = torchvision_models().get_model_weights(name)
    first = next((each for each in known if each.name == "IMAGENET1K_V1"), None) or next(iter(known), None)
    return _torchvision_weights(first) if first is not None else None


def weights(name: str) -> Weights:
    """The weights that a name stands for, with those after the dot. Raises InputError for unknown ones and for none."""
    network, wanted = split(name)
    require(network)
    found = usual_weights(network) if not wanted else _named_weights(network, wanted)
    if found is None or not found.url:
        raise InputError(
            f"{library_of(network)} offers no weights for {name}. Import a file of yours instead, as {network}:FILE."
        )
    return found


def _named_weights(network: str, wanted: str) -> Weights:
    if network.startswith(TIMM):
        bare = network.removeprefix(TIMM)
        tags = [each.partition(".")[2] for each in timm_library().list_pretrained(f"{bare}.*")]
        if wanted not in tags:
            raise unknown_name(f"weights of {network}", wanted, tags)
        return _timm_weights(timm_library().get_pretrained_cfg(f"{bare}.{wanted}"))
    known = {each.name: each for each in torchvision_models().get_model_weights(network)}
    if wanted not in known:
        raise unknown_name(f"weights of {network}", wanted, known)
    return _torchvision_weights(known[wanted])


def _torchvision_weights(found: Any) -> Weights:
    prepare, url = found.transforms(), found.url
    transform = Transform(
        prepare.resize_size[0],
        prepare.crop_size[0],
        tuple(prepare.mean),
        tuple(prepare.std),
        _interpolation(prepare.interpolation.value),
    )
    checksum = url.rpartition("/")[2].partition(".")[0].rpartition("-")[2]
    return Weights(found.name, url, checksum, "ImageNet", transform)


def _timm_weights(config: Any) -> Weights:
    """From timm's own data configuration: the image is resized to crop / crop_pct, rounded down."""
    resolve = importlib.import_module("timm.data").resolve_data_config
    data = resolve({}, pretrained_cfg=config.to_dict())
    side = int(data["input_size"][-1])
    resize = max(math.floor(side / data["crop_pct"]), side)
    transform = Transform(
        resize, side, tuple(data["mean"]), tuple(data["std"]), _interpolation(str(data["interpolation"]))
    )
    hub = config.hf_hub_id
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{endpoint}/{hub}/resolve/main/{config.hf_hub_filename or 'model.safetensors'}" if hub else config.url or ""
    upstream = "ImageNet" if config.num_classes == 1000 else ""
    return Weights(config.tag or "", url, "", upstream, transform)


def _interpolation(named: str) -> str:
    """The nearest of the two interpolations known here."""
    return "bilinear" if named in ("bilinear", "nearest") else "bicubic"


def usual_transform(name: str) -> Transform:
    """How images are prepared for the network's usual weights, the paper's way where there are none."""
    known = usual_weights(name)
    return known.transform if known else IMAGENET


def dimensions(module: nn.Module, side: int) -> int:
    """The number of features D of a network on the meta device, for images of ``side`` pixels. Raises InputError where it does
    not give features (N, D)."""
    with torch.no_grad():
        features: Tensor = module.to("meta").eval()(torch.empty(2, 3, side, side, device="meta"))
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise InputError(f"Expected pooled features (N, D) from the network; got {type(features).__name__}.")
    return features.shape[1]


def convolutional(module: nn.Module) -> bool:
    """Whether a network is a CNN: it has convolutions over neighbourhoods, or most of its parameters are in convolutions.

    One that cuts the image into patches, as vision transformers do, looks at no neighbourhood: its stride is its kernel's size.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d) and not _cuts_patches(layer)]
    wide = [layer for layer in convolutions if max(layer.kernel_size) > 1]
    if not wide:
        return False
    of_convolutions = sum(layer.weight.numel() for layer in convolutions)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return len(wide) >= LEAST_LAYERS * len(layers) or of_convolutions >= LEAST_WEIGHTS * parameters


def _cuts_patches(layer: nn.Conv2d) -> bool:
    return max(layer.kernel_size) > 1 and tuple(layer.kernel_size) == tuple(layer.stride)


def require_convolutional(name: str, module: nn.Module) -> None:
    """Raise InputError for a network that is no CNN, with the reason."""
    if not convolutional(module):
        layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        found = sum(isinstance(layer, nn.Conv2d) for layer in layers)
        raise InputError(
            f"{name} is not a convolutional network: {found} of its {len(layers)} layers with weights are convolutions, which "
            "only cut the image into patches or are few beside the rest. This product prunes and transfers CNNs."
        )
