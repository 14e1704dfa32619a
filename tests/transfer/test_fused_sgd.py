"""The names of torch that are not public or are deprecated, used in ``fused_sgd`` only."""

import torch

from sparse_core.transfer.fused_sgd import sgd_epoch

MOVED = "torch has changed: see sparse_core/transfer/fused_sgd.py"


def test_torch_still_has_the_fused_update():
    schema = str(torch.ops.aten._fused_sgd_.default._schema) if hasattr(torch, "_fused_sgd_") else ""
    for argument in ("weight_decay", "momentum", "lr", "dampening", "nesterov", "maximize", "is_first_step"):
        assert f" {argument}" in schema, f"torch._fused_sgd_ lacks {argument}; {MOVED}"


def test_the_epoch_is_compiled():
    assert isinstance(sgd_epoch, torch.jit.ScriptFunction), f"torch.jit.script returned something else; {MOVED}"
    assert "_fused_sgd_" in str(sgd_epoch.graph), f"TorchScript removed the update; {MOVED}"


def test_an_epoch_equals_the_public_optimisers():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 5, generator=generator), torch.arange(6) % 3
    weight, bias = torch.randn(3, 5, generator=generator), torch.randn(3, 1, generator=generator)
    layer = torch.nn.Linear(5, 3)
    layer.load_state_dict({"weight": weight, "bias": bias[:, 0]})
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for rows in torch.arange(6).split(2):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(x[rows]), y[rows]).backward()
        optimizer.step()
    parameters = [weight.clone(), bias.clone()]
    velocities, gradients = ([torch.zeros(3, 5), torch.zeros(3, 1)] for _ in range(2))
    with torch.inference_mode():
        sgd_epoch(
            x,
            y,
            torch.arange(6),
            parameters,
            velocities,
            gradients,
            parameters[0],
            gradients[0],
            torch.empty(2, 5),
            0.1,
            0.9,
            0.01,
        )
    torch.testing.assert_close(parameters[0], layer.weight.detach(), msg=lambda text: f"{MOVED}\n{text}")
    torch.testing.assert_close(parameters[1][:, 0], layer.bias.detach(), msg=lambda text: f"{MOVED}\n{text}")
