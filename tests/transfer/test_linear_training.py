"""Classifiers trained side by side against an ordinary loop of torch's own parts, scikit-learn, and each other."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from sparse_core.errors import Cancelled
from sparse_core.specs.progress import Progress
from sparse_core.specs.training import Hyperparameters
from sparse_core.transfer import linear_training
from sparse_core.transfer.linear_training import Samples, train
from sparse_core.transfer.training import Diverged, TrainingState, initial_classifier, shuffled_rows
from tests.support.refusals import refused
from tests.support.samples import SETTINGS, TEST, TRAIN, weight_of


def reference(seed: int, settings: Hyperparameters) -> tuple[list[float], torch.nn.Linear]:
    """nn.Linear, torch.optim.SGD and StepLR on the same start and order."""
    model = torch.nn.Linear(TRAIN[0].shape[1], 4)
    weight, bias = initial_classifier(seed, 4, TRAIN[0].shape[1])
    model.load_state_dict({"weight": weight.reshape(model.weight.shape), "bias": bias.reshape(-1)})
    optimizer = torch.optim.SGD(
        model.parameters(), settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, settings.step_epochs, settings.step_factor)
    x, y = torch.from_numpy(TRAIN[0]), torch.from_numpy(TRAIN[1])
    curve = []
    for epoch in range(settings.epochs):
        rows = torch.as_tensor(shuffled_rows(seed, epoch, len(x)))
        for batch in rows.split(settings.batch_size):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        schedule.step()
        guess = model(torch.from_numpy(TEST[0])).argmax(1).numpy()
        curve.append(float((guess == TEST[1]).mean()))
    return curve, model


def test_equals_torchs_own_loop():
    for result in train(TRAIN, TEST, 4, [3, 11], SETTINGS, products="fp32"):
        curve, model = reference(result.seed, SETTINGS)
        assert result.curves["top1"] == pytest.approx(curve, abs=1e-9)
        np.testing.assert_allclose(weight_of(result), model.weight.detach().numpy(), atol=2e-6)
        np.testing.assert_allclose(result.network.bias.detach().numpy(), model.bias.detach().numpy(), atol=2e-6)


def test_the_result_records_the_precision_of_the_products(monkeypatch):
    def products(**asked):
        return train(TRAIN, TEST, 4, [0], dataclasses.replace(SETTINGS, epochs=1), **asked)[0].details["products"]

    assert products(products="fp32") == "fp32"
    assert products(products="bf16") == "bf16"
    assert products() == "fp32"
    monkeypatch.setattr(linear_training, "SMALL_CLASSIFIER", 0)
    for native in (True, False):
        monkeypatch.setattr(linear_training, "native_bf16", lambda native=native: native)
        assert products() == ("bf16" if native else "fp32")


def test_initial_weights_have_the_distribution_of_torchs_linear_layer():
    weight, bias = initial_classifier(0, 50, 400)
    assert float(weight.abs().max()) <= 1 / 20  # uniform within 1/√D, as Kaiming-uniform with a = √5 gives
    assert float(weight.std()) == pytest.approx(1 / 20 / 3**0.5, rel=0.03)
    assert float(bias.abs().max()) <= 1 / 20


def test_accuracies_equal_scikit_learns():
    (result,) = train(TRAIN, TEST, 4, [0], SETTINGS, products="fp32")
    guess = (TEST.features @ weight_of(result).T + result.network.bias.detach().numpy()).argmax(1)
    np.testing.assert_array_equal(result.confusion, confusion_matrix(TEST[1], guess, labels=range(4)))
    assert result.final("top1") == pytest.approx(float((guess == TEST[1]).mean()))
    assert result.final("mean_per_class") == pytest.approx(balanced_accuracy_score(TEST[1], guess))
    assert result.best("top1") == max(result.curves["top1"])


def test_a_class_absent_from_the_test_data_does_not_count():
    kept = TEST[1] != 2
    (result,) = train(TRAIN, Samples(TEST.features[kept], TEST.labels[kept]), 4, [0], SETTINGS, products="fp32")
    diagonal = np.diag(result.confusion)[[0, 1, 3]] / result.confusion.sum(1)[[0, 1, 3]]
    assert result.final("mean_per_class") == pytest.approx(diagonal.mean())


@pytest.mark.parametrize("products", ["fp32", "auto"])
def test_a_seed_gives_the_same_result_whichever_seeds_train_beside_it(products):
    alone = train(TRAIN, TEST, 4, [5], SETTINGS, products=products)[0]
    beside = train(TRAIN, TEST, 4, [1, 5, 2], SETTINGS, products=products)[1]
    assert alone.curves["top1"] == beside.curves["top1"]
    np.testing.assert_array_equal(weight_of(alone), weight_of(beside))


def test_the_number_of_threads_changes_nothing():
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(train(TRAIN, TEST, 4, [5, 1, 2], SETTINGS))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    for one, two in zip(*results, strict=True):
        assert one.curves["top1"] == two.curves["top1"]
        np.testing.assert_array_equal(weight_of(one), weight_of(two))


def test_different_seeds_differ():
    first, second = train(TRAIN, TEST, 4, [0, 1], SETTINGS)
    assert not np.array_equal(weight_of(first), weight_of(second))


def test_an_interrupted_training_resumes_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(linear_training, "CHECKPOINT_SECONDS", 0.0)
    whole = train(TRAIN, TEST, 4, [0, 1], SETTINGS)

    def kill(progress: Progress) -> None:
        if progress.done == 5:
            raise RuntimeError("killed")

    file = tmp_path / "state.pt"
    with pytest.raises(RuntimeError):
        train(TRAIN, TEST, 4, [0, 1], SETTINGS, on_progress=kill, checkpoint=file)
    assert file.exists()
    events = []
    resumed = train(TRAIN, TEST, 4, [0, 1], SETTINGS, on_progress=events.append, checkpoint=file)
    assert events[0].done > 1
    for ours, theirs in zip(resumed, whole, strict=True):
        assert ours.curves["top1"] == theirs.curves["top1"]
        np.testing.assert_array_equal(weight_of(ours), weight_of(theirs))
    assert not file.exists()


def test_a_checkpoint_of_the_last_epoch_gives_the_same_result(tmp_path, monkeypatch):
    monkeypatch.setattr(linear_training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(TrainingState, "__exit__", lambda *_: None)
    whole = train(TRAIN, TEST, 4, [0], SETTINGS, checkpoint=tmp_path / "state.pt")
    again = train(TRAIN, TEST, 4, [0], SETTINGS, checkpoint=tmp_path / "state.pt")
    assert again[0].curves["top1"] == whole[0].curves["top1"]
    np.testing.assert_array_equal(again[0].confusion, whole[0].confusion)


def test_a_cancelled_training_leaves_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(linear_training, "CHECKPOINT_SECONDS", 0.0)
    file = tmp_path / "state.pt"

    def cancel(progress: Progress) -> None:
        if progress.done == 3:
            assert file.exists()
            raise Cancelled

    with pytest.raises(Cancelled):
        train(TRAIN, TEST, 4, [0], SETTINGS, on_progress=cancel, checkpoint=file)
    assert not list(tmp_path.iterdir())


def test_unusable_samples_are_refused():
    x, y = TRAIN
    broken = x.copy()
    broken[3, 2] = np.nan
    assert "finite" in refused(train, Samples(broken, y), TEST, 4, [0], SETTINGS)
    refused(train, Samples(x, y[:-1]), TEST, 4, [0], SETTINGS)
    refused(train, TRAIN, TEST, 2, [0], SETTINGS)
    refused(train, Samples(x, np.zeros_like(y)), TEST, 4, [0], SETTINGS)
    refused(train, Samples(x[:, :5], y), TEST, 4, [0], SETTINGS)


def test_divergence_is_reported_and_leaves_no_checkpoint(tmp_path):
    settings = dataclasses.replace(SETTINGS, learning_rate=1e25)
    large = (Samples(1e18 * features, labels) for features, labels in (TRAIN, TEST))
    with pytest.raises(Diverged, match="learning rate"):
        train(*large, 4, [0], settings, checkpoint=tmp_path / "state.pt")
    assert not list(tmp_path.iterdir())
