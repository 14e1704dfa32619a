"""Make ``data/networks.npz``: keys and shapes of all classification networks of the installed torchvision and timm.

    python -m tools.network_index

Takes some minutes: every network is built without memory. Of those with the same keys and shapes, timm's count as the same if
their modules read the same; torchvision's are compared with timm's by running both with the same random weights (both ResNet50
compute the same; EfficientNet-B0 and the one with TensorFlow's padding do not). Run it whenever requirements.txt names another
version of either library.
"""

import hashlib
import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor, nn

from sparse_core.networks import architectures, known_networks, public_networks
from sparse_core.networks.public_networks import WithoutMemory

COMPARED_PARAMETERS = 120e6  # larger networks with the same tensors count as different
SIDE = 128


@dataclass(frozen=True)
class Entry:
    """A network: its tensors, whether it is a CNN, and a digest of its modules, dropout left out."""

    tensors: tuple[str, ...]
    convolutional: bool
    modules: str


def main() -> None:
    entries = {}
    for number, name in enumerate(all_names()):
        try:
            entries[name] = entry(name)
        except Exception as error:  # a network that this version of its library cannot build
            print(f"{name}: left out ({type(error).__name__}: {str(error)[:100]})", flush=True)
        if number % 100 == 0:
            print(number, name, flush=True)
    write(entries, same_as(entries))


def all_names() -> list[str]:
    """The architectures that no library has, then torchvision's networks, then timm's."""
    known = [(name, variant) for name, each in architectures.ARCHITECTURES.items() for variant in each.variants]
    own = [f"{name}-{variant}" if variant else name for name, variant in known]
    libraries = [sorted(public_networks.names(library)) for library in ("torchvision", "timm")]
    return [*(name for name in own if name.partition("-")[0] not in libraries[0]), *libraries[0], *libraries[1]]


def entry(name: str) -> Entry:
    module = built(name)
    state = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    tensors = sorted(
        known_networks.entry(*item) for item in state.items() if not item[0].endswith(known_networks.COUNTER)
    )
    modules = re.sub(r"(Dropout\d*|DropPath|DropBlock\w*)\([^)]*\)", "Identity()", str(module))
    digest = hashlib.sha256(modules.encode()).hexdigest()
    return Entry(tuple(tensors), public_networks.convolutional(module), digest)


def built(name: str) -> nn.Module:
    """A network that takes no memory."""
    with WithoutMemory():
        if name.partition("-")[0] in architectures.ARCHITECTURES:
            return architectures.build(*architectures.split_name(name))
        return public_networks.make(name)


def same_as(entries: dict[str, Entry]) -> dict[str, str]:
    """For each network the first one that computes the same from the same tensors."""
    groups = defaultdict(list)
    for name, each in entries.items():
        groups[each.tensors].append(name)
    same = {}
    for group in groups.values():
        firsts: dict[str, str] = {}
        for name in group:
            same[name] = firsts.setdefault(entries[name].modules, name)
        first = group[0]
        if len(firsts) > 1 and entries[first].convolutional and not first.startswith(public_networks.TIMM):
            print("comparing", *firsts.values(), flush=True)
            expected = output_of(first)
            equal = {name for name in firsts.values() if name == first or agree(output_of(name), expected)}
            same |= {name: first for name in group if same[name] in equal}
    return same


def agree(a: Tensor | None, b: Tensor | None) -> bool:
    return (
        a is not None
        and b is not None
        and a.shape == b.shape
        and torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))
    )


def output_of(name: str) -> Tensor | None:
    """The features of one image with weights that follow from the keys alone; None for a large network, and for one that takes no
    image of this size."""
    if sum(parameter.numel() for parameter in built(name).parameters()) > COMPARED_PARAMETERS:
        return None
    module = public_networks.make(name).eval()
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                generator = torch.Generator().manual_seed(len(key) + sum(key.encode()))
                drawn = torch.randn(tensor.shape, generator=generator) / max(tensor[:1].numel(), 1) ** 0.5
                tensor.copy_(drawn if tensor.ndim > 1 else torch.rand(tensor.shape, generator=generator) + 0.5)
        try:
            return module(torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))
        except (RuntimeError, AssertionError):
            return None


def write(entries: dict[str, Entry], same: dict[str, str]) -> None:
    names = list(entries)
    distinct = sorted({tensor for each in entries.values() for tensor in each.tensors})
    numbers = {tensor: number for number, tensor in enumerate(distinct)}
    versions = [f"{library}=={version(library).partition('+')[0]}" for library in ("torchvision", "timm")]
    known_networks.FILE.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        known_networks.FILE,
        names=text(names),
        versions=text(versions),
        convolutional=np.array([entries[name].convolutional for name in names]),
        same_as=np.array([names.index(same[name]) for name in names], np.int32),
        tensors=text(distinct),
        starts=np.cumsum([0, *(len(entries[name].tensors) for name in names)]).astype(np.int32),
        members=np.array([numbers[tensor] for each in entries.values() for tensor in each.tensors], np.int32),
    )
    size = known_networks.FILE.stat().st_size / 1e6
    print(f"{len(names)} networks, {len(distinct)} tensors, {size:.2f} MB", file=sys.stderr)


def text(lines: list[str]) -> np.ndarray:
    return np.frombuffer("\n".join(lines).encode(), np.uint8)


if __name__ == "__main__":
    main()
