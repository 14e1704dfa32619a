"""Library backbones with a classifier, to be exported and to come back."""

import dataclasses
import json

import torch
from safetensors.torch import save_file

from sparse_core.networks import architectures, backbones, channel_groups, exporting, importing, library, masks
from sparse_core.networks.backbones import Backbone
from sparse_core.sparsify import structured
from tests.support.checkpoints import dense


def in_library(home, name: str, state: dict[str, torch.Tensor], **stated) -> Backbone:
    """The backbone of a state dict with a classifier, imported under ``name``."""
    file = home / f"{name}.given.safetensors"
    file.parent.mkdir(exist_ok=True)
    save_file(dict(state), file)
    importing.add(home, file, name, **stated)
    file.unlink()
    return backbones.load(home, name)


def structured_state(architecture: str, sparsity: float = 0.5) -> dict[str, torch.Tensor]:
    """The state dict of a masked structured network with a classifier of 7 classes."""
    body, state = dense(architecture)
    groups = channel_groups.find(body)
    kept = structured.choose(body, groups, sparsity, "uniform")
    masks.apply(body, structured.structured_mask(body, groups, kept))
    structured.silence(body, groups, kept)
    return state | body.state_dict()


def with_mask(home, backbone: Backbone, mask: masks.Mask) -> Backbone:
    """The library's backbone with another mask."""
    card, entry = backbone.card, library.folder(home) / backbone.card.name
    content = architectures.content_hash(card.architecture, backbone.variant, backbone.module, mask, card.preprocessing)
    masks.save(mask, entry / "mask.safetensors")
    (entry / "card.json").write_text(json.dumps(dataclasses.asdict(card) | {"hash": content}))
    return backbones.load(home, card.name)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor as integers, so that 0.0 and -0.0 differ."""
    return tensor.contiguous().flatten().view(torch.int32 if tensor.dtype == torch.float32 else tensor.dtype)


def assert_same(found: Backbone, expected: Backbone) -> None:
    """Weights and classifier bit for bit, mask, preparation and what the card says of the network."""
    states = [exporting.public_state(backbone) for backbone in (found, expected)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(bits(states[0][name]), bits(tensor)) for name, tensor in states[1].items())
    assert found.mask == expected.mask and found.hash == expected.hash and found.transform == expected.transform
    fields = ("architecture", "variant", "method", "sparsity", "upstream", "classes", "measured_sparsity")
    cards = [{name: getattr(backbone.card, name) for name in fields} for backbone in (found, expected)]
    assert cards[0] == cards[1]
