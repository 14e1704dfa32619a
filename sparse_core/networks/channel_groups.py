"""Channels that can be removed on their own: made by one convolution and read by others, with nothing added to them in between.

A residual sum ties the channels of all its summands, so the filters that feed one are left alone; the channels inside a block
are free. Depthwise convolutions and BatchNorm pass channels on, so theirs go with them.
"""

import copy
from dataclasses import dataclass

import numpy as np
from torch import Tensor, fx, nn

from sparse_core.networks.channels import trace

_PASSED_ON = (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.Identity, nn.MaxPool2d, nn.ZeroPad2d, nn.Dropout2d)
_PASSING_FUNCTIONS = ("relu", "relu_", "relu6", "hardtanh")


@dataclass(frozen=True)
class Group:
    """Channels by the names of the layers they pass: the convolution that makes them, the BatchNorms and depthwise
    convolutions that pass them on, and the convolutions that read them."""

    producer: str
    norms: tuple[str, ...]
    depthwise: tuple[str, ...]
    consumers: tuple[str, ...]


def find(module: nn.Module) -> list[Group]:
    """The groups of a network in the order of computation; those of its first convolution are left out, as it stays dense."""
    layers = dict(module.named_modules())
    graph = trace(module)
    convolutions = [node for node in graph.nodes if isinstance(_layer(node, layers), nn.Conv2d)]
    groups = []
    for node in convolutions[1:]:
        if not _is_depthwise(_layer(node, layers)):
            group = _follow(node, layers)
            if group is not None:
                groups.append(group)
    return groups


def _follow(node: fx.Node, layers: dict[str, nn.Module]) -> Group | None:
    """The group of a convolution's filters; None where they reach anything but a convolution's input."""
    norms, depthwise, consumers = [], [], []
    waiting = list(node.users)
    while waiting:
        user = waiting.pop()
        layer, name = _layer(user, layers), str(user.target)
        if isinstance(layer, nn.Conv2d) and not _is_depthwise(layer):
            if layer.groups != 1:
                return None
            consumers.append(name)
            continue
        if isinstance(layer, nn.Conv2d):
            depthwise.append(name)
        elif isinstance(layer, nn.BatchNorm2d):
            norms.append(name)
        elif (
            not isinstance(layer, _PASSED_ON)
            and getattr(user.target, "__name__", user.target) not in _PASSING_FUNCTIONS
        ):
            return None
        if not user.users:
            return None
        waiting += list(user.users)
    producer = _layer(node, layers)
    free = isinstance(producer, nn.Conv2d) and producer.groups == 1
    return Group(str(node.target), tuple(norms), tuple(depthwise), tuple(consumers)) if consumers and free else None


def _layer(node: fx.Node, layers: dict[str, nn.Module]) -> nn.Module | None:
    return layers[str(node.target)] if node.op == "call_module" else None


def _is_depthwise(layer: nn.Module | None) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == layer.out_channels > 1


def compact_form(body: nn.Module) -> nn.Module | None:
    """The compact form of a masked structured network: a copy without the filters whose weights are all 0 and whose BatchNorm
    is 0, with the same output but for rounding; None where there are no such filters. It loads into no named architecture; it
    is for export and speed."""
    smaller = copy.deepcopy(body)
    kept = used_filters(smaller)
    if all(flags.all() for flags in kept.values()):
        return None
    compact(smaller, kept)
    return smaller


def used_filters(body: nn.Module) -> dict[str, np.ndarray]:
    """Which filters (C,) of each group's producer are not silenced, by its name; every group keeps one."""
    layers = dict(body.named_modules())
    kept = {}
    for group in find(body):
        used = layers[group.producer].get_parameter("weight").detach().flatten(1).any(1)
        for bias in (layers[name].bias for name in (group.producer, *group.depthwise)):
            used |= bias.detach().bool() if isinstance(bias, Tensor) else False
        for name in group.norms:
            used |= layers[name].get_parameter("weight").detach().bool()
            used |= layers[name].get_parameter("bias").detach().bool()
        used[0] |= not bool(used.any())
        kept[group.producer] = used.cpu().numpy()
    return kept


def compact(module: nn.Module, kept: dict[str, np.ndarray]) -> None:
    """Remove channels, in place: ``kept`` (C,) by the name of a group's producer says which stay. Where those that go are 0,
    as in a masked structured network, the output stays the same but for rounding."""
    layers = dict(module.named_modules())
    for group in find(module):
        rows = np.flatnonzero(kept[group.producer]) if group.producer in kept else None
        if rows is None:
            continue
        for name in (group.producer, *group.depthwise):
            _slice_filters(layers[name], rows)
        for name in group.norms:
            _slice_norm(layers[name], rows)
        for name in group.consumers:
            reader = layers[name]
            assert isinstance(reader, nn.Conv2d)
            reader.weight = _sliced(reader.weight, rows, 1)
            reader.in_channels = len(rows)


def _slice_filters(layer: nn.Module, rows: np.ndarray) -> None:
    assert isinstance(layer, nn.Conv2d)
    if layer.groups > 1:
        layer.groups = layer.in_channels = len(rows)
    layer.out_channels = len(rows)
    layer.weight = _sliced(layer.weight, rows, 0)
    if layer.bias is not None:
        layer.bias = _sliced(layer.bias, rows, 0)


def _slice_norm(layer: nn.Module, rows: np.ndarray) -> None:
    assert isinstance(layer, nn.BatchNorm2d)
    layer.num_features = len(rows)
    layer.weight, layer.bias = _sliced(layer.weight, rows, 0), _sliced(layer.bias, rows, 0)
    assert layer.running_mean is not None and layer.running_var is not None
    layer.running_mean, layer.running_var = layer.running_mean[rows].clone(), layer.running_var[rows].clone()


def _sliced(parameter: Tensor, rows: np.ndarray, dimension: int) -> nn.Parameter:
    taken = parameter.detach()[rows] if dimension == 0 else parameter.detach()[:, rows]
    return nn.Parameter(taken.clone(), requires_grad=parameter.requires_grad)
