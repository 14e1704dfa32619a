"""The graph of a network's forward pass, traced by torch.fx on tensors without data: every operation that torch runs, in order,
with the names of the parameters it uses. Whatever modules a network is written with, the operations are the same few."""

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from sparse_core.errors import InputError

BATCH = 2


@dataclass(frozen=True, eq=False)
class Parameter:
    """A parameter or buffer by its name in the network's state dict, "" for other constants; ``stored`` if it is that tensor
    itself, and not computed from it."""

    name: str
    stored: bool

    @property
    def layer(self) -> str:
        """The name of the layer it belongs to."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True, eq=False)
class Operation:
    """An operation: its name, such as ``conv2d``, in-place ones without their underscore (``in_place``); its arguments, in which
    other operations stand for their results; and its result's shape, or the results' where there are several."""

    node: fx.Node
    name: str
    in_place: bool
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    @property
    def result(self) -> Any:
        """A tensor without data, or several of them in a tuple or list."""
        return self.node.meta["val"]

    def argument(self, number: int, name: str, default: Any = None) -> Any:
        """An argument by position or name."""
        return self.arguments[number] if len(self.arguments) > number else self.options.get(name, default)


@dataclass(frozen=True)
class Traced:
    """A forward pass: its input, its operations in order, the parameters in it, and its output's node."""

    image: fx.Node
    operations: list[Operation]
    parameters: dict[fx.Node, Parameter]
    output: Any


def trace(module: nn.Module, input_size: int) -> Traced:
    """The forward pass of a network in evaluation mode for images (N, 3, ``input_size``, ``input_size``). Raises InputError if it
    depends on values, and cannot be traced."""
    state = {name: tensor.to("meta") for name, tensor in _tensors(module)}
    names = {id(tensor): name for name, tensor in state.items()}

    def forward(images: Tensor) -> Any:
        return torch.func.functional_call(module, state, (images,))

    try:
        with torch.no_grad():
            images = torch.empty(BATCH, 3, input_size, input_size, device="meta")
            traced = make_fx(forward, pre_dispatch=True)(images)
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"The forward pass of this network cannot be traced: {reason}") from error
    nodes = list(traced.graph.nodes)
    found = {node: names.get(id(getattr(traced, str(node.target))), "") for node in nodes if node.op == "get_attr"}
    parameters = {node: Parameter(name, bool(name)) for node, name in found.items()}
    operations = [_operation(node) for node in nodes if node.op == "call_function"]
    image = next(node for node in nodes if node.op == "placeholder")
    return Traced(image, operations, parameters, nodes[-1].args[0])


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _operation(node: fx.Node) -> Operation:
    if node.target is operator.getitem:
        return Operation(node, "getitem", False, node.args, dict(node.kwargs))
    name = str(node.target).split(".")[1]
    in_place = name.endswith("_") and not name.endswith("__")
    return Operation(node, name.rstrip("_") if in_place else name, in_place, node.args, dict(node.kwargs))
