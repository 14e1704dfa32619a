"""The mask during finetuning: pruned weights stay exactly 0."""

import torch
from torch import nn

from sparse_core.networks import masks
from sparse_core.networks.masks import Mask


class FixedMask:
    """Keeps the pruned weights of ``body`` at exactly 0; call ``hold`` after every optimiser step."""

    def __init__(self, body: nn.Module, mask: Mask) -> None:
        self.body, self.mask = body, mask
        weights = dict(body.named_parameters())
        pruned = ((weights[name].data, kept) for name, kept in mask.tensors.items() if not bool(kept.all()))
        bits = [(weight.view(torch.int32), kept) for weight, kept in pruned]
        self._pairs = [(weight, torch.empty_like(weight).copy_(-kept.int())) for weight, kept in bits]

    def hold(self) -> None:
        """Clear the bits of each pruned weight: a product with 0 keeps NaN, and ``masked_fill_`` takes three times as long."""
        for weight, kept in self._pairs:
            weight.bitwise_and_(kept)

    def violations(self) -> int:
        """The number of pruned weights that are not exactly 0."""
        return masks.violations(self.body, self.mask)
