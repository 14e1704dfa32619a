"""Channels that can be removed on their own: made by one convolution and read by others, with nothing added to them in between.

A residual sum ties the channels of all its summands, so the filters that feed one are left alone; the channels inside a block
are free. Depthwise convolutions and BatchNorm pass channels on, so theirs go with them.
"""

import copy
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from sparse_core.networks import traced
from sparse_core.networks.traced import Operation, Parameter, Traced

INPUT_SIZE = 224  # any that the network takes: the groups are the same
# Operations that leave a channel of zeros a channel of zeros.
_PASSING = {
    "relu",
    "relu6",
    "hardtanh",
    "leaky_relu",
    "silu",
    "hardswish",
    "gelu",
    "max_pool2d",
    "feature_dropout",
    "dropout",
}


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
    network = _Network(module, traced.trace(module, INPUT_SIZE))
    convolutions = [each for each in network.operations.values() if isinstance(network.layer(each), nn.Conv2d)]
    followed = [network.follow(each) for each in convolutions[1:] if not _is_depthwise(network.layer(each))]
    return [group for group in followed if group is not None]


class _Network:
    """A traced network, whose convolutions and BatchNorms are found by the parameters that they use."""

    def __init__(self, module: nn.Module, found: Traced) -> None:
        self.layers = dict(module.named_modules())
        self.parameters = found.parameters
        self.operations = {operation.node: operation for operation in found.operations}

    def name(self, operation: Operation) -> str:
        """The name of the layer that an operation computes; "" for other operations."""
        place = {"conv2d": 1, "batch_norm": 3}.get(operation.name)
        parameter = self.parameters.get(operation.arguments[place]) if place else None
        return parameter.layer if isinstance(parameter, Parameter) else ""

    def layer(self, operation: Operation) -> nn.Module | None:
        return self.layers.get(self.name(operation)) if self.name(operation) else None

    def follow(self, producer: Operation) -> Group | None:
        """The group of a convolution's filters; None where they reach anything but a convolution's input."""
        norms, depthwise, consumers = [], [], []
        waiting = list(producer.node.users)
        while waiting:
            node = waiting.pop()
            user = self.operations.get(node) if node else None
            layer = self.layer(user) if user else None
            if user is None or not user.node.users:
                return None
            if isinstance(layer, nn.Conv2d) and not _is_depthwise(layer):
                if layer.groups != 1:
                    return None
                consumers.append(self.name(user))
                continue
            if isinstance(layer, nn.Conv2d):
                depthwise.append(self.name(user))
            elif isinstance(layer, nn.BatchNorm2d):
                norms.append(self.name(user))
            elif user.name not in _PASSING and not _pads_positions(user):
                return None
            waiting += user.node.users
        made = self.layer(producer)
        free = isinstance(made, nn.Conv2d) and made.groups == 1
        names = self.name(producer), tuple(norms), tuple(depthwise), tuple(consumers)
        return Group(*names) if consumers and free else None


def _pads_positions(operation: Operation) -> bool:
    return operation.name == "pad" and len(operation.arguments[1]) <= 4


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
