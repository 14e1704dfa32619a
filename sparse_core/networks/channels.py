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

Unknown operations need all their inputs, and their outputs are never dead: the count may be too low, never too high.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, fx, nn

from sparse_core.errors import InputError

# Elementwise operations: constants stay constant.
_ELEMENTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Softplus),
    *(F.relu, F.relu6, F.hardtanh, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, F.hardswish, F.hardsigmoid),
    *(torch.relu, torch.sigmoid, torch.tanh, "relu", "relu_", "sigmoid", "tanh"),
)
# Return their input, averages or maxima of it: constants stay the same.
_PRESERVING = (
    *(nn.Identity, nn.Dropout, nn.Dropout2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(F.dropout, F.max_pool2d, torch.max_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d),
    *("contiguous", "clone", "detach"),
)
# Averages may include zeros from padding.
_AVERAGING = (nn.AvgPool2d, F.avg_pool2d)
_RESHAPING = (nn.Flatten, torch.flatten, torch.reshape, torch.squeeze, "flatten", "view", "reshape", "squeeze")
_ADDING = (operator.add, operator.iadd, torch.add, "add", "add_")
_CONVOLVING = (nn.Conv2d, nn.Linear)
_STEPS = (*_CONVOLVING, *_ELEMENTWISE, *_PRESERVING, *_AVERAGING, *_RESHAPING, nn.BatchNorm2d, nn.ZeroPad2d)


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
    it. Raises InputError if its forward pass cannot be traced symbolically."""
    try:
        flow = _Flow(module, trace(module))
        flow.trace(input_size)
    except (fx.proxy.TraceError, TypeError, RuntimeError, IndexError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"The forward pass of this network cannot be traced: {reason}") from error
    return flow.result()


def trace(module: nn.Module) -> fx.Graph:
    """The graph of a network's forward pass, in which convolutions, BatchNorm and activations are single nodes."""
    return _Tracer().trace(module)


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
class _Signal:
    """A tensor of the network: a meta tensor for its shape, and for each channel (C,) its id and constant. Channels
    with the same id are the same. ``constants`` are NaN for channels that are not constant."""

    shape: Tensor
    ids: np.ndarray
    constants: np.ndarray


@dataclass(frozen=True)
class _Use:
    """A layer with its input and output; ``needs[f, c]`` is True if filter f needs input channel c."""

    layer: nn.Conv2d | nn.Linear
    inputs: _Signal
    outputs: _Signal
    used: np.ndarray
    nonzero: int
    needs: np.ndarray


class _Tracer(fx.Tracer):
    """Does not trace into the layer types listed above, however their forward pass is written."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _is(type(m), _STEPS) or super().is_leaf_module(m, module_qualified_name)


class _Flow(fx.Interpreter):
    """Runs the graph on shapes and constants instead of data, and records which channels are tied and needed."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, graph=graph)
        self.extra_traceback = False
        self.count = 0
        self.ties: list[np.ndarray] = []
        self.always: list[np.ndarray] = []
        self.layers: dict[str, _Use] = {}
        self.norms: dict[str, np.ndarray] = {}

    def trace(self, input_size: int) -> None:
        """Run the graph for a batch of two images."""
        self.run(self._unknown(torch.empty(2, 3, input_size, input_size, device="meta")))

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
                rows = use.needs[needed[labels[use.outputs.ids]]]
                needed[labels[use.inputs.ids[rows.any(axis=0)]]] = True
        dead = ~needed[labels]
        layers = [_channels(name, use, dead) for name, use in self.layers.items()]
        return Analysis(layers, {name: dead[ids] for name, ids in self.norms.items()})

    def output(self, target: Any, args: Any, kwargs: Any) -> Any:
        self._need_all(args)
        return args[0]

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self._wrapped(super().get_attr(target, args, kwargs).to("meta"))

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        layer: Any = self.fetch_attr(target)
        if target in self.layers or target in self.norms:
            raise TypeError(f"'{target}' is used in two places.")  # channels dead in one may be needed in the other
        if isinstance(layer, _CONVOLVING):
            return self._convolve(target, layer, *args, **kwargs)
        if isinstance(layer, nn.BatchNorm2d):
            return self._normalise(target, layer, *args, **kwargs)
        if isinstance(layer, nn.ZeroPad2d):
            return self._pad(_evaluate(layer, *_shapes(args)), args[0], layer.padding)
        return self._step(type(layer), lambda *inputs, **options: _evaluate(layer, *inputs, **options), args, kwargs)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self._step(target, target, args, kwargs)

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self._step(target, lambda this, *rest, **options: getattr(this, target)(*rest, **options), args, kwargs)

    def _convolve(self, name: str, layer: nn.Conv2d | nn.Linear, inputs: _Signal) -> _Signal:
        outputs = _evaluate(layer, inputs.shape)
        if inputs.shape.ndim != layer.weight.ndim:
            raise TypeError(f"'{name}' expects {layer.weight.ndim} dimensions; got {inputs.shape.ndim}.")
        used, nonzero = uses(layer.weight, _groups(layer))
        constant_inputs = (inputs.constants == 0) | (~np.isnan(inputs.constants) & _is_unpadded(layer))
        needs = used & ~constant_inputs
        constants = _sum_of_constants(layer, np.where(constant_inputs, inputs.constants, 0))
        depthwise = _groups(layer) == needs.shape[0] == needs.shape[1]
        ids = inputs.ids if depthwise else self._fresh(len(needs))
        result = _Signal(outputs, ids, np.where(needs.any(axis=1), np.nan, constants))
        self.layers[name] = _Use(layer, inputs, result, used, nonzero, needs & (not depthwise))
        return result

    def _normalise(self, name: str, layer: nn.BatchNorm2d, inputs: _Signal) -> _Signal:
        if layer.running_mean is None or layer.running_var is None:
            return self._unknown(inputs.shape, inputs)
        self.norms[name] = inputs.ids
        mean, variance = (_numbers(statistic) for statistic in (layer.running_mean, layer.running_var))
        factor = _numbers(layer.weight) if layer.affine else np.ones_like(mean)
        shift = _numbers(layer.bias) if layer.affine else np.zeros_like(mean)
        squared = variance + layer.eps
        spread = np.sqrt(np.where(squared > 0, squared, np.nan))  # a negative variance gives NaN
        constants = (inputs.constants - mean) / spread * factor + shift
        return _Signal(inputs.shape, inputs.ids, np.where((factor == 0) & (squared > 0), shift, constants))

    def _step(self, kind: Any, evaluate: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        first = args[0] if args else None
        shape = _result_for_shapes(kind, evaluate, args, kwargs)
        if not isinstance(shape, Tensor):
            return self._wrapped(shape, args, kwargs)
        if _is(kind, (torch.cat, torch.concat)):
            return self._concatenate(shape, *args, **kwargs)
        if not isinstance(first, _Signal):
            return self._unknown(shape, args, kwargs)
        if _is(kind, _ELEMENTWISE):
            constants = evaluate(torch.tensor(first.constants), *args[1:], **kwargs)
            return _Signal(shape, first.ids, constants.numpy())
        if _is(kind, _PRESERVING):
            return _Signal(shape, first.ids, first.constants)
        if _is(kind, _AVERAGING):
            return _Signal(shape, first.ids, np.where(first.constants == 0, 0.0, np.nan))
        if _is(kind, (torch.mean, "mean")) and shape.shape[:2] == first.shape.shape[:2]:
            return _Signal(shape, first.ids, first.constants)
        if _is(kind, _RESHAPING):
            return self._reshape(shape, first)
        if _is(kind, _ADDING) and not kwargs:
            return self._add(shape, *args)
        if _is(kind, (F.pad,)):
            return self._pad(shape, *args, **kwargs)
        if _is(kind, (operator.getitem,)):
            return self._slice(shape, *args)
        return self._unknown(shape, args, kwargs)

    def _reshape(self, shape: Tensor, signal: _Signal) -> _Signal:
        """Channels are kept, or flattened: each is repeated once per spatial position."""
        positions = signal.shape[0, 0].numel()
        times = shape.shape[1] // len(signal.ids) if shape.ndim > 1 else 0
        expected = (signal.shape.shape[0], times * len(signal.ids))
        if tuple(shape.shape[:2]) != expected or times not in (1, positions):
            return self._unknown(shape, signal)
        return _Signal(shape, signal.ids.repeat(times), signal.constants.repeat(times))

    def _add(self, shape: Tensor, a: _Signal, b: Any) -> _Signal:
        if not isinstance(b, _Signal) or len(a.ids) != len(b.ids) or a.shape.ndim != b.shape.ndim:
            return self._unknown(shape, a, b)
        self.ties.append(np.stack([a.ids, b.ids]))
        return _Signal(shape, a.ids, a.constants + b.constants)

    def _concatenate(self, shape: Tensor, parts: Any, dim: int = 0) -> _Signal:
        if dim not in (1, 1 - shape.ndim) or not all(isinstance(part, _Signal) for part in parts):
            return self._unknown(shape, parts)
        ids = np.concatenate([part.ids for part in parts])
        return _Signal(shape, ids, np.concatenate([part.constants for part in parts]))

    def _pad(self, shape: Tensor, signal: _Signal, pad: Any, mode: str = "constant", value: Any = None) -> _Signal:
        """A channel stays constant if the border has the same value; added channels are constant at that value."""
        border = value or 0.0
        before, after = (*pad, 0, 0, 0, 0, 0, 0)[4:6]
        if mode != "constant" or signal.shape.ndim != 4 or any(pad[6:]) or before < 0 or after < 0:
            return self._unknown(shape, signal)
        kept = (signal.constants == border) | (not any(pad[:4]))
        constants = np.pad(np.where(kept, signal.constants, np.nan), (before, after), constant_values=border)
        return _Signal(shape, np.concatenate([self._fresh(before), signal.ids, self._fresh(after)]), constants)

    def _slice(self, shape: Tensor, signal: _Signal, index: Any) -> _Signal:
        """Slices of positions and channels; any other indexing is unknown."""
        index = index if isinstance(index, tuple) else (index,)
        if not all(isinstance(part, slice) for part in index) or index[0] != slice(None):
            return self._unknown(shape, signal)
        chosen = index[1] if len(index) > 1 else slice(None)
        return _Signal(shape, signal.ids[chosen], signal.constants[chosen])

    def _fresh(self, channels: int) -> np.ndarray:
        """New ids for channels."""
        self.count += channels
        return np.arange(self.count - channels, self.count)

    def _unknown(self, shape: Tensor, *inputs: Any) -> _Signal:
        """A tensor about which nothing is known: all of it and of its inputs may be needed."""
        self._need_all(inputs)
        channels = shape.shape[1] if shape.ndim > 1 else 1
        self.always.append(self._fresh(channels))
        return _Signal(shape, self.always[-1], np.full(channels, np.nan))

    def _wrapped(self, result: Any, *inputs: Any) -> Any:
        """A result that is not one tensor: sizes are kept, tensors inside are unknown."""
        if isinstance(result, int | torch.Size):
            return result
        return _map(result, lambda part: self._unknown(part, inputs) if isinstance(part, Tensor) else part)

    def _need_all(self, inputs: Any) -> None:
        _map(inputs, lambda part: self.always.append(part.ids) if isinstance(part, _Signal) else None)


def _result_for_shapes(kind: Any, evaluate: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The result of a step for the shapes of its inputs alone. Where torch would load its compiler to compute with meta tensors,
    which takes seconds, it is found otherwise."""
    signals = bool(args) and all(isinstance(each, _Signal) for each in args)
    is_sum = _is(kind, _ADDING) and signals and not kwargs and len({each.shape.shape for each in args}) == 1
    if is_sum or (_is(kind, _ELEMENTWISE) and signals):
        return args[0].shape
    if _is(kind, (torch.mean, "mean")):
        zeros = _map(
            (args, kwargs), lambda part: torch.zeros(()).expand(part.shape.shape) if isinstance(part, _Signal) else part
        )
        return evaluate(*zeros[0], **zeros[1]).to("meta")
    return evaluate(*_shapes(args), **_shapes(kwargs))


def _channels(name: str, use: _Use, dead: np.ndarray) -> Channels:
    height, width = (*use.outputs.shape.shape[2:], 1, 1)[:2]
    filters_dead, channels_dead = dead[use.outputs.ids], dead[use.inputs.ids]
    constants = use.inputs.constants
    return Channels(name, use.layer, use.used, use.nonzero, filters_dead, channels_dead, constants, (height, width))


def _sum_of_constants(layer: nn.Conv2d | nn.Linear, constants: np.ndarray) -> np.ndarray:
    """The output of each filter (F,) for constant input channels (C,), away from the border."""
    weight = layer.weight.detach()
    result = _numbers(layer.bias) if layer.bias is not None else np.zeros(len(weight))
    filters, width = len(weight) // _groups(layer), weight.shape[1]
    for channel in np.flatnonzero(constants):
        rows = slice(channel // width * filters, (channel // width + 1) * filters)
        result[rows] += constants[channel] * _numbers(weight[rows, channel % width]).reshape(filters, -1).sum(axis=1)
    return result


def _is_unpadded(layer: nn.Conv2d | nn.Linear) -> bool:
    """True if the layer does not pad. Subclasses of Conv2d may pad in their own code, except for 1×1 kernels."""
    if isinstance(layer, nn.Linear) or layer.padding == "valid":
        return True
    pads_itself = type(layer) is not nn.Conv2d and tuple(layer.kernel_size) != (1, 1)
    return not pads_itself and layer.padding != "same" and not any(layer.padding)


def _groups(layer: nn.Conv2d | nn.Linear) -> int:
    return layer.groups if isinstance(layer, nn.Conv2d) else 1


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy().copy()


def _evaluate(layer: nn.Module, *inputs: Any, **options: Any) -> Tensor:
    states = {name: tensor.to("meta") for name, tensor in layer.state_dict().items()}
    return torch.func.functional_call(layer, states, inputs, options)


def _shapes(values: Any) -> Any:
    return _map(values, lambda part: part.shape if isinstance(part, _Signal) else part)


def _map(values: Any, change: Callable[[Any], Any]) -> Any:
    """Apply ``change`` to each part of nested tuples, lists and dictionaries."""
    return fx.node.map_aggregate(values, change)


def _is(kind: Any, known: tuple[Any, ...]) -> bool:
    """True if a function, method name or class is listed in ``known``, or is a subclass of a listed class."""
    types = tuple(one for one in known if isinstance(one, type))
    return kind in known or (isinstance(kind, type) and issubclass(kind, types))
