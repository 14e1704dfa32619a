"""Every method in miniature: exact sparsity, finite loss, better than chance, killed and resumed to the same weights."""

import copy
import dataclasses

import pytest
import torch

from sparse_core.datasets import loading
from sparse_core.errors import Cancelled
from sparse_core.networks import masks
from sparse_core.sparsify.methods import METHODS
from sparse_core.specs.progress import Progress
from sparse_core.transfer import training as shared
from sparse_core.transfer.network_training import NetworkTraining
from tests.support.refusals import refused
from tests.support.sparsify import tiny_spec

MAY_BE_AT_CHANCE = ("LTH-T", "Magnitude")


@pytest.fixture(autouse=True)
def every_report(monkeypatch):
    monkeypatch.setattr(shared, "SECONDS_BETWEEN", 0.0)


@pytest.fixture
def backbone_of(new_backbone, dense_backbone):
    """What a method starts from."""
    return lambda method: new_backbone if tiny_spec(method).has_new_weights else dense_backbone


@pytest.fixture(scope="session")
def whole():
    """The results of methods that were not interrupted, by name."""
    return {}


def made(whole, backbone_of, digits, method):
    if method not in whole:
        whole[method] = METHODS[method](backbone_of(method), digits, tiny_spec(method), 1)
    return whole[method]


@pytest.mark.parametrize("method", METHODS)
def test_the_sparsity_is_met_to_one_weight_and_the_network_learns(method, whole, backbone_of, digits):
    before = copy.deepcopy(backbone_of(method).module.state_dict())
    result, spec = made(whole, backbone_of, digits, method), tiny_spec(method)
    weights = masks.prunable(result.network.body)
    size = sum(weight.numel() for weight in weights.values())
    pruned = sum(int((~kept).sum()) for kept in result.mask.tensors.values())
    step = size // 100 if method == "Structured" else 0  # whole filters
    assert abs(pruned - round(spec.sparsity * size)) <= step
    assert masks.violations(result.network.body, result.mask) == 0
    assert bool(result.mask.tensors["conv1.weight"].all())
    assert result.details["backbone_sparsity"] == pytest.approx(spec.sparsity, abs=(step + 1) / size)
    assert all(torch.isfinite(tensor).all() for tensor in result.network.state_dict().values())
    assert all(map(torch.isfinite, torch.tensor(result.curves["loss"])))
    assert result.curves["sparsity"][-1] == pytest.approx(spec.sparsity, abs=(step + 1) / size)
    if method not in MAY_BE_AT_CHANCE:
        assert result.final("top1") > 0.3
    assert result.details["seconds"] > 0
    for name, tensor in backbone_of(method).module.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_training_is_resumed_to_the_same_weights(method, whole, backbone_of, digits, tmp_path, monkeypatch):
    """Killed in the third of its epochs; only what followed the last save is done again."""
    expected = made(whole, backbone_of, digits, method)
    spec, state = tiny_spec(method), tmp_path / "state.pt"

    def kill(progress: Progress) -> None:
        if progress.total == spec.total_epochs and progress.share * spec.total_epochs > 2.4:
            raise KeyboardInterrupt

    if expected.details["epochs"]:
        with pytest.raises(KeyboardInterrupt):
            METHODS[method](backbone_of(method), digits, spec, 1, on_progress=kill, checkpoint=state)
    epochs = []
    run_epoch = NetworkTraining.run_epoch
    monkeypatch.setattr(
        NetworkTraining, "run_epoch", lambda self, reporter: (epochs.append(1), run_epoch(self, reporter))
    )
    resumed = METHODS[method](backbone_of(method), digits, spec, 1, checkpoint=state)
    assert len(epochs) == max(0, expected.details["epochs"] - 2)
    assert resumed.mask == expected.mask
    for name, tensor in expected.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], tensor), name
    assert resumed.curves == expected.curves


@pytest.mark.parametrize("method", ["GMP", "Magnitude"])
def test_methods_that_prune_trained_weights_refuse_a_sparse_backbone(method, dense_backbone, digits):
    sparse = dataclasses.replace(dense_backbone, sparsity=0.8)
    message = refused(METHODS[method], sparse, digits, tiny_spec(method), 0)
    assert (
        message == f"{method} starts from the weights of a dense network; tiny is 80 % sparse. Name a dense backbone."
    )


def test_pruning_starts_with_the_classifier_of_the_backbone_where_it_fits(dense_backbone, digits):
    spec = tiny_spec("Magnitude", sparsity=0.1)
    with_classifier = METHODS["Magnitude"](dense_backbone, digits, spec, 5)
    shuffled = dataclasses.replace(
        dense_backbone, classifier=(dense_backbone.classifier[0].flip(0), dense_backbone.classifier[1].flip(0))
    )
    without = METHODS["Magnitude"](shuffled, digits, spec, 5)
    assert with_classifier.final("top1") > 0.5 > without.final("top1")


def test_another_seed_gives_another_network_and_the_same_seed_the_same(new_backbone, digits):
    spec = tiny_spec("AC/DC", epochs=2)
    first, again, other = (METHODS["AC/DC"](new_backbone, digits, spec, seed) for seed in (3, 3, 4))
    weights = [result.network.body.conv1.weight for result in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_state(new_backbone, digits, tmp_path, monkeypatch):
    state = tmp_path / "state.pt"

    def spoil(progress: Progress) -> None:
        if progress.saved:
            shifted = loading.normalised
            monkeypatch.setattr(
                "sparse_core.transfer.network_training.normalised", lambda *given: shifted(*given) * float("nan")
            )

    message = refused(
        METHODS["Dense"], new_backbone, digits, tiny_spec("Dense"), 0, on_progress=spoil, checkpoint=state
    )
    assert message == (
        "Training diverged: the loss is no longer finite in epoch 2. Lower the learning rate, now 0.1, or the sparsity. The "
        "state after epoch 1 is kept."
    )
    assert torch.load(state)["epoch"] == 1


def test_a_cancelled_training_leaves_no_state(new_backbone, digits, tmp_path):
    state = tmp_path / "state.pt"

    def cancel(progress: Progress) -> None:
        if progress.saved:
            raise Cancelled

    with pytest.raises(Cancelled):
        METHODS["Dense"](new_backbone, digits, tiny_spec("Dense"), 0, on_progress=cancel, checkpoint=state)
    assert not state.exists()


def test_a_longer_training_and_label_smoothing_are_open_to_every_method(new_backbone, digits):
    result = METHODS["RigL ERK 1x"](new_backbone, digits, tiny_spec("RigL ERK 1x", epochs=2, label_smoothing=0.1), 0)
    assert result.details["epochs"] == 2
    longer = METHODS["Dense"](
        new_backbone, digits, tiny_spec("Dense", epochs=1, length_factor=3, label_smoothing=0.2), 0
    )
    assert longer.details["epochs"] == 3


def test_schedules_that_do_not_fit_are_refused(new_backbone, dense_backbone, digits):
    short = {"epochs": 1, "batch_size": 100}
    assert "this training has 3" in refused(METHODS["AC/DC"], new_backbone, digits, tiny_spec("AC/DC", **short), 0)
    assert "RigL's mask" in refused(METHODS["RigL ERK 1x"], new_backbone, digits, tiny_spec("RigL ERK 1x", **short), 0)
    assert "pruning steps" in refused(METHODS["GMP"], dense_backbone, digits, tiny_spec("GMP", **short), 0)


def test_sparsities_out_of_reach_are_refused_before_any_training(dense_backbone, new_backbone, digits):
    for method, backbone in (("GMP", dense_backbone), ("AC/DC", new_backbone), ("Magnitude", dense_backbone)):
        assert "cannot be reached" in refused(METHODS[method], backbone, digits, tiny_spec(method, sparsity=0.999), 0)
