"""The operations of a network's forward pass, recorded on tensors without data: every operation that torch runs, in order, with
the names of the parameters it uses. Whatever modules a network is written with, the operations are the same few.

torch's own tracers of operations import its compiler, which takes as long as torch itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sparse_core.errors import InputError

BATCH = 2
ARITHMETIC = ("add", "sub", "mul", "div")


@dataclass(eq=False)
class Node:
    """A value in a forward pass: ``result`` is a tensor without data, or several in a tuple or list; ``users`` are the nodes of
    the operations that take it, and None for the network's output."""

    result: Any
    users: list["Node | None"] = field(default_factory=list)


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
    nodes stand for tensors; and the ``function`` that computes it."""

    node: Node
    name: str
    in_place: bool
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    function: Any = None

    @property
    def result(self) -> Any:
        """A tensor without data, or several of them in a tuple or list."""
        return self.node.result

    @property
    def inputs(self) -> list[Node]:
        """All nodes in the arguments."""
        return list(_nodes([self.arguments, self.options]))

    def argument(self, number: int, name: str, default: Any = None) -> Any:
        """An argument by position or name."""
        return self.arguments[number] if len(self.arguments) > number else self.options.get(name, default)


@dataclass(frozen=True)
class Traced:
    """A forward pass: its input, its operations in order, the parameters in it, and the nodes of its output."""

    image: Node
    operations: list[Operation]
    parameters: dict[Node, Parameter]
    output: list[Node]


def trace(module: nn.Module, input_size: int) -> Traced:
    """The forward pass of a network in evaluation mode for images (N, 3, ``input_size``, ``input_size``). Raises InputError if it
    depends on values, and cannot be traced."""
    try:
        with torch.inference_mode():  # else operations such as conv2d are recorded in parts
            state = {name: tensor.to("meta") for name, tensor in _tensors(module)}
            images = torch.empty(BATCH, 3, input_size, input_size, device="meta")
            with _Recorder(images, state) as recorder:
                output = torch.func.functional_call(module, state, (images,))
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"The forward pass of this network cannot be traced: {reason}") from error
    return recorder.finish(output)


class _Recorder(TorchDispatchMode):
    """Records every operation while it is entered."""

    def __init__(self, images: Tensor, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.image = Node(images)
        self.parameters = {Node(tensor): Parameter(name, True) for name, tensor in state.items()}
        self.operations: list[Operation] = []
        self.nodes = {
            id(node.result): node for node in (self.image, *self.parameters)
        }  # which keep their tensors alive

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch's own, undocumented: else torch._dynamo is imported in order to be switched off

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        arguments, options = self._replaced(tuple(args)), self._replaced(dict(kwargs or {}))
        name = func.overloadpacket.__name__
        in_place = name.endswith("_") and not name.endswith("__")
        name = name.rstrip("_") if in_place else name
        result = _shape_alone(name, in_place, args, kwargs or {})
        result = func(*args, **(kwargs or {})) if result is None else result
        node = self._record(Operation(Node(result), name, in_place, arguments, options, func))
        if isinstance(result, Tensor):
            self.nodes[id(result)] = node
        elif isinstance(result, list | tuple):
            for number, part in enumerate(result):
                each = self._record(Operation(Node(part), "getitem", False, (node, number), {}))
                self.nodes[id(part)] = each
        return result

    def finish(self, output: Any) -> Traced:
        """What was recorded of a forward pass that gave this output."""
        nodes = list(_nodes(self._replaced([output])))
        for node in nodes:
            node.users.append(None)
        return Traced(self.image, self.operations, self.parameters, nodes)

    def _record(self, operation: Operation) -> Node:
        self.operations.append(operation)
        for node in dict.fromkeys(operation.inputs):
            node.users.append(operation.node)
        return operation.node

    def _replaced(self, value: Any) -> Any:
        """The same arguments with nodes in the place of tensors; a tensor from elsewhere is a constant."""
        if isinstance(value, Tensor):
            if id(value) not in self.nodes:
                self.nodes[id(value)] = Node(value)
                self.parameters[self.nodes[id(value)]] = Parameter("", False)
            return self.nodes[id(value)]
        if isinstance(value, dict):
            return {key: self._replaced(each) for key, each in value.items()}
        return type(value)(map(self._replaced, value)) if isinstance(value, list | tuple) else value


def _shape_alone(name: str, in_place: bool, args: Any, options: dict[str, Any]) -> Tensor | None:
    """The result of a common operation on tensors without data for which torch would import its compiler; None for others."""
    first, *others = args or (None,)
    if not isinstance(first, Tensor) or options:
        return None
    if name in ("batch_norm", "relu6"):
        return first if in_place else torch.empty_like(first)
    if name == "mean" and others:
        return torch.amax(first, *others)
    if name in ARITHMETIC and isinstance(others[0], Tensor) and others[0].dtype == first.dtype:
        return first if in_place else first.new_empty(np.broadcast_shapes(first.shape, others[0].shape))
    return None


def _nodes(value: Any) -> Iterator[Node]:
    """All nodes in nested arguments."""
    if isinstance(value, Node):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _nodes(part)
    elif isinstance(value, dict):
        yield from _nodes(list(value.values()))


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()
