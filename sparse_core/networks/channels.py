"""Which channels of a network are dead, that is, can be removed without changing what the network computes.

A channel is shared by all tensors it passes through: the filter that produces it, then BatchNorm, activations, pooling and
depthwise convolutions. Adding two tensors ties their channels, so a channel of a ResNet's residual stream is removed from
all blocks or from none. A channel is dead if nothing that the output depends on needs it. A convolution does not need an
input channel whose weights are all 0, nor one that is 0 everywhere because each of its producers is 0.

A filter whose weights are all 0, or whose inputs are all constant, produces a constant: its bias, and after a BatchNorm
β − γ·μ/√(σ²+ε). Constants are computed exactly, in evaluation mode. A constant that is 0 at the next convolution, for
example after a ReLU, contributes nothing. Any other moves into the bias of that convolution (or the mean of its BatchNorm)
if it has no padding, so the channel is not needed. A padded convolution sees zeros beyond the border and the constant
inside, which no bias can express, so it needs the channel. Channels of the image and of the output are never dead.

Which operations a network consists of is traced (``traced``), so it may be written in any way. Unknown operations need all
their inputs, and their outputs are never dead: the count may be too low, never too high.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from sparse_core.errors import InputError
from sparse_core.networks import signals, traced
from sparse_core.networks.signals import Signal
from sparse_core.networks.traced import BATCH, Node, Operation, Parameter, Traced

# Constants stay constant, each by itself.
_ELEMENTWISE = {
    *("relu", "relu6", "hardtanh", "leaky_relu", "elu", "gelu", "silu", "mish", "sigmoid", "tanh", "hardswish"),
    *("hardsigmoid", "softplus", "clamp", "clamp_min", "clamp_max", "neg", "exp", "sqrt", "square", "abs", "pow"),
}
# Return their input, or averages or maxima of it over positions: constants stay the same.
_PRESERVING = {
    *("max_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "dropout", "feature_dropout", "contiguous", "clone"),
    *("detach", "alias", "to", "_to_copy"),
}
_POOLING = {"max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"}
_REDUCING = {"mean", "amax", "amin"}  # over positions
_RESHAPING = {"flatten", "reshape", "view", "reshape_as", "_unsafe_view", "squeeze", "unsqueeze", "unflatten"}
_DIVIDING = {"chunk", "split", "split_with_sizes"}
_VIEWS = {*_RESHAPING, *_DIVIDING, "getitem", "slice", "narrow", "select", "permute", "transpose"}
_ARITHMETIC = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}


@dataclass(frozen=True)
class Channels:
    """The filters (F) and input channels (C) of one convolution or linear layer.

    ``used`` (F, C) and ``nonzero`` are the results of ``uses``. ``filters_dead`` (F,) and ``channels_dead`` (C,) are True
    for those that can be removed. ``constants`` (C,) are the values of constant input channels, NaN for others.
    ``output`` is the height and width of the layer's output.
    """

    name: str
    layer: nn.Conv2d | nn.Linear
    used: np.ndarray
    nonzero: int
    filters_dead: np.ndarray
    channels_dead: np.ndarray
    constants: np.ndarray
    output: tuple[int, int]

    @property
    def live_weights(self) -> int:
        """The number of weights, zeros included, after removing dead filters and channels."""
        groups = _groups(self.layer)
        filters = (~self.filters_dead).reshape(groups, -1).sum(axis=1)
        channels = (~self.channels_dead).reshape(groups, -1).sum(axis=1)
        return int((filters * channels).sum()) * self.layer.weight[0, 0].numel()


@dataclass(frozen=True)
class Analysis:
    """All layers in the order of computation, and the dead channels (C,) of each BatchNorm by name."""

    layers: list[Channels]
    norms_dead: dict[str, np.ndarray]


def analyse(module: nn.Module, input_size: int) -> Analysis:
    """Analyse a network that takes images (N, 3, ``input_size``, ``input_size``), in evaluation mode, without running
    it. Raises InputError if its forward pass cannot be traced."""
    flow = _Flow(module)
    flow.follow(traced.trace(module, input_size))
    return flow.result()


def uses(weight: Tensor, groups: int = 1) -> tuple[np.ndarray, int]:
    """Which input channels each filter has nonzero weights for, and the number of nonzero weights. ``weight`` is
    (filters, channels / groups, …). The first result is boolean, (filters, channels), over all groups."""
    nonzero = (weight.detach() != 0).cpu()
    count = int(np.count_nonzero(nonzero.numpy()))
    own = (nonzero.flatten(2).any(dim=2) if nonzero[0, 0].numel() > 1 else nonzero.flatten(1)).numpy()
    if groups == 1:
        return own, count
    filters, width = own.shape
    whole = np.zeros((filters, width * groups), bool)
    first = np.arange(filters) // (filters // groups) * width
    whole[np.arange(filters)[:, None], first[:, None] + np.arange(width)] = own
    return whole, count


def count_pruned(used: np.ndarray) -> dict[str, int]:
    """Filters and input channels of a layer, and how many of them have only zero weights; ``used`` as in ``uses``."""
    return {
        "filters": used.shape[0],
        "filters_pruned": int((~used.any(axis=1)).sum()),
        "channels": used.shape[1],
        "channels_pruned": int((~used.any(axis=0)).sum()),
    }


@dataclass(frozen=True)
class _Use:
    """A layer with its input and output; ``needs[f, c]`` is True if filter f needs input channel c."""

    layer: nn.Conv2d | nn.Linear
    inputs: Signal
    outputs: Signal
    used: np.ndarray
    nonzero: int
    needs: np.ndarray


class _Flow:
    """Follows the channels through a traced network, with shapes and constants instead of data, and records which of them are
    tied and needed."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.state: dict[str, Tensor] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        self.count = 0
        self.ties: list[np.ndarray] = []
        self.always: list[np.ndarray] = []
        self.layers: dict[str, _Use] = {}
        self.norms: dict[str, np.ndarray] = {}
        self.values: dict[Node, Any] = {}
        self.views: set[Node] = set()

    def follow(self, network: Traced) -> None:
        """Go through the operations in order."""
        self.values = {**network.parameters, network.image: self._unknown(network.image.result)}
        for operation in network.operations:
            self.values[operation.node] = self._result(operation)
            if operation.name in _VIEWS:
                self.views.add(operation.node)
        self._need_all(self._signals(network.output))

    def result(self) -> Analysis:
        """Propagate what the output needs backwards through the layers until nothing changes; the rest is dead."""
        first, second = np.concatenate([np.zeros((2, 0), int), *self.ties], axis=1)
        edges = coo_array((np.ones(len(first)), (first, second)), shape=(self.count, self.count))
        classes, labels = connected_components(edges, directed=False)
        needed = np.zeros(classes, bool)
        needed[labels[np.concatenate(self.always)]] = True
        marked = -1
        while marked < needed.sum():
            marked = needed.sum()
            for use in reversed(self.layers.values()):
                rows = use.needs[needed[labels[use.outputs.ids.ravel()]]]
                needed[labels[use.inputs.ids.ravel()[rows.any(axis=0)]]] = True
        dead = ~needed[labels]
        layers = [_channels(name, use, dead) for name, use in self.layers.items()]
        return Analysis(layers, {name: dead[ids] for name, ids in self.norms.items()})

    def _result(self, operation: Operation) -> Any:
        """What an operation gives: a signal, several in a list, or a parameter where it computes with parameters alone."""
        inputs = self._signals([operation.arguments, operation.options])
        if not inputs:
            return self._of_parameters(operation)
        if operation.in_place and operation.arguments[0] in self.views:  # it changes another tensor's values, too
            return self._unknown(operation.result, inputs)
        known = {
            "conv2d": self._convolve,
            "linear": self._convolve,
            "batch_norm": self._normalise,
            "cat": self._concatenate,
        }
        found: Signal | list[Signal] | None
        if operation.name in known:
            found = known[operation.name](operation)
        elif operation.name in _ARITHMETIC:
            found = self._combine(operation)
        else:
            found = self._step(operation)
        return self._unknown(operation.result, inputs) if found is None else found

    def _step(self, operation: Operation) -> Signal | list[Signal] | None:
        """The result of an operation on one signal; None where it is unknown."""
        signal, rest, name = self._value(operation.arguments[0]), operation.arguments[1:], operation.name
        if isinstance(signal, list) and name == "getitem":
            part: Signal = signal[rest[0]]
            return part
        if not isinstance(signal, Signal) or not isinstance(operation.result, Tensor | list | tuple):
            return None
        if name in _DIVIDING:
            shapes = [tuple(part.shape) for part in operation.result]
            return signals.divided(signal, shapes, operation.argument(2, "dim", 0))
        shape = tuple(operation.result.shape) if isinstance(operation.result, Tensor) else ()
        if name in _POOLING and max(signal.ids.shape[-2:]) > 1:  # channels that lie along positions are mixed
            return None
        if name in _ELEMENTWISE and not self._signals(rest):
            constants = operation.function(torch.tensor(signal.constants), *rest, **operation.options)
            return Signal(shape, signal.ids, constants.numpy())
        if name in _PRESERVING:
            return Signal(shape, signal.ids, signal.constants)
        if name == "avg_pool2d":  # may include zeros from padding
            return Signal(shape, signal.ids, np.where(signal.constants == 0, 0.0, np.nan))
        return self._moved(operation, signal, shape)

    def _moved(self, operation: Operation, signal: Signal, shape: tuple[int, ...]) -> Signal | None:
        """The result of an operation that moves or drops entries."""
        name = operation.name
        if name in _RESHAPING:
            return signals.reshaped(signal, shape)
        if name == "permute":
            return signals.permuted(signal, operation.arguments[1])
        if name == "transpose":
            order = list(range(len(shape)))
            first, second = operation.arguments[1:3]
            order[first], order[second] = order[second], order[first]
            return signals.permuted(signal, order)
        if name == "slice":
            span = slice(
                *(operation.argument(number, name) for number, name in ((2, "start"), (3, "end"), (4, "step")))
            )
            return signals.sliced(signal, shape, operation.argument(1, "dim", 0), span)
        if name in _REDUCING and operation.argument(1, "dim") is not None:
            dimensions = operation.argument(1, "dim")
            dimensions = [dimensions] if isinstance(dimensions, int) else dimensions
            return signals.reduced(signal, shape, dimensions, bool(operation.argument(2, "keepdim", False)))
        if name == "pad" and operation.argument(2, "mode", "constant") == "constant":
            border = float(operation.argument(3, "value") or 0.0)
            return signals.padded(signal, shape, operation.arguments[1], border, self._fresh)
        return None

    def _convolve(self, operation: Operation) -> Signal | None:
        signal, weight = (self._value(argument) for argument in operation.arguments[:2])
        layer = self.module.get_submodule(weight.layer) if isinstance(weight, Parameter) and weight.name else None
        if not isinstance(layer, nn.Conv2d | nn.Linear) or not isinstance(signal, Signal):
            return None
        name, output = weight.layer, operation.result
        if name in self.layers:  # channels dead in one place may be needed in the other
            raise InputError(f"This network cannot be analysed: '{name}' is used in two places.")
        axis = 1 if isinstance(layer, nn.Conv2d) else len(signal.shape) - 1
        if len(signal.shape) != output.ndim or (isinstance(layer, nn.Conv2d) and output.ndim != 4):
            return None
        if not signal.is_whole(axis) or signal.ids.size != signal.shape[axis]:
            signal = self._unknown_along(signal.shape, axis, [signal])
        used, nonzero = uses(layer.weight, _groups(layer))
        values = signal.constants.ravel()
        constant_inputs = (values == 0) | (~np.isnan(values) & _is_unpadded(operation))
        constant_inputs &= weight.stored  # a weight that is computed may have no zeros where the stored one has
        needs = used & ~constant_inputs if weight.stored else np.ones_like(used)
        constants = _sum_of_constants(layer, np.where(constant_inputs, values, 0))
        depthwise = _groups(layer) == needs.shape[0] == needs.shape[1]
        ids = signal.ids.ravel() if depthwise else self._fresh(len(needs))
        result = signals.along(tuple(output.shape), axis, ids, np.where(needs.any(axis=1), np.nan, constants))
        self.layers[name] = _Use(layer, signal, result, used, nonzero, needs & (not depthwise))
        return result

    def _normalise(self, operation: Operation) -> Signal | None:
        signal, *statistics = (self._value(argument) for argument in operation.arguments[:5])
        factor, shift, mean, variance = (self._numbers(statistic) for statistic in statistics)
        plain = isinstance(signal, Signal) and signal.is_whole(1) and signal.ids.size == signal.shape[1]
        stored = all(each is None or (isinstance(each, Parameter) and each.stored) for each in statistics)
        if not plain or not stored or mean is None or variance is None or operation.argument(5, "training"):
            return None
        self.norms[statistics[2].layer] = signal.ids.ravel()
        squared = variance + operation.argument(7, "eps")
        spread = np.sqrt(np.where(squared > 0, squared, np.nan))  # a negative variance gives NaN
        factor = np.ones_like(mean) if factor is None else factor
        shift = np.zeros_like(mean) if shift is None else shift
        constants = (signal.constants.ravel() - mean) / spread * factor + shift
        constants = np.where((factor == 0) & (squared > 0), shift, constants)
        return signals.along(signal.shape, 1, signal.ids.ravel(), constants)

    def _combine(self, operation: Operation) -> Signal | None:
        """A sum, difference, product or quotient. Summands are tied, and so are factors: a gate and what passes it."""
        a, b = (self._value(argument) for argument in operation.arguments[:2])
        shape = tuple(operation.result.shape)
        if operation.options or (isinstance(a, Signal) and len(a.shape) != len(shape)):
            return None
        if isinstance(a, Signal) and isinstance(b, Signal):
            return self._join(operation.name, a, b, shape)
        signal = a if isinstance(a, Signal) else b
        numbers = [part.constants if isinstance(part, Signal) else self._numbers(part) for part in (a, b)]
        if len(signal.shape) != len(shape):
            return None
        known = [each for each in numbers if each is not None and _broadcasts(each.shape, signal.ids.shape)]
        if len(known) == len(numbers):
            return Signal(shape, signal.ids, _arithmetic(operation.name, known[0], known[1]))
        zero = (signal.constants == 0) & (operation.name == "mul")
        return Signal(shape, signal.ids, np.where(zero, 0.0, np.nan))

    def _join(self, name: str, a: Signal, b: Signal, shape: tuple[int, ...]) -> Signal | None:
        both = signals.paired(a, b, shape)
        if both is None:
            return None
        first, second, a_repeated, b_repeated = both
        if a_repeated or b_repeated:  # one channel for all of the other's, such as a gate over positions
            self._need_all([a if a_repeated else b])
        else:
            self.ties.append(np.stack([first.ids.ravel(), second.ids.ravel()]))
        constants = _arithmetic(name, first.constants, second.constants)
        return Signal(shape, second.ids if a_repeated else first.ids, constants)

    def _concatenate(self, operation: Operation) -> Signal | None:
        parts = [self._value(part) for part in operation.arguments[0]]
        if not all(isinstance(part, Signal) for part in parts):
            return None
        shape = tuple(operation.result.shape)
        return signals.concatenated(parts, shape, operation.argument(1, "dim", 0) % len(shape))

    def _of_parameters(self, operation: Operation) -> Any:
        """What is computed from parameters alone, such as a standardised weight: it keeps the name of the one of its size."""
        if not isinstance(operation.result, Tensor):
            return [Parameter("", False) for _ in operation.result]
        values = [self._value(node) for node in operation.inputs]
        named = [value for value in values if isinstance(value, Parameter) and value.name]
        size = operation.result.numel()
        fitting = [value for value in named if self.state[value.name].numel() == size]
        return Parameter(fitting[0].name if fitting else "", False)

    def _numbers(self, value: Any) -> np.ndarray | None:
        """The values of a stored parameter or a number; None for anything else."""
        if isinstance(value, Parameter):
            return _numbers(self.state[value.name]) if value.stored else None
        return np.asarray(float(value)) if isinstance(value, int | float) else None

    def _value(self, argument: Any) -> Any:
        """What an argument stands for."""
        return self.values[argument] if isinstance(argument, Node) else argument

    def _signals(self, arguments: Any) -> list[Signal]:
        """All signals in nested arguments."""
        found: list[Signal] = []
        waiting = [arguments]
        while waiting:
            value = self._value(waiting.pop())
            if isinstance(value, Signal):
                found.append(value)
            elif isinstance(value, list | tuple):
                waiting.extend(value)
            elif isinstance(value, dict):
                waiting.extend(value.values())
        return found

    def _fresh(self, channels: int) -> np.ndarray:
        """New ids for channels."""
        self.count += channels
        return np.arange(self.count - channels, self.count)

    def _unknown(self, result: Any, inputs: Sequence[Signal] = ()) -> Any:
        """Tensors about which nothing is known: all of them and of their inputs may be needed."""
        if isinstance(result, list | tuple):
            return [self._unknown(part, inputs) for part in result]
        if not isinstance(result, Tensor):
            self._need_all(inputs)
            return result
        return self._unknown_along(tuple(result.shape), min(1, result.ndim - 1), inputs)

    def _unknown_along(self, shape: tuple[int, ...], axis: int, inputs: Sequence[Signal]) -> Signal:
        """An unknown tensor whose channels lie along ``axis``."""
        self._need_all(inputs)
        self.always.append(self._fresh(shape[axis] if shape else 1))
        if not shape:
            return Signal((), self.always[-1].reshape(()), np.array(np.nan))
        return signals.along(shape, axis, self.always[-1])

    def _need_all(self, inputs: Sequence[Signal]) -> None:
        self.always += [signal.ids.ravel() for signal in inputs]


def _channels(name: str, use: _Use, dead: np.ndarray) -> Channels:
    filters_dead, channels_dead = dead[use.outputs.ids.ravel()], dead[use.inputs.ids.ravel()]
    constants = use.inputs.constants.ravel()
    return Channels(name, use.layer, use.used, use.nonzero, filters_dead, channels_dead, constants, _positions(use))


def _positions(use: _Use) -> tuple[int, int]:
    """Height and width of a layer's output; for outputs of another form, the number of positions and 1."""
    shape = use.outputs.shape
    if len(shape) == 4 and shape[0] == BATCH:
        height, width = shape[2:] if isinstance(use.layer, nn.Conv2d) else shape[1:3]
        return height, width
    return int(np.prod(shape)) // BATCH // use.outputs.ids.size, 1


def _arithmetic(name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The result of constants, NaN for what is not one; a product with 0 is 0 whatever the other factor is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        result: np.ndarray = _ARITHMETIC[name](a, b)
    result = np.where(np.isfinite(result), result, np.nan)
    return np.where((a == 0) | (b == 0), 0.0, result) if name == "mul" else result


def _sum_of_constants(layer: nn.Conv2d | nn.Linear, constants: np.ndarray) -> np.ndarray:
    """The output of each filter (F,) for constant input channels (C,), away from the border."""
    weight = layer.weight.detach()
    result = _numbers(layer.bias) if layer.bias is not None else np.zeros(len(weight))
    filters, width = len(weight) // _groups(layer), weight.shape[1]
    for channel in np.flatnonzero(constants):
        rows = slice(channel // width * filters, (channel // width + 1) * filters)
        result[rows] += constants[channel] * _numbers(weight[rows, channel % width]).reshape(filters, -1).sum(axis=1)
    return result


def _broadcasts(shape: tuple[int, ...], form: tuple[int, ...]) -> bool:
    """Whether an array of this shape has no more entries than the form that it is combined with."""
    padded = (1,) * (len(form) - len(shape)) + tuple(shape)
    return len(padded) == len(form) and all(size in (1, other) for size, other in zip(padded, form, strict=True))


def _is_unpadded(operation: Operation) -> bool:
    """True if a convolution does not pad; a linear layer never does."""
    padding = operation.argument(4, "padding", 0) if operation.name == "conv2d" else 0
    if isinstance(padding, str):
        return padding == "valid"
    return not any(padding) if isinstance(padding, list | tuple) else not padding


def _groups(layer: nn.Conv2d | nn.Linear) -> int:
    return layer.groups if isinstance(layer, nn.Conv2d) else 1


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy().copy()
