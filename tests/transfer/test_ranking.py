"""Cheap rankings of backbones, against scikit-learn and SciPy; what is chosen on training data only."""

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sparse_core.transfer import ranking
from sparse_core.transfer.ranking import Sample


def sample(n=240, dimensions=12, classes=4, spread=1.5, seed=0):
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, dimensions))
    labels = np.arange(n) % classes
    features = (centres[labels] + spread * random.normal(size=(n, dimensions))).astype(np.float32)
    half = n // 2
    return Sample(features[:half], labels[:half], features[half:], labels[half:], classes)


def test_knn_is_that_of_scikit_learn():
    data = sample()
    found = ranking.knn(data)
    k = int(found.chosen.removeprefix("k = "))
    reference = KNeighborsClassifier(k, metric="cosine", weights=lambda distances: 1 + 1e-4 * (1 - distances))
    assert found.value == reference.fit(data.train, data.train_labels).score(data.test, data.test_labels)


def test_the_ridge_path_is_that_of_scikit_learn():
    data = sample()
    x = torch.from_numpy(data.train)
    scatter = np.cov(data.train.T, bias=True) * len(data.train)
    unit = np.trace(scatter) / len(scatter)
    targets = np.eye(4)[data.train_labels]
    path = ranking.ridge_path(x, torch.from_numpy(data.train_labels), 4)
    assert len(path) == len(ranking.PENALTIES)
    for penalty, weights, offset in path:
        reference = Ridge(alpha=penalty * unit).fit(data.train.astype(float), targets)
        assert weights.numpy() == pytest.approx(reference.coef_.T, abs=1e-4)
        assert offset.numpy() == pytest.approx(reference.intercept_, abs=1e-4)
        alone, _ = ranking.ridge_weights(x, torch.from_numpy(data.train_labels), 4, penalty)
        assert alone.numpy() == pytest.approx(weights.numpy(), abs=1e-4)


def test_logistic_regression_is_that_of_scikit_learn():
    """Of features of very different units, along a path of strengths: each start is the optimum before."""
    data = sample(spread=3.0)
    x = torch.from_numpy(data.train * np.geomspace(0.1, 10, data.train.shape[1]).astype(np.float32))
    start = None
    for strength in (0.001, 0.01, 1.0):
        start = ranking.logistic_weights(x, torch.from_numpy(data.train_labels), 4, strength, start, iterations=300)
        reference = LogisticRegression(C=strength, tol=1e-10, max_iter=20000).fit(x.double().numpy(), data.train_labels)
        weights = start[:-1].numpy().T
        assert weights == pytest.approx(reference.coef_, abs=5e-4)
        offsets = start[-1] - start[-1].mean()
        assert offsets.numpy() == pytest.approx(reference.intercept_ - reference.intercept_.mean(), abs=5e-4)


def test_a_rotation_of_the_features_changes_no_prediction_of_logistic_regression():
    """So the principal components, when all are kept, give scikit-learn's accuracy on standardised features."""
    data = sample(spread=3.0)
    found = ranking.logistic(data)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=float(found.chosen[4:]), tol=1e-8, max_iter=5000))
    expected = pipeline.fit(data.train, data.train_labels).score(data.test, data.test_labels)
    assert 0.4 < expected < 0.9 and found.value == pytest.approx(expected, abs=1 / 120 + 1e-9)


def test_logistic_regression_uses_the_largest_components(monkeypatch):
    data = sample(spread=1.0)
    whole = ranking.logistic(data).value
    monkeypatch.setattr(ranking, "COMPONENTS", 6)
    assert abs(ranking.logistic(data).value - whole) < 0.15
    train, test = ranking._components(torch.from_numpy(data.train), torch.from_numpy(data.test))
    assert train.shape == test.shape == (120, 6)
    spread = train.var(dim=0)
    assert torch.all(spread.diff() >= 0) and float((train.T @ train).fill_diagonal_(0).abs().max()) < 1e-2


def test_logme_is_the_maximum_of_the_log_evidence():
    """By definition: y ~ N(0, X Xᵀ / α + I / β), maximised over α and β by scipy.optimize."""
    data = sample(60, 5, 3)
    x = data.train.astype(float)
    n = len(x)
    expected = []
    for each in range(3):
        y = (data.train_labels == each).astype(float)

        def negative(logs, y=y):
            alpha, beta = np.exp(logs)
            return -stats.multivariate_normal.logpdf(y, np.zeros(n), x @ x.T / alpha + np.eye(n) / beta)

        expected.append(-optimize.minimize(negative, [0.0, 0.0], method="Nelder-Mead", tol=1e-10).fun / n)
    assert ranking.logme(data).value == pytest.approx(np.mean(expected), abs=1e-5)


def test_logme_with_more_dimensions_than_images():
    data = sample(16, 40, 2)
    x = data.train.astype(float)
    y = (data.train_labels == 0).astype(float)
    left, singular, _ = np.linalg.svd(x, full_matrices=False)
    found = ranking.log_evidence(singular, left.T @ y, y @ y, *x.shape)

    def negative(logs):
        alpha, beta = np.exp(logs)
        return -stats.multivariate_normal.logpdf(y, np.zeros(8), x @ x.T / alpha + np.eye(8) / beta) / 8

    for start in ([0.0, 0.0], [2.0, 2.0]):
        best = optimize.minimize(negative, start, method="Nelder-Mead", options={"maxiter": 300})
        assert (
            found >= -best.fun - 0.02 or best.x[1] > 12
        )  # beyond it the noise vanishes, and the evidence has no maximum


def test_few_shot_has_a_mean_for_each_number_of_images():
    found = ranking.few_shot(sample(600, spread=1.0))
    assert list(found.path) == ["1", "5", "10", "25"]
    assert found.path["1"] < found.path["25"]
    assert found.value == pytest.approx(np.mean(list(found.path.values())))


@pytest.mark.parametrize("measure", list(ranking.MEASURES))
def test_scores_repeat_order_backbones_and_never_choose_on_test_labels(measure):
    score = ranking.MEASURES[measure]
    good, bad = sample(spread=1.0), sample(spread=4.0)
    assert score(good, 0) == score(good, 0)
    assert score(good, 0).value > score(bad, 0).value
    shuffled = Sample(good.train, good.train_labels, good.test, np.roll(good.test_labels, 1), 4)
    assert (
        score(shuffled, 0).chosen == score(good, 0).chosen
        and score(shuffled, 0).path.keys() == score(good, 0).path.keys()
    )


@pytest.mark.parametrize("measure", list(ranking.MEASURES))
def test_classes_with_one_image_and_constant_features_are_no_crash(measure):
    labels = np.array([0, 1, 1, 1, 2, 2])
    flat = Sample(np.ones((6, 3), np.float32), labels, np.ones((3, 3), np.float32), labels[:3], 3)
    assert np.isfinite(ranking.MEASURES[measure](flat, 0).value)


def test_agreement_is_kendalls_tau():
    scores, accuracies = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}, {"a": 0.5, "b": 0.7, "c": 0.6, "d": 0.9, "e": 1.0}
    tau, p, n = ranking.agreement(scores, accuracies)
    expected = stats.kendalltau([1, 2, 3, 4], [0.5, 0.7, 0.6, 0.9])
    assert (tau, p, n) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue), 4)
    assert np.isnan(ranking.agreement({"a": 1.0}, accuracies)[0])
