"""Backbones as single files that this product writes and reads back unchanged: safetensors, plain or packed.

A plain file holds the whole state dict under the names of the public network (torchvision's, where it is theirs), so that torch
loads it there with ``strict=True``. A packed file is small: of a weight W with enough zeros it holds ``W.bits``, one bit per
weight (1 = stored, ``numpy.packbits``), and ``W.values``, the stored ones as float32. Only weights whose bits are all 0 are left
out, so both forms give the very same tensors.

The metadata says what the network is: architecture, variant, method, sparsity, upstream, preprocessing (``transform``), and the
whole ``card`` with its provenance as JSON. Pruned are the weights that are 0; where the mask differs from that, ``mask_differs``
holds the packed and compressed bits of the difference.
"""

import base64
import dataclasses
import json
import math
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from sparse_core.errors import InputError
from sparse_core.networks import packed_masks
from sparse_core.networks.library import BackboneCard, stated_card
from sparse_core.networks.masks import Mask
from sparse_core.paths import atomic_file

PACKED = "sparse-transfer-lab packed network 1"
COMPACT = "compact"
FACTS = ("format", "architecture", "variant", "method", "sparsity", "upstream", "transform")  # without the card
BITS, VALUES = ".bits", ".values"
_FOLDERS = re.compile(r"(?<![\w.])/(?:[^/\s]+/)+")


def save(path: Path, card: BackboneCard, state: Mapping[str, Tensor], mask: Mask, packed: bool) -> None:
    """Write a backbone's file, all of it or nothing. ``state`` is the whole state dict under the public network's names, the
    classifier included; ``mask`` that of the backbone."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    metadata = describe(card, tensors, mask)
    if packed:
        tensors, shapes = _pack(tensors)
        metadata |= {"packed": PACKED, "shapes": json.dumps(shapes)}
    write(path, tensors, metadata)


def write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file, all of it or nothing."""
    with atomic_file(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, metadata)


def describe(card: BackboneCard, state: Mapping[str, Tensor], mask: Mask) -> dict[str, str]:
    """The metadata of a backbone's file. Paths on this machine are reduced to the names of files."""
    document = dataclasses.asdict(card) | {"preprocessing": card.preprocessing.document()}
    metadata = {
        "format": "pt",
        "architecture": card.architecture,
        "variant": card.variant,
        "method": card.method,
        "sparsity": f"{card.sparsity:g}",
        "upstream": card.upstream,
        "transform": json.dumps(card.preprocessing.document()),
        "mask": "weights that are 0 are pruned",
        "card": json.dumps(_without_folders(document)),
    }
    differs = {name: kept.cpu() ^ (state[name] != 0) for name, kept in mask.tensors.items()}
    differing = {name: _compressed(bits) for name, bits in differs.items() if bool(bits.any())}
    if differing:
        metadata["mask"] += ", but for those of mask_differs (base64 of zlib of numpy.packbits, by weight)"
        metadata["mask_differs"] = json.dumps(differing)
    return metadata


def unpacked(document: Any, path: Path) -> Any:
    """The document of a file (see ``weight_files``) with the tensors of a packed file as torch knows them; any other document
    as it is. Raises InputError where bits, values and shapes do not belong together, and for a compact form."""
    metadata = document.get("__metadata__") if isinstance(document, dict) else None
    if isinstance(metadata, dict) and metadata.get("form") == COMPACT:
        raise InputError(
            f"{path.name} is the compact form of a structured network, which fits no named architecture. Import the plain or the "
            "packed file of the network."
        )
    if not isinstance(metadata, dict) or "packed" not in metadata:
        return document
    if metadata["packed"] != PACKED:
        raise InputError(f"{path.name} is packed in a form that this version does not know. Update the product.")
    text = metadata.get("shapes", "")
    shapes = packed_masks.parse_shapes(text, path) if text != "{}" else {}
    plain: dict[str, Any] = {"__metadata__": metadata}
    for name, tensor in document.items():
        stem = name.removesuffix(BITS)
        if stem in shapes and name.endswith(BITS):
            plain[stem] = _unpack(tensor, document.get(stem + VALUES), shapes[stem], path)
        elif not (name.endswith(VALUES) and name.removesuffix(VALUES) in shapes) and name != "__metadata__":
            plain[name] = tensor
    return plain


def card_of(document: Any, architecture: str, variant: str) -> BackboneCard | None:
    """The card that a document states for a network of this architecture; None where it states none that can be used."""
    metadata = document.get("__metadata__") if isinstance(document, dict) else None
    if not isinstance(metadata, dict) or "card" not in metadata:
        return None
    try:
        card = stated_card(metadata)
    except (InputError, ValueError, RecursionError):
        return None
    return card if (card.architecture, card.variant) in ((architecture, variant), (architecture, "")) else None


def mask_of(document: Any, state: Mapping[str, Tensor], path: Path) -> Mask:
    """The mask of a document that has a card: ``state`` holds the backbone's tensors. Raises InputError where it does not fit."""
    kept = {name: tensor != 0 for name, tensor in state.items() if tensor.dim() == 4}
    try:
        differing = json.loads(document["__metadata__"].get("mask_differs", "{}"))
        for name, text in differing.items():
            kept[name] = kept[name] ^ _decompressed(text, kept[name])
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error, RecursionError) as error:
        raise InputError(f"{path.name} is damaged: the mask in it does not fit its weights.") from error
    return Mask(kept)


def _pack(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """Tensors with those that become smaller as bits and values, and the shapes of these."""
    packed: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or tensor.dim() < 2:
            packed[name] = tensor
            continue
        stored = tensor.flatten().view(torch.int32) != 0
        bits = torch.from_numpy(np.packbits(stored.numpy()))
        values = tensor.flatten()[stored]
        if bits.nbytes + values.nbytes >= tensor.nbytes:
            packed[name] = tensor
        else:
            packed[name + BITS], packed[name + VALUES] = bits, values
            shapes[name] = list(tensor.shape)
    return packed, shapes


def _unpack(bits: Any, values: Any, shape: tuple[int, ...], path: Path) -> Tensor:
    size = math.prod(shape)
    fits = isinstance(bits, Tensor) and bits.dtype == torch.uint8 and bits.shape == (-(-size // 8),)
    stored = np.unpackbits(bits.numpy(), count=size).view(bool) if fits else np.zeros(0, bool)
    if not (
        fits
        and isinstance(values, Tensor)
        and values.dtype == torch.float32
        and values.shape == (np.count_nonzero(stored),)
    ):
        raise InputError(f"{path.name} is damaged: the bits and values of a packed weight do not belong together.")
    flat = torch.zeros(size)
    flat[torch.from_numpy(stored)] = values
    return flat.view(shape)


def _compressed(bits: Tensor) -> str:
    return base64.b64encode(zlib.compress(np.packbits(bits.numpy()).tobytes(), 9)).decode()


def _decompressed(text: str, like: Tensor) -> Tensor:
    """Boolean bits of the shape of ``like``. Raises ValueError or zlib.error for text that holds others."""
    size = -(-like.numel() // 8)
    packed = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), size + 1)
    if len(packed) != size:
        raise ValueError("bits of another number of weights")
    return torch.from_numpy(packed_masks.unpack(np.frombuffer(packed, np.uint8), tuple(like.shape)))


def _without_folders(value: Any) -> Any:
    """The document with paths in its texts reduced to their last part: a file that is passed on names no folders."""
    if isinstance(value, dict):
        return {key: _without_folders(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(entry) for entry in value]
    if not isinstance(value, str):
        return value
    return os.path.basename(value.rstrip("/")) if os.path.isabs(value) else _FOLDERS.sub("", value)
