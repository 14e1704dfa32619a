"""The names of all networks that can be recognised in a file, with the keys and shapes of their tensors. Needs no torch.

``data/networks.npz`` holds them for the versions of torchvision and timm in requirements.txt, so that neither has to be imported
nor any network built to recognise one; ``tools/network_index.py`` makes it from these libraries' own lists.
"""

import bisect
import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sparse_core.paths import REPOSITORY

FILE = REPOSITORY / "data" / "networks.npz"
COUNTER = "num_batches_tracked"  # of BatchNorm: old files lack it

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Match:
    """How a file's tensors fit a network without its classifier: the numbers of its tensors that are ``missing`` in the file (or
    have another shape there), of those in the file that it does not have (``extra``), and of those that both share."""

    name: str
    convolutional: bool
    missing: int
    extra: int
    shared: int

    @property
    def similarity(self) -> float:
        """Shared tensors over those of either, in [0, 1]."""
        return self.shared / max(self.shared + self.missing + self.extra, 1)


class _Lines:
    """The lines of a text (uint8) in ascending order, found by bisection: as strings they would take five times as much."""

    def __init__(self, text: np.ndarray) -> None:
        self._text = text
        ends = np.flatnonzero(text == ord("\n"))
        self._edges = np.concatenate([[-1], ends, [len(text)]]).astype(np.int32)

    def __len__(self) -> int:
        return len(self._edges) - 1

    def __getitem__(self, number: int) -> bytes:
        return self._text[self._edges[number] + 1 : self._edges[number + 1]].tobytes()

    def find(self, line: str) -> int | None:
        """The number of a line; None where it is not one."""
        wanted = line.encode()
        number = bisect.bisect_left(self, wanted)
        return number if number < len(self) and self[number] == wanted else None


@dataclass(frozen=True)
class _Index:
    names: tuple[str, ...]
    convolutional: np.ndarray  # (names,) bool
    same_as: np.ndarray  # (names,) the first network that computes the same from the same tensors
    tensors: _Lines  # "key|8,3,3,3"
    starts: np.ndarray  # (names + 1,) of each network's part of members
    members: np.ndarray  # numbers of tensors


@functools.cache
def names() -> tuple[str, ...]:
    """All names, those of the paper's architectures and torchvision first."""
    with np.load(FILE) as file:
        return tuple(bytes(file["names"]).decode().split("\n"))


@functools.cache
def convolutional_names() -> tuple[str, ...]:
    """The names of those that are CNNs."""
    with np.load(FILE) as file:
        return tuple(name for name, is_cnn in zip(names(), file["convolutional"], strict=True) if is_cnn)


def near(name: str) -> list[str]:
    """The names that a misspelled one may stand for."""
    return difflib.get_close_matches(name, names(), n=3, cutoff=0.7)


def versions() -> dict[str, str]:
    """The versions of the libraries that the index was made with, by name."""
    with np.load(FILE) as file:
        return dict(line.split("==") for line in bytes(file["versions"]).decode().split("\n"))


def match(shapes: Mapping[str, Shape]) -> list[Match]:
    """All networks by similarity to the tensors of a file, the most similar first; of those that compute the same from the same
    tensors, only the first."""
    index = _index()
    given = {entry(key, shape) for key, shape in shapes.items() if not key.endswith(COUNTER)}
    found = np.zeros(len(index.tensors), bool)
    found[[number for tensor in given if (number := index.tensors.find(tensor)) is not None]] = True
    shared = np.add.reduceat(found[index.members], index.starts[:-1], dtype=np.int64)
    sizes = np.diff(index.starts)
    similarity = shared / (sizes + len(given) - shared)
    order = [int(row) for row in np.argsort(-similarity, kind="stable") if index.same_as[row] == row]
    return [
        Match(
            index.names[row],
            bool(index.convolutional[row]),
            int(sizes[row] - shared[row]),
            len(given) - int(shared[row]),
            int(shared[row]),
        )
        for row in order
    ]


def shapes_of(name: str) -> dict[str, Shape]:
    """The shape of each tensor of a network without its classifier, BatchNorm's counters left out."""
    index = _index()
    row = index.names.index(name)
    members = index.members[index.starts[row] : index.starts[row + 1]]
    pairs = (index.tensors[member].decode().rsplit("|", 1) for member in members)
    return {key: tuple(int(side) for side in shape.split(",") if side) for key, shape in pairs}


def entry(key: str, shape: Shape) -> str:
    """A tensor as the index names it."""
    return f"{key}|{','.join(map(str, shape))}"


@functools.cache
def _index() -> _Index:
    with np.load(FILE) as file:
        tensors = _Lines(file["tensors"])
        return _Index(names(), file["convolutional"], file["same_as"], tensors, file["starts"], file["members"])
