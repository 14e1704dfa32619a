"""What is known of a network's tensors where only channels count: the channel of each entry, and which are constant.

A signal has an id and a constant for every entry, but entries that differ by position alone share one: along such a dimension
its arrays have size 1. So the ids of images (N, C, H, W) are (1, C, 1, 1). Functions return None where the result is unknown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Signal:
    """A tensor of this shape: channel ids (the same id is the same channel) and constants (NaN for what is not constant), both
    with the tensor's number of dimensions, of size 1 where nothing differs."""

    shape: Shape
    ids: np.ndarray
    constants: np.ndarray

    def is_whole(self, dimension: int) -> bool:
        """Whether the arrays have every entry along a dimension."""
        return self.ids.shape[dimension] == self.shape[dimension]


def along(shape: Shape, axis: int, ids: np.ndarray, constants: np.ndarray | None = None) -> Signal:
    """A signal whose ids (C,) and constants (C,) differ along one axis only; by default nothing is constant."""
    form = [1] * len(shape)
    form[axis] = len(ids)
    values = np.full(len(ids), np.nan) if constants is None else constants
    return Signal(shape, ids.reshape(form), values.reshape(form))


def reshaped(signal: Signal, shape: Shape) -> Signal:
    """Entries in the same order under another shape; dimensions in which nothing differs stay so."""
    whole: list[int] = []
    after: list[int] = []
    for old, new in _groups(signal.shape, shape):
        same = all(signal.ids.shape[dimension] == 1 for dimension in old)
        whole += [1 if same else signal.shape[dimension] for dimension in old]
        after += [1 if same else shape[dimension] for dimension in new]
    ids, constants = (np.broadcast_to(part, whole).reshape(after) for part in (signal.ids, signal.constants))
    return Signal(shape, ids, constants)


def _groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """The dimensions of two shapes that hold the same entries, in consecutive groups."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        left, right = [i], [j]
        a, b = old[i], new[j]
        while a != b:
            if a < b:
                i += 1
                left.append(i)
                a *= old[i]
            else:
                j += 1
                right.append(j)
                b *= new[j]
        groups.append((left, right))
        i, j = i + 1, j + 1
    groups.append((list(range(i, len(old))), list(range(j, len(new)))))  # all of size 1
    return groups


def permuted(signal: Signal, order: Sequence[int]) -> Signal:
    shape = tuple(signal.shape[dimension] for dimension in order)
    return Signal(shape, signal.ids.transpose(order), signal.constants.transpose(order))


def reduced(signal: Signal, shape: Shape, dimensions: Sequence[int], keep: bool) -> Signal | None:
    """A mean or maximum over positions; unknown over channels."""
    if any(signal.ids.shape[dimension] > 1 for dimension in dimensions):
        return None
    if keep:
        return Signal(shape, signal.ids, signal.constants)
    axes = tuple(dimension % len(signal.shape) for dimension in dimensions)
    return Signal(shape, signal.ids.squeeze(axes), signal.constants.squeeze(axes))


def sliced(signal: Signal, shape: Shape, dimension: int, part: slice) -> Signal:
    if not signal.is_whole(dimension):
        return Signal(shape, signal.ids, signal.constants)
    index = (slice(None),) * (dimension % len(shape)) + (part,)
    return Signal(shape, signal.ids[index], signal.constants[index])


def divided(signal: Signal, shapes: Sequence[Shape], dimension: int) -> list[Signal]:
    """Consecutive parts of these shapes."""
    ends = np.cumsum([shape[dimension] for shape in shapes])
    starts = [0, *ends[:-1]]
    spans = [slice(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]
    return [sliced(signal, shape, dimension, span) for shape, span in zip(shapes, spans, strict=True)]


def concatenated(parts: Sequence[Signal], shape: Shape, dimension: int) -> Signal | None:
    if not all(part.is_whole(dimension) for part in parts):
        return None
    common = [max(part.ids.shape[axis] for part in parts) for axis in range(len(shape))]
    forms = []
    for part in parts:
        form = list(common)
        form[dimension] = part.shape[dimension]
        forms.append(form)
    ids, constants = (
        np.concatenate(
            [np.broadcast_to(getattr(part, kind), form) for part, form in zip(parts, forms, strict=True)], dimension
        )
        for kind in ("ids", "constants")
    )
    return Signal(shape, ids, constants)


def padded(
    signal: Signal, shape: Shape, pad: Sequence[int], border: float, fresh: Callable[[int], np.ndarray]
) -> Signal | None:
    """Padding with ``border``: added channels are constant at that value; a channel padded at its positions stays constant if it
    has the same value. ``pad`` is torch's, the last dimension first; ``fresh`` gives new ids."""
    ids, constants = signal.ids, signal.constants
    for number in range(len(pad) // 2):
        before, after = pad[2 * number : 2 * number + 2]
        axis = len(shape) - 1 - number
        if min(before, after) < 0:
            return None
        if not before and not after:
            continue
        if not signal.is_whole(axis):
            constants = np.where(constants == border, constants, np.nan)
            continue
        if ids.size != ids.shape[axis]:
            return None
        form = list(ids.shape)
        added = []
        for count in (before, after):
            form[axis] = count
            added.append(fresh(count).reshape(form))
        ids = np.concatenate([added[0], ids, added[1]], axis)
        widths = [(0, 0)] * ids.ndim
        widths[axis] = (before, after)
        constants = np.pad(constants, widths, constant_values=border)
    return Signal(shape, ids, constants)


def paired(a: Signal, b: Signal, shape: Shape) -> tuple[Signal, Signal, bool, bool] | None:
    """Two signals of one shape, as ``shape`` broadcasts them; and whether the channels of each are repeated for those of the
    other. Unknown where both are."""
    forms = [
        (
            (1,) * (len(shape) - len(part.shape)) + part.ids.shape,
            (1,) * (len(shape) - len(part.shape)) + part.shape,
            part,
        )
        for part in (a, b)
    ]
    common = tuple(max(sizes) for sizes in zip(forms[0][0], forms[1][0], strict=True))
    repeated = [any(full == 1 and size > 1 for full, size in zip(sizes, common, strict=True)) for _, sizes, _ in forms]
    if all(repeated):
        return None
    first, second = (
        Signal(shape, *(np.broadcast_to(array.reshape(form), common) for array in (part.ids, part.constants)))
        for form, _, part in forms
    )
    return first, second, repeated[0], repeated[1]
