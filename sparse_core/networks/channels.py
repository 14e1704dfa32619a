"""Which channels of a network are dead: they can be removed without any change to what it computes.

A channel is one place in the tensors that must keep it together: the filter that makes it, and then through BatchNorm,
activations, pooling and depthwise convolutions. Where two tensors are added their channels are tied, so a channel of a
ResNet's stream leaves in every block or in none. A channel is dead when nothing that the output depends on needs it. A
convolution does not need an input channel whose weights are all 0, nor one that arrives as exactly 0 everywhere, which is
so when each of its producers is 0.

Constants. A filter whose weights are all 0, or all of whose inputs are constant, gives a constant: its bias, and after a
BatchNorm β − γ·μ/√(σ²+ε). Constants are followed exactly, as in evaluation mode. One that is 0 where a convolution receives
it, say because ReLU cut it off, contributes nothing. One that is not 0 moves into the bias of the convolution (or into the
mean of the BatchNorm behind it) if that has no padding, so it is not needed there either. A padded convolution sees zeros
beyond the border and the constant within, so no bias can stand for it: that channel is needed, and its filter stays.
The channels of the image and those of the output are never dead.

An operation that is not known here makes its inputs needed and its outputs live: the count of dead channels may then be too
low, never too high.
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

# Work on each number alone, so that a constant stays one.
_ELEMENTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Softplus),
    *(F.relu, F.relu6, F.hardtanh, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, F.hardswish, F.hardsigmoid),
    *(torch.relu, torch.sigmoid, torch.tanh, "relu", "relu_", "sigmoid", "tanh"),
)
# Give back what came in, or the same numbers averaged or chosen among themselves.
_KEEPING = (
    *(nn.Identity, nn.Dropout, nn.Dropout2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(F.dropout, F.max_pool2d, torch.max_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d),
    *("contiguous", "clone", "detach"),
)
# May count zeros from beyond the border in.
_AVERAGING = (nn.AvgPool2d, F.avg_pool2d)
_RESHAPING = (nn.Flatten, torch.flatten, torch.reshape, torch.squeeze, "flatten", "view", "reshape", "squeeze")
_ADDING = (operator.add, operator.iadd, torch.add, "add", "add_")
_CONVOLVING = (nn.Conv2d, nn.Linear)
_STEPS = (*_CONVOLVING, *_ELEMENTWISE, *_KEEPING, *_AVERAGING, *_RESHAPING, nn.BatchNorm2d, nn.ZeroPad2d)


@dataclass(frozen=True)
class Channels:
    """What became of the channels of one convolution or linear layer.

    ``used`` (F, C) and ``nonzero`` are those of ``uses``. ``filters_dead`` (F,) and ``channels_dead`` (C,) tell which can
    go. ``constants`` (C,) are the values at which its input channels stand everywhere, NaN where they vary. ``output`` is
    the height and width of what it gives.
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
        """How many weights are left, zeros among them, once dead filters and channels are gone."""
        groups = _groups(self.layer)
        filters = (~self.filters_dead).reshape(groups, -1).sum(axis=1)
        channels = (~self.channels_dead).reshape(groups, -1).sum(axis=1)
        return int((filters * channels).sum()) * self.layer.weight[0, 0].numel()


@dataclass(frozen=True)
class Analysis:
    """Every layer in the order of computation, and by name which channels (C,) of each BatchNorm are dead."""

    layers: list[Channels]
    norms_dead: dict[str, np.ndarray]


def analyse(module: nn.Module, input_size: int) -> Analysis:
    """Follow the channels of a network that takes images (N, 3, ``input_size``, ``input_size``), in evaluation mode.

    Weights are read, never run. Raises InputError where its forward pass cannot be followed symbolically.
    """
    try:
        flow = _Flow(module, _Tracer().trace(module))
        flow.follow(input_size)
    except (fx.proxy.TraceError, TypeError, RuntimeError, IndexError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"The channels of this network cannot be followed: {reason}") from error
    return flow.result()


def uses(weight: Tensor, groups: int = 1) -> tuple[np.ndarray, int]:
    """For which input channels each filter has a weight other than 0, and how many weights are not 0 in all.

    ``weight`` is (filters, channels / groups, …). The first result is (filters, channels), all groups side by side.
    """
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


@dataclass(frozen=True)
class _Signal:
    """A tensor within the network: a stand-in without data for its shape, and of each channel its name and constant.

    Channels of one name are one. ``constants`` are NaN where a channel varies.
    """

    shape: Tensor
    names: np.ndarray
    constants: np.ndarray


@dataclass(frozen=True)
class _Use:
    """One layer at work: filter f needs input channel c where ``needs[f, c]``."""

    layer: nn.Conv2d | nn.Linear
    inputs: _Signal
    outputs: _Signal
    used: np.ndarray
    nonzero: int
    needs: np.ndarray


class _Tracer(fx.Tracer):
    """Takes every layer that is known here as one step, however its forward pass is written."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _is(type(m), _STEPS) or super().is_leaf_module(m, module_qualified_name)


class _Flow(fx.Interpreter):
    """Runs the graph on shapes and constants in place of numbers, and notes which channels are tied and needed."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, graph=graph)
        self.extra_traceback = False
        self.count = 0
        self.ties: list[tuple[np.ndarray, np.ndarray]] = []
        self.always: list[np.ndarray] = []
        self.layers: dict[str, _Use] = {}
        self.norms: dict[str, np.ndarray] = {}

    def follow(self, input_size: int) -> None:
        """Go through the graph, from a batch of two images to the output."""
        self.run(self._unknown(torch.empty(2, 3, input_size, input_size, device="meta")))

    def result(self) -> Analysis:
        """Mark as needed what the output needs, layer by layer from its end until nothing is added; the rest is dead."""
        tied = [
            np.concatenate([np.arange(0), *side]) for side in ([a for a, _ in self.ties], [b for _, b in self.ties])
        ]
        edges = coo_array((np.ones(len(tied[0])), (tied[0], tied[1])), shape=(self.count, self.count))
        classes, labels = connected_components(edges, directed=False)
        needed = np.zeros(classes, bool)
        needed[labels[np.concatenate(self.always)]] = True
        marked = -1
        while marked < needed.sum():
            marked = needed.sum()
            for use in reversed(self.layers.values()):
                rows = use.needs[needed[labels[use.outputs.names]]]
                needed[labels[use.inputs.names[rows.any(axis=0)]]] = True
        dead = ~needed[labels]
        layers = [_channels(name, use, dead) for name, use in self.layers.items()]
        return Analysis(layers, {name: dead[names] for name, names in self.norms.items()})

    def output(self, target: Any, args: Any, kwargs: Any) -> Any:
        self._need_all(args)
        return args[0]

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self._wrapped(super().get_attr(target, args, kwargs).to("meta"))

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        layer: Any = self.fetch_attr(target)
        if target in self.layers or target in self.norms:
            raise TypeError(f"'{target}' is used in two places.")  # what can go in one may be needed in the other
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
        return self._step(
            target, lambda first, *rest, **options: getattr(first, target)(*rest, **options), args, kwargs
        )

    def _convolve(self, name: str, layer: nn.Conv2d | nn.Linear, inputs: _Signal) -> _Signal:
        outputs = _evaluate(layer, inputs.shape)
        if inputs.shape.ndim != layer.weight.ndim:
            raise TypeError(f"'{name}' gets a tensor of {inputs.shape.ndim} dimensions, not {layer.weight.ndim}.")
        used, nonzero = uses(layer.weight, _groups(layer))
        settled = (inputs.constants == 0) | (~np.isnan(inputs.constants) & _is_unpadded(layer))
        needs = used & ~settled
        constants = _sum_of_constants(layer, np.where(settled, inputs.constants, 0))
        depthwise = _groups(layer) == needs.shape[0] == needs.shape[1]
        names = inputs.names if depthwise else self._fresh(len(needs))
        result = _Signal(outputs, names, np.where(needs.any(axis=1), np.nan, constants))
        self.layers[name] = _Use(layer, inputs, result, used, nonzero, needs & (not depthwise))
        return result

    def _normalise(self, name: str, layer: nn.BatchNorm2d, inputs: _Signal) -> _Signal:
        if layer.running_mean is None or layer.running_var is None:
            return self._unknown(inputs.shape, inputs)
        self.norms[name] = inputs.names
        mean, variance = (_numbers(statistic) for statistic in (layer.running_mean, layer.running_var))
        factor = _numbers(layer.weight) if layer.affine else np.ones_like(mean)
        shift = _numbers(layer.bias) if layer.affine else np.zeros_like(mean)
        squared = variance + layer.eps
        spread = np.sqrt(np.where(squared > 0, squared, np.nan))  # no number comes out behind a variance without a root
        constants = (inputs.constants - mean) / spread * factor + shift
        return _Signal(inputs.shape, inputs.names, np.where((factor == 0) & (squared > 0), shift, constants))

    def _step(self, kind: Any, evaluate: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        shape = evaluate(*_shapes(args), **_shapes(kwargs))
        first = args[0] if args else None
        if not isinstance(shape, Tensor):
            return self._wrapped(shape, args, kwargs)
        if _is(kind, (torch.cat, torch.concat)):
            return self._concatenate(shape, *args, **kwargs)
        if not isinstance(first, _Signal):
            return self._unknown(shape, args, kwargs)
        if _is(kind, _ELEMENTWISE):
            constants = evaluate(torch.tensor(first.constants), *args[1:], **kwargs)
            return _Signal(shape, first.names, constants.numpy())
        if _is(kind, _KEEPING):
            return _Signal(shape, first.names, first.constants)
        if _is(kind, _AVERAGING):
            return _Signal(shape, first.names, np.where(first.constants == 0, 0.0, np.nan))
        if _is(kind, (torch.mean, "mean")) and shape.shape[:2] == first.shape.shape[:2]:
            return _Signal(shape, first.names, first.constants)
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
        """Channels stay, or are laid out one after the other, each as many times as it had places."""
        places = signal.shape[0, 0].numel()
        times = shape.shape[1] // len(signal.names) if shape.ndim > 1 else 0
        if (
            shape.shape[0] != signal.shape.shape[0]
            or shape.shape[1] != times * len(signal.names)
            or times not in (1, places)
        ):
            return self._unknown(shape, signal)
        return _Signal(shape, signal.names.repeat(times), signal.constants.repeat(times))

    def _add(self, shape: Tensor, a: _Signal, b: Any) -> _Signal:
        if not isinstance(b, _Signal) or len(a.names) != len(b.names) or a.shape.ndim != b.shape.ndim:
            return self._unknown(shape, a, b)
        self.ties.append((a.names, b.names))
        return _Signal(shape, a.names, a.constants + b.constants)

    def _concatenate(self, shape: Tensor, parts: Any, dim: int = 0) -> _Signal:
        if dim not in (1, 1 - shape.ndim) or not all(isinstance(part, _Signal) for part in parts):
            return self._unknown(shape, parts)
        names = np.concatenate([part.names for part in parts])
        return _Signal(shape, names, np.concatenate([part.constants for part in parts]))

    def _pad(
        self, shape: Tensor, signal: _Signal, pad: Any, mode: str = "constant", value: float | None = None
    ) -> _Signal:
        """A constant stays one where the border has its value; channels put before and after stand at that value."""
        border = value or 0.0
        before, after = (*pad, 0, 0, 0, 0, 0, 0)[4:6]
        if mode != "constant" or signal.shape.ndim != 4 or any(pad[6:]) or before < 0 or after < 0:
            return self._unknown(shape, signal)
        kept = (signal.constants == border) | (not any(pad[:4]))
        constants = np.pad(np.where(kept, signal.constants, np.nan), (before, after), constant_values=border)
        return _Signal(shape, np.concatenate([self._fresh(before), signal.names, self._fresh(after)]), constants)

    def _slice(self, shape: Tensor, signal: _Signal, index: Any) -> _Signal:
        """Places may be left out, and channels, but no axis."""
        index = index if isinstance(index, tuple) else (index,)
        if not all(isinstance(part, slice) for part in index) or index[0] != slice(None):
            return self._unknown(shape, signal)
        chosen = index[1] if len(index) > 1 else slice(None)
        return _Signal(shape, signal.names[chosen], signal.constants[chosen])

    def _fresh(self, channels: int) -> np.ndarray:
        """Names for channels that are tied to no other yet."""
        self.count += channels
        return np.arange(self.count - channels, self.count)

    def _unknown(self, shape: Tensor, *inputs: Any) -> _Signal:
        """A tensor of which nothing is known but that all of it, and of its inputs, may be needed."""
        self._need_all(inputs)
        channels = shape.shape[1] if shape.ndim > 1 else 1
        self.always.append(self._fresh(channels))
        return _Signal(shape, self.always[-1], np.full(channels, np.nan))

    def _wrapped(self, result: Any, *inputs: Any) -> Any:
        """What an operation gave that is no tensor: sizes as they are, a group of tensors as unknown ones."""
        if isinstance(result, int | torch.Size):
            return result
        return _map(result, lambda part: self._unknown(part, inputs) if isinstance(part, Tensor) else part)

    def _need_all(self, inputs: Any) -> None:
        _map(inputs, lambda part: self.always.append(part.names) if isinstance(part, _Signal) else None)


def _channels(name: str, use: _Use, dead: np.ndarray) -> Channels:
    height, width = (*use.outputs.shape.shape[2:], 1, 1)[:2]
    filters_dead, channels_dead = dead[use.outputs.names], dead[use.inputs.names]
    constants = use.inputs.constants
    return Channels(name, use.layer, use.used, use.nonzero, filters_dead, channels_dead, constants, (height, width))


def _sum_of_constants(layer: nn.Conv2d | nn.Linear, constants: np.ndarray) -> np.ndarray:
    """What each filter (F,) gives where its input channels (C,) stand at these values, away from any border."""
    weight = layer.weight.detach()
    result = _numbers(layer.bias) if layer.bias is not None else np.zeros(len(weight))
    filters, width = len(weight) // _groups(layer), weight.shape[1]
    for channel in np.flatnonzero(constants):
        rows = slice(channel // width * filters, (channel // width + 1) * filters)
        result[rows] += constants[channel] * _numbers(weight[rows, channel % width]).reshape(filters, -1).sum(axis=1)
    return result


def _is_unpadded(layer: nn.Conv2d | nn.Linear) -> bool:
    """True where no filter looks beyond the border. A convolution of another kind may pad on its own, but not for 1×1."""
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
    """What is nested in tuples, lists and dictionaries, each part changed."""
    return fx.node.map_aggregate(values, change)


def _is(kind: Any, known: tuple[Any, ...]) -> bool:
    """True for what is named there, be it a function, a method or a class, or a class derived from one."""
    types = tuple(one for one in known if isinstance(one, type))
    return kind in known or (isinstance(kind, type) and issubclass(kind, types))
