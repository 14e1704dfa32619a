"""Linear training against a loop of torch's own parts, scikit-learn, and itself; its learning-rate sweep and its shortcuts."""

import copy
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from sparse_core.errors import Cancelled
from sparse_core.specs.progress import Progress
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import ProbeSpec
from sparse_core.transfer import features, linear_training, probe, training
from sparse_core.transfer.evaluation import EvaluationSet
from sparse_core.transfer.fused_sgd import sgd_epoch
from sparse_core.transfer.linear_training import Samples, train
from sparse_core.transfer.probe import choose_learning_rate, validation_split
from sparse_core.transfer.training import Diverged, Result, initial_classifier, shuffled_rows
from sparse_core.transfer.unchanged_predictions import Predictions
from tests.support.refusals import refused

SETTINGS = Hyperparameters(epochs=7, step_epochs=3, learning_rate=0.05, batch_size=16)


def blobs(rows: int, seed: int, classes: int = 4, dimensions: int = 24) -> Samples:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((classes, dimensions))
    labels = np.arange(rows) % classes
    x = centres[labels] + 1.5 * generator.standard_normal((rows, dimensions))
    return Samples(x.astype(np.float32), labels.astype(np.int64))


def weight_of(result: Result[torch.nn.Linear]) -> np.ndarray:
    return result.network.weight.detach().numpy()


TRAIN, TEST = blobs(90, 1), blobs(61, 2)
MOVED = "torch has changed: see sparse_core/transfer/fused_sgd.py"


def reference(seed: int, settings: Hyperparameters) -> tuple[list[float], torch.nn.Linear]:
    """nn.Linear, torch.optim.SGD and StepLR on the same start and order."""
    model = torch.nn.Linear(TRAIN[0].shape[1], 4)
    weight, bias = initial_classifier(seed, 4, TRAIN[0].shape[1])
    model.load_state_dict({"weight": weight.reshape(model.weight.shape), "bias": bias.reshape(-1)})
    rates = (settings.learning_rate, settings.momentum)
    optimizer = torch.optim.SGD(model.parameters(), *rates, weight_decay=settings.weight_decay)
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
    np.testing.assert_array_equal(result.predicted, guess)
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


def test_epochs_faster_than_reports_are_reported_together_each_once(monkeypatch):
    monkeypatch.setattr(training, "SECONDS_BETWEEN", 600.0)
    reports: list[Progress] = []
    curves = {0: (losses := {"loss": []})}
    reporter = training.Reporter(reports.append, 4)
    for epoch in range(1, 5):
        reporter.update("a step", epoch - 0.5, curves)
        losses["loss"].append(1.0 / epoch)
        reporter.update("an epoch", epoch, curves)
    assert [[epoch["epoch"] for epoch in report.epochs] for report in reports] == [[], [1], [2, 3, 4]]


@pytest.fixture
def every_epoch_saved(monkeypatch):
    monkeypatch.setattr(linear_training, "SAVING_SECONDS", 0.0)
    monkeypatch.setattr(linear_training, "SAVING_SHARE", float("inf"))
    monkeypatch.setattr(training, "SECONDS_BETWEEN", 0.0)


def stop_at(epoch: int, error: type[BaseException]):
    """A report that raises ``error``. KeyboardInterrupt acts as a kill: it leaves the state."""

    def report(progress: Progress) -> None:
        if progress.done == epoch and progress.saved:
            raise error

    return report


def assert_same(ours, theirs):
    """Two results of a seed agree in every bit."""
    assert ours.curves == theirs.curves
    assert ours.details == theirs.details
    np.testing.assert_array_equal(ours.confusion, theirs.confusion)
    np.testing.assert_array_equal(weight_of(ours), weight_of(theirs))
    assert torch.equal(ours.network.bias, theirs.network.bias)


@pytest.mark.parametrize("products", ["fp32", "bf16"])
def test_a_training_killed_several_times_ends_in_the_same_bits(tmp_path, every_epoch_saved, products):
    seeds = [3, 0, 1]
    files = {seed: tmp_path / f"{seed}.pt" for seed in seeds}
    settings = dataclasses.replace(SETTINGS, epochs=12)
    whole = train(TRAIN, TEST, 4, seeds, settings, products=products)
    for epoch in (2, 5, 6, 11):
        with pytest.raises(KeyboardInterrupt):
            stop = stop_at(epoch, KeyboardInterrupt)
            train(TRAIN, TEST, 4, seeds, settings, products=products, on_progress=stop, checkpoints=files)
    events = []
    resumed = train(TRAIN, TEST, 4, seeds, settings, products=products, on_progress=events.append, checkpoints=files)
    assert min(event.done for event in events) == 12
    for ours, theirs in zip(resumed, whole, strict=True):
        assert_same(ours, theirs)
    assert all(file.exists() for file in files.values())  # until the results are on disk


def test_seeds_resume_beside_others_and_alone(tmp_path, every_epoch_saved):
    """A kill between the records of two seeds leaves one of them to be trained: from its own state."""
    files = {seed: tmp_path / f"{seed}.pt" for seed in (0, 1, 2)}
    whole = train(TRAIN, TEST, 4, [0, 1, 2], SETTINGS)
    for seeds, epoch in (([0, 1], 3), ([1, 2], 5)):
        with pytest.raises(KeyboardInterrupt):
            stop = stop_at(epoch, KeyboardInterrupt)
            train(TRAIN, TEST, 4, seeds, SETTINGS, on_progress=stop, checkpoints=files)
    for seeds in ([1], [2, 0]):
        for result in train(TRAIN, TEST, 4, seeds, SETTINGS, checkpoints=files):
            assert_same(result, whole[result.seed])


def test_a_resumed_training_leaves_what_it_loaded_as_it_was(tmp_path, every_epoch_saved):
    """It must not train inside the tensors that it may save again."""
    with pytest.raises(KeyboardInterrupt):
        stop = stop_at(3, KeyboardInterrupt)
        train(TRAIN, TEST, 4, [0], SETTINGS, on_progress=stop, checkpoints={0: tmp_path / "0.pt"})
    (saved,) = torch.load(tmp_path / "0.pt")["classifiers"]
    before = copy.deepcopy(saved)
    x, y = map(torch.from_numpy, TRAIN)
    work = linear_training.Training(x, y, EvaluationSet(torch.from_numpy(TEST[0]), TEST[1], 4), [(0, 0.1)], SETTINGS)
    (classifier,) = work.classifiers
    classifier.resume(saved)
    classifier.train_epoch()
    for kind in ("tensors", "predictions"):
        for name, value in before[kind].items():
            assert torch.equal(torch.as_tensor(saved[kind][name]), torch.as_tensor(value)), name
    assert saved["curves"] == before["curves"]


def test_states_are_complete_whenever_they_are_read(monkeypatch):
    """Another thread saves them while a classifier trains on."""
    assigned = []
    monkeypatch.setattr(
        linear_training.Classifier,
        "state",
        property(lambda _: assigned[-1][0], lambda _, state: assigned.append((state, set(state)))),
        raising=False,
    )
    x, y = map(torch.from_numpy, TRAIN)
    test = EvaluationSet(torch.from_numpy(TEST[0]), TEST[1], 4)
    (classifier,) = linear_training.Training(x, y, test, [(0, 0.1)], SETTINGS, keep_states=True).classifiers
    classifier.train_epoch()
    assert [names for state, names in assigned[1:]] == [set(classifier.state)]  # the first is empty


def test_states_of_other_settings_and_damaged_ones_are_not_resumed(tmp_path, every_epoch_saved):
    files = {0: tmp_path / "0.pt"}
    other = dataclasses.replace(SETTINGS, weight_decay=0.1)
    with pytest.raises(KeyboardInterrupt):
        train(TRAIN, TEST, 4, [0], other, on_progress=stop_at(3, KeyboardInterrupt), checkpoints=files)
    whole = train(TRAIN, TEST, 4, [0], SETTINGS)[0]
    assert_same(train(TRAIN, TEST, 4, [0], SETTINGS, checkpoints=files)[0], whole)
    files[0].write_bytes(b"damaged")
    assert_same(train(TRAIN, TEST, 4, [0], SETTINGS, checkpoints=files)[0], whole)


def test_a_state_of_the_last_epoch_gives_the_same_result(tmp_path, every_epoch_saved):
    files = {0: tmp_path / "0.pt"}
    whole = train(TRAIN, TEST, 4, [0], SETTINGS, checkpoints=files)[0]
    again = train(TRAIN, TEST, 4, [0], SETTINGS, checkpoints=files)[0]
    assert_same(again, whole)
    assert again.seconds == pytest.approx(whole.seconds, rel=0.9)  # of the training, not of reading its state


def test_a_cancelled_training_leaves_no_checkpoint(tmp_path, every_epoch_saved):
    with pytest.raises(Cancelled):
        train(TRAIN, TEST, 4, [0], SETTINGS, on_progress=stop_at(3, Cancelled), checkpoints={0: tmp_path / "0.pt"})
    assert not list(tmp_path.iterdir())


def test_unusable_samples_are_refused():
    x, y = TRAIN
    broken = x.copy()
    broken[3, 2] = np.nan
    assert "finite" in refused(train, Samples(broken, y), TEST, 4, [0], SETTINGS)
    refused(train, TRAIN, TEST, 2, [0], SETTINGS)
    for samples in (Samples(x, y[:-1]), Samples(x, np.zeros_like(y)), Samples(x[:, :5], y)):
        refused(train, samples, TEST, 4, [0], SETTINGS)


def test_divergence_is_reported_and_leaves_no_checkpoint(tmp_path):
    settings = dataclasses.replace(SETTINGS, learning_rate=1e25)
    large = (Samples(1e18 * features, labels) for features, labels in (TRAIN, TEST))
    with pytest.raises(Diverged, match="learning rate"):
        train(*large, 4, [0], settings, checkpoints={0: tmp_path / "state.pt"})
    assert not list(tmp_path.iterdir())


def test_the_sweep_chooses_what_is_best_on_validation_data():
    rate, scores = choose_learning_rate(TRAIN, 4, [0, 1], SETTINGS, (1e-7, 0.05))
    assert rate == 0.05
    assert scores[0.05] > scores[1e-7]
    fit, held_out = validation_split(TRAIN.labels)
    assert sorted([*fit, *held_out]) == list(range(len(TRAIN.labels)))
    one = dataclasses.replace(SETTINGS, learning_rate=0.05)
    x, y = TRAIN
    results = train(Samples(x[fit], y[fit]), Samples(x[held_out], y[held_out]), 4, [0, 1], one)
    assert scores[0.05] == pytest.approx(np.mean([result.final("top1") for result in results]))


def test_a_sweep_killed_several_times_chooses_as_if_it_had_not_been(tmp_path, every_epoch_saved):
    file, rates = tmp_path / "sweep.pt", (1e-4, 0.05, 0.2)
    whole = choose_learning_rate(TRAIN, 4, [0, 1], SETTINGS, rates)
    for epoch in (2, 3, 6):
        with pytest.raises(KeyboardInterrupt):
            stop = stop_at(epoch, KeyboardInterrupt)
            choose_learning_rate(TRAIN, 4, [0, 1], SETTINGS, rates, on_progress=stop, checkpoint=file)
    events = []
    resumed = choose_learning_rate(TRAIN, 4, [0, 1], SETTINGS, rates, on_progress=events.append, checkpoint=file)
    assert resumed == whole
    assert min(event.done for event in events) == 7
    with pytest.raises(Cancelled):
        more = dataclasses.replace(SETTINGS, epochs=9)
        choose_learning_rate(TRAIN, 4, [0, 1], more, rates, on_progress=stop_at(3, Cancelled), checkpoint=file)
    assert not file.exists()


def test_the_swept_rate_depends_on_the_spec_alone(home, monkeypatch):
    """Not on the seeds that happen to be missing: the run's id would be the same."""
    extracted = SimpleNamespace(
        **{"train": TRAIN.features, "train_labels": TRAIN.labels, "test": TEST.features, "test_labels": TEST.labels},
        **{"class_names": list("abcd"), "seconds": 1.0, "images_per_second": 1.0, "engine": "torch"},
        **{"engine_version": "", "cached": False, "notes": []},
    )
    monkeypatch.setattr(features, "extract", lambda *_, **__: extracted)
    spec = ProbeSpec("b", "d", settings=SETTINGS, sweep_lr=(0.01, 0.02, 0.05, 0.1))
    together = {result.seed: result for result in probe.train(None, None, spec, range(3), home=home)}
    for seed in together:
        (alone,) = probe.train(None, None, spec, [seed], home=home)
        assert alone.details["validation"] == together[seed].details["validation"]
        assert alone.learning_rate == together[seed].learning_rate
        assert alone.curves == together[seed].curves


def test_a_sweep_in_which_every_rate_diverges_is_refused():
    large = Samples(1e18 * TRAIN.features, TRAIN.labels)
    message = refused(choose_learning_rate, large, 4, [0], SETTINGS, (1e25, 1e30))
    assert "Every learning rate diverged (1e+25, 1e+30)" in message


@pytest.mark.parametrize("products", ["fp32", "bf16"])
def test_unchanged_predictions_are_not_computed_again(products, monkeypatch):
    """The curves are those of computing all predictions in every epoch; most of that work is saved."""
    settings = dataclasses.replace(SETTINGS, epochs=40, step_epochs=10)
    uncertain = Predictions.uncertain
    asked = []

    def spy(self, weight, bias):
        rows = uncertain(self, weight, bias)
        asked.append(len(rows))
        return rows

    monkeypatch.setattr(Predictions, "uncertain", spy)
    spared = train(TRAIN, TEST, 4, [0, 1], settings, products=products)
    monkeypatch.setattr(Predictions, "uncertain", lambda self, weight, bias: torch.arange(len(TEST.labels)))
    whole = train(TRAIN, TEST, 4, [0, 1], settings, products=products)
    for one, other in zip(spared, whole, strict=True):
        assert one.curves["top1"] == other.curves["top1"]
        np.testing.assert_array_equal(one.confusion, other.confusion)
    assert len(asked) == 2 * 40
    assert np.mean(asked[40:]) < 0.2 * len(TEST.labels)


def test_predictions_equal_those_computed_in_full():
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(500, 64, generator=generator)
    predictions = Predictions(EvaluationSet(features, np.arange(500) % 5, 5))
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
        state = (parameters, velocities, gradients, parameters[0], gradients[0])
        sgd_epoch(x, y, torch.arange(6), *state, torch.empty(2, 5), 0.1, 0.9, 0.01)
    torch.testing.assert_close(parameters[0], layer.weight.detach(), msg=lambda text: f"{MOVED}\n{text}")
    torch.testing.assert_close(parameters[1][:, 0], layer.bias.detach(), msg=lambda text: f"{MOVED}\n{text}")
