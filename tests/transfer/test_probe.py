"""The batched probe against an ordinary loop of torch's own parts, scikit-learn, and itself."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from sparse_core.errors import Cancelled, InputError
from sparse_core.jobs.kinds import Job, job_from_json
from sparse_core.specs.identity import run_id, to_json
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec, protocol
from sparse_core.transfer import durations, probe

SETTINGS = Hyperparameters(epochs=7, step_epochs=3, learning_rate=0.05, batch_size=16)


def blobs(rows: int, seed: int, classes: int = 4, dimensions: int = 24) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((classes, dimensions))
    labels = np.arange(rows) % classes
    x = centres[labels] + 1.5 * generator.standard_normal((rows, dimensions))
    return x.astype(np.float32), labels.astype(np.int64)


TRAIN, TEST = blobs(90, 1), blobs(61, 2)


def reference(seed: int, settings: Hyperparameters) -> tuple[list[float], torch.nn.Linear]:
    """nn.Linear, torch.optim.SGD and StepLR on the same start and order."""
    model = torch.nn.Linear(TRAIN[0].shape[1], 4)
    weight, bias = probe.initial_classifier(seed, 4, TRAIN[0].shape[1])
    model.load_state_dict({"weight": weight.reshape(model.weight.shape), "bias": bias.reshape(-1)})
    optimizer = torch.optim.SGD(
        model.parameters(), settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, settings.step_epochs, settings.step_factor)
    x, y = torch.from_numpy(TRAIN[0]), torch.from_numpy(TRAIN[1])
    curve = []
    for epoch in range(settings.epochs):
        rows = torch.as_tensor(probe.shuffled_rows(seed, epoch, len(x)))
        for batch in rows.split(settings.batch_size):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        schedule.step()
        guess = model(torch.from_numpy(TEST[0])).argmax(1).numpy()
        curve.append(float((guess == TEST[1]).mean()))
    return curve, model


def test_equals_torchs_own_loop():
    for result in probe.train(*TRAIN, *TEST, 4, [3, 11], SETTINGS, products="fp32"):
        curve, model = reference(result.seed, SETTINGS)
        assert result.top1 == pytest.approx(curve, abs=1e-9)
        np.testing.assert_allclose(result.weight, model.weight.detach().numpy(), atol=2e-6)
        np.testing.assert_allclose(result.bias, model.bias.detach().numpy(), atol=2e-6)


def test_the_precision_of_the_products_is_told(monkeypatch):
    def products(**asked):
        return probe.train(*TRAIN, *TEST, 4, [0], dataclasses.replace(SETTINGS, epochs=1), **asked)[0].products

    assert products(products="fp32") == "fp32"
    assert products(products="bf16") == "bf16"
    assert products() == "fp32"
    monkeypatch.setattr(probe, "SMALL_CLASSIFIER", 0)
    for native in (True, False):
        monkeypatch.setattr(probe, "native_bf16", lambda native=native: native)
        assert products() == ("bf16" if native else "fp32")


def test_the_start_is_that_of_torchs_linear_layer():
    weight, bias = probe.initial_classifier(0, 50, 400)
    assert float(weight.abs().max()) <= 1 / 20  # uniform within 1/√D, as Kaiming-uniform with a = √5 gives
    assert float(weight.std()) == pytest.approx(1 / 20 / 3**0.5, rel=0.03)
    assert float(bias.abs().max()) <= 1 / 20


def test_accuracies_are_scikit_learns():
    (result,) = probe.train(*TRAIN, *TEST, 4, [0], SETTINGS, products="fp32")
    guess = (TEST[0] @ result.weight.T + result.bias).argmax(1)
    np.testing.assert_array_equal(result.confusion, confusion_matrix(TEST[1], guess, labels=range(4)))
    assert result.top1_final == pytest.approx(float((guess == TEST[1]).mean()))
    assert result.mean_per_class_final == pytest.approx(balanced_accuracy_score(TEST[1], guess))
    assert result.top1_best == max(result.top1)


def test_a_class_absent_from_the_test_data_does_not_count():
    kept = TEST[1] != 2
    (result,) = probe.train(*TRAIN, TEST[0][kept], TEST[1][kept], 4, [0], SETTINGS, products="fp32")
    diagonal = np.diag(result.confusion)[[0, 1, 3]] / result.confusion.sum(1)[[0, 1, 3]]
    assert result.mean_per_class_final == pytest.approx(diagonal.mean())


@pytest.mark.parametrize("products", ["fp32", "auto"])
def test_a_seed_gives_the_same_whatever_trains_beside_it(products):
    alone = probe.train(*TRAIN, *TEST, 4, [5], SETTINGS, products=products)[0]
    beside = probe.train(*TRAIN, *TEST, 4, [1, 5, 2], SETTINGS, products=products)[1]
    assert alone.top1 == beside.top1
    np.testing.assert_array_equal(alone.weight, beside.weight)


def test_the_number_of_threads_changes_nothing():
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(probe.train(*TRAIN, *TEST, 4, [5, 1, 2], SETTINGS))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    for one, two in zip(*results, strict=True):
        assert one.top1 == two.top1
        np.testing.assert_array_equal(one.weight, two.weight)


@pytest.mark.parametrize("products", ["fp32", "bf16"])
def test_predictions_that_stand_are_not_computed_again(products, monkeypatch):
    """Computing all predictions in every epoch gives the same curves; most of it is spared."""
    settings = dataclasses.replace(SETTINGS, epochs=40, step_epochs=10)
    uncertain = probe._Predictions._uncertain
    asked = []

    def spy(self, weight, bias):
        rows = uncertain(self, weight, bias)
        asked.append(len(rows))
        return rows

    monkeypatch.setattr(probe._Predictions, "_uncertain", spy)
    spared = probe.train(*TRAIN, *TEST, 4, [0, 1], settings, products=products)
    monkeypatch.setattr(probe._Predictions, "_uncertain", lambda self, weight, bias: torch.arange(len(TEST[1])))
    whole = probe.train(*TRAIN, *TEST, 4, [0, 1], settings, products=products)
    for one, other in zip(spared, whole, strict=True):
        assert one.top1 == other.top1
        np.testing.assert_array_equal(one.confusion, other.confusion)
    assert len(asked) == 2 * 40
    assert np.mean(asked[40:]) < 0.2 * len(TEST[1])


def test_no_prediction_that_could_have_changed_is_kept():
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(500, 64, generator=generator)
    predictions = probe._Predictions(probe._Test(features, np.arange(500) % 5, 5))
    weight, bias = torch.randn(5, 64, generator=generator), torch.randn(5, 1, generator=generator)
    for size in (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
        for _ in range(20):
            weight += size * torch.randn(weight.shape, generator=generator)
            bias += size * torch.randn(bias.shape, generator=generator)
            found = predictions.update(weight, bias)
            logits = features.double() @ weight.double().T + bias[:, 0].double()
            best = logits.topk(2, dim=1)
            clear = best.values[:, 0] - best.values[:, 1] > 1e-5
            assert torch.equal(found[clear], best.indices[clear, 0])


def test_different_seeds_differ():
    first, second = probe.train(*TRAIN, *TEST, 4, [0, 1], SETTINGS)
    assert not np.array_equal(first.weight, second.weight)


def test_resumes_bitwise_from_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "CHECKPOINT_SECONDS", 0.0)
    whole = probe.train(*TRAIN, *TEST, 4, [0, 1], SETTINGS)
    seen = []

    def die(progress: probe.Progress) -> None:
        seen.append(progress.epoch)
        if progress.epoch == 5:
            raise RuntimeError("killed")

    file = tmp_path / "state.pt"
    with pytest.raises(RuntimeError):
        probe.train(*TRAIN, *TEST, 4, [0, 1], SETTINGS, on_epoch=die, checkpoint=file)
    assert file.exists()
    resumed_epochs = []
    resumed = probe.train(
        *TRAIN, *TEST, 4, [0, 1], SETTINGS, on_epoch=lambda p: resumed_epochs.append(p.epoch), checkpoint=file
    )
    assert resumed_epochs[0] > 1
    for ours, theirs in zip(resumed, whole, strict=True):
        assert ours.top1 == theirs.top1
        np.testing.assert_array_equal(ours.weight, theirs.weight)
    assert not file.exists()


def test_resumes_from_a_checkpoint_of_the_last_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(probe._Checkpoint, "remove", lambda self: None)
    whole = probe.train(*TRAIN, *TEST, 4, [0], SETTINGS, checkpoint=tmp_path / "state.pt")
    again = probe.train(*TRAIN, *TEST, 4, [0], SETTINGS, checkpoint=tmp_path / "state.pt")
    assert again[0].top1 == whole[0].top1
    np.testing.assert_array_equal(again[0].confusion, whole[0].confusion)


def test_cancel_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "CHECKPOINT_SECONDS", 0.0)
    file = tmp_path / "state.pt"

    def cancel(progress: probe.Progress) -> None:
        if progress.epoch == 3:
            assert file.exists()
            raise Cancelled

    with pytest.raises(Cancelled):
        probe.train(*TRAIN, *TEST, 4, [0], SETTINGS, on_epoch=cancel, checkpoint=file)
    assert not list(tmp_path.iterdir())


def test_the_sweep_chooses_what_is_best_on_validation_data():
    rate, scores = probe.choose_learning_rate(*TRAIN, 4, [0, 1], SETTINGS, (1e-7, 0.05))
    assert rate == 0.05
    assert scores[0.05] > scores[1e-7]
    fit, held_out = probe.validation_split(TRAIN[1])
    assert sorted([*fit, *held_out]) == list(range(len(TRAIN[1])))
    one = dataclasses.replace(SETTINGS, learning_rate=0.05)
    x, y = TRAIN
    results = probe.train(x[fit], y[fit], x[held_out], y[held_out], 4, [0, 1], one)
    assert scores[0.05] == pytest.approx(np.mean([result.top1_final for result in results]))


def test_the_order_of_the_rates_to_choose_from_is_nothing_of_the_runs_identity():
    one, other = (ProbeSpec("b", "d", sweep_lr=rates) for rates in ((0.1, 0.01, 0.1), (0.01, 0.1)))
    assert one.sweep_lr == (0.01, 0.1)
    assert run_id(one, 0) == run_id(other, 0)
    assert protocol(one) == protocol(other)
    assert job_from_json(json.loads(to_json(Job("probe", one)))).spec == one


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), 0.0, -0.1])
def test_what_is_no_learning_rate_is_refused_at_once(rate):
    with pytest.raises(InputError, match=f"learning rate to choose from must be .*; got {rate}"):
        ProbeSpec("b", "d", sweep_lr=(0.1, rate))
    with pytest.raises(InputError, match=f"learning_rate must be .*; got {rate}"):
        Hyperparameters(learning_rate=rate)


def test_protocols_tell_numbers_apart_to_their_last_digit():
    def words(**settings):
        return protocol(ProbeSpec("b", "d", settings=Hyperparameters(**settings)))

    assert words() == (
        "SGD lr 0.01 ×0.1 every 50 epochs, momentum 0.9, weight decay 0.0005, 150 epochs, batch 64, fp32 features"
    )
    assert "lr 0.0001 " in words(learning_rate=1e-4)
    assert "lr 100 " in words(learning_rate=100.0)
    assert "lr 0.010000001 " in words(learning_rate=0.010000001)
    assert "weight decay 0.00050000001," in words(weight_decay=0.00050000001)
    chosen = (protocol(ProbeSpec("b", "d", sweep_lr=(0.1, rate))) for rate in (0.01, 0.010000001))
    assert len(set(chosen)) == 2


def test_an_estimate_counts_features_epochs_seeds_and_rates_to_choose_from():
    known = durations.Estimate(images=1000, seconds_per_image=0.01, seconds_per_epoch=0.5)
    spec = ProbeSpec("b", "d", settings=Hyperparameters(epochs=10))
    assert known.seconds(spec, 2, features_cached=True) == pytest.approx(10)
    assert known.seconds(spec, 2, features_cached=False) == pytest.approx(20)
    # Three rates are tried on four fifths of the training data before.
    swept = dataclasses.replace(spec, sweep_lr=(0.1, 0.01, 0.001))
    assert known.seconds(swept, 2, features_cached=True) == pytest.approx(10 * (1 + 3 * 0.8))
    full = FinetuneSpec("b", "d", settings=Hyperparameters(epochs=10))
    assert known.seconds(full, 2, features_cached=True) == pytest.approx(10)


def test_estimates_of_other_batch_sizes_and_precisions_are_kept_apart(home):
    extracted = SimpleNamespace(train_labels=range(8), test_labels=range(2), images_per_second=4.0)
    spec, small = (ProbeSpec("b", "d", settings=Hyperparameters(batch_size=size)) for size in (64, 1))
    durations.remember(home, spec, extracted, 0.1)
    assert durations.recall(home, small) is None
    durations.remember(home, small, extracted, 5.0)
    assert durations.recall(home, spec) == durations.Estimate(10, 0.25, 0.1)
    assert durations.recall(home, small) == durations.Estimate(10, 0.25, 5.0)
    assert durations.recall(home, dataclasses.replace(spec, precision="bf16")) is None
    assert durations.recall(home, dataclasses.replace(spec, sweep_lr=(0.1,))) == durations.recall(home, spec)


def test_what_was_measured_stands_for_the_automatic_precision(home):
    dataset = SimpleNamespace(train=SimpleNamespace(labels=range(8)), test=SimpleNamespace(labels=range(2)))
    asked = FinetuneSpec("b", "d")
    for precision, seconds in (("fp32", 3.0), ("bf16", 1.0)):
        assert durations.recall(home, dataclasses.replace(asked, precision=precision)) is None
        durations.remember_finetune(home, dataclasses.replace(asked, precision=precision), dataset, seconds)
        assert durations.recall(home, asked).seconds_per_epoch == seconds


def test_features_without_a_pace_leave_no_estimate(home):
    extracted = SimpleNamespace(train_labels=range(8), test_labels=range(2), images_per_second=0.0)
    durations.remember(home, ProbeSpec("b", "d"), extracted, 0.1)
    assert durations.recall(home, ProbeSpec("b", "d")) is None


def test_refusals_are_one_line():
    x, y = TRAIN
    broken = x.copy()
    broken[3, 2] = np.nan
    with pytest.raises(InputError, match="finite"):
        probe.train(broken, y, *TEST, 4, [0], SETTINGS)
    with pytest.raises(InputError):
        probe.train(x, y[:-1], *TEST, 4, [0], SETTINGS)
    with pytest.raises(InputError):
        probe.train(x, y, *TEST, 2, [0], SETTINGS)
    with pytest.raises(InputError):
        probe.train(x, np.zeros_like(y), *TEST, 4, [0], SETTINGS)
    with pytest.raises(InputError):
        probe.train(x[:, :5], y, *TEST, 4, [0], SETTINGS)
    with pytest.raises(InputError, match="learning rate"):
        probe.train(1e18 * x, y, 1e18 * TEST[0], TEST[1], 4, [0], dataclasses.replace(SETTINGS, learning_rate=1e25))
