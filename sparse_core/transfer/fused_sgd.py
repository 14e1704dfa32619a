"""One epoch of SGD for a linear softmax classifier, compiled to run without Python's global lock.

Beside ``networks.traced``, the only place that uses names torch does not document or has deprecated;
``tests/transfer/test_linear_training.py`` fails when they change.

- ``torch._fused_sgd_`` is the update behind ``torch.optim.SGD(fused=True)``. The public optimiser cannot be called from
  TorchScript, and called from Python it takes the global lock at every step.
- ``torch.jit.script`` runs the loop without that lock, for which threads with small steps would otherwise wait most of the
  time. torch.compile, its successor, needs a C++ compiler on the user's machine.
"""

import warnings

import torch
from torch import Tensor


def _sgd_epoch(
    features: Tensor,
    labels: Tensor,
    order: Tensor,
    parameters: list[Tensor],
    velocities: list[Tensor],
    gradients: list[Tensor],
    product_weight: Tensor,
    product_gradient: Tensor,
    gathered: Tensor,
    rate: float,
    momentum: float,
    weight_decay: float,
) -> Tensor:
    """SGD steps over the rows in ``order`` (N,), with mini-batches as large as ``gathered`` (B, D); returns the summed loss.

    The gradient of the mean cross entropy is (softmax − one-hot)ᵀ · X / B, so a step needs no autograd. ``parameters``,
    ``velocities`` and ``gradients`` are lists of weight (C, D) and bias (C, 1): for other containers TorchScript removes the
    fused update. ``product_weight`` is the weight in the products' precision; ``product_gradient`` and ``gathered`` are buffers.
    """
    weight, bias = parameters[0], parameters[1]
    reduced = product_weight.dtype != weight.dtype
    loss = torch.zeros(())
    for batch in torch.split(order, gathered.size(0)):
        size = batch.size(0)
        x = torch.index_select(features, 0, batch, out=gathered[:size])
        target = labels[batch].unsqueeze(0)
        log_probabilities = torch.log_softmax(torch.mm(product_weight, x.t()) + bias, dim=0)
        loss = loss - log_probabilities.gather(0, target).sum()
        residual = log_probabilities.exp_()
        residual.scatter_add_(0, target, residual.new_full((1, 1), -1.0).expand_as(target)).div_(size)
        torch.mm(residual.to(x.dtype), x, out=product_gradient)
        if reduced:
            gradients[0].copy_(product_gradient)
        torch.sum(residual, dim=1, keepdim=True, out=gradients[1])
        torch._fused_sgd_(
            parameters,
            gradients,
            velocities,
            weight_decay=weight_decay,
            momentum=momentum,
            lr=rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )
        if reduced:
            product_weight.copy_(weight)
    return loss


with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    sgd_epoch = torch.jit.script(_sgd_epoch)
