"""Rankings of backbones by cheap measures on their cached features: k-NN, ridge, few-shot, logistic regression and LogME.

They stand beside the linear probe and never mix with it. All but LogME are the top-1 accuracy on the test split; their
hyperparameters are chosen on a seeded split of the training data.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparse_core.engines.torch_cpu import torch_threads

NEIGHBOURS = (1, 5, 10, 20, 50)
PENALTIES = tuple(10.0**power for power in range(-6, 7))  # λ of ridge, times the mean eigenvalue of the scatter matrix
STRENGTHS = tuple(10.0**power for power in range(-3, 2))  # C of logistic regression: 1 / (C n) weighs ‖W‖²/2
SHOTS = (1, 5, 10, 25)
DRAWS = 3
VALIDATION = 0.2
DISTANCE_ROWS = 1024
COMPONENTS = 256  # of the features in logistic regression, the largest: it takes a fifth of the time of 1,280
ITERATIONS = 60
PATH_ITERATIONS = 20  # each strength goes on from the one before
TOLERANCE = 1e-5  # of the largest entry of the gradient, where each weight is scaled by its curvature


@dataclass(frozen=True)
class Sample:
    """Features (N, D) and labels (N,) of training and test, and the number of classes."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    classes: int


@dataclass(frozen=True)
class Score:
    """A score (higher is better) with what was chosen for it, and the scores that led to the choice."""

    value: float
    chosen: str
    path: Mapping[str, float]


def knn(sample: Sample, seed: int = 0) -> Score:
    """Accuracy of the majority of the k nearest training images by cosine similarity; of equals, the nearest class.

    k is one of ``NEIGHBOURS``."""
    fit, held = _split(sample.train_labels, seed)
    train, test = _unit(sample.train), _unit(sample.test)
    labels = torch.from_numpy(sample.train_labels)
    ks = [k for k in NEIGHBOURS if k <= len(fit)]
    path = _knn_accuracies(train[fit], labels[fit], train[held], labels[held], ks, sample.classes)
    k = _best(path)
    found = _knn_accuracies(train, labels, test, torch.from_numpy(sample.test_labels), [int(k)], sample.classes)
    return Score(found[k], f"k = {k}", path)


def ridge(sample: Sample, seed: int = 0) -> Score:
    """Accuracy of least squares on one-hot targets with an L2 penalty and an intercept, in closed form: one eigendecomposition
    gives the whole path of λ, ``PENALTIES`` times the mean eigenvalue."""
    fit, held = _split(sample.train_labels, seed)
    train, labels = torch.from_numpy(np.array(sample.train)).float(), torch.from_numpy(sample.train_labels)
    path = {}
    for penalty, weights, offset in ridge_path(train[fit], labels[fit], sample.classes):
        path[f"{penalty:g}"] = _accuracy(train[held] @ weights + offset, labels[held])
    chosen = _best(path)
    weights, offset = ridge_weights(train, labels, sample.classes, float(chosen))
    test = torch.from_numpy(np.array(sample.test)).float()
    value = _accuracy(test @ weights + offset, torch.from_numpy(sample.test_labels))
    return Score(value, f"λ = {chosen} of the mean eigenvalue", path)


def ridge_path(x: Tensor, labels: Tensor, classes: int) -> list[tuple[float, Tensor, Tensor]]:
    """(λ as a share of the mean eigenvalue, weights (D, C), offset (C,)) for each of ``PENALTIES``, from one eigendecomposition:
    argmin ‖X W + b − Y‖² + λ ‖W‖² with X (N, D) and one-hot Y."""
    mean, share, scatter, moments = _moments(x, labels, classes)
    values, vectors = _eigen(scatter)
    values, turned = values.clamp_min(0), vectors.T @ moments
    unit = float(values.mean()) or 1.0
    found = []
    for penalty in PENALTIES:
        weights = (vectors @ (turned / (values + penalty * unit)[:, None])).float()
        found.append((penalty, weights, share - mean @ weights))
    return found


def ridge_weights(x: Tensor, labels: Tensor, classes: int, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights (D, C) and offset (C,) as in ``ridge_path``, for one penalty."""
    mean, share, scatter, moments = _moments(x, labels, classes)
    scale = penalty * (float(scatter.diagonal().mean()) or 1.0)
    weights = torch.linalg.solve(scatter + scale * torch.eye(len(scatter), dtype=torch.float64), moments).float()
    return weights, share - mean @ weights


def _moments(x: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean (D,), class shares (C,), scatter (D, D) and moments (D, C) of centred features and targets, the last two in double."""
    mean, targets = x.mean(dim=0), torch.nn.functional.one_hot(labels, classes).float()
    share, centred = targets.mean(dim=0), x - mean
    return mean, share, (centred.T @ centred).double(), (centred.T @ (targets - share)).double()


def few_shot(sample: Sample, seed: int = 0) -> Score:
    """Mean accuracy of the nearest class centroid (cosine) with ``SHOTS`` training images a class, over ``DRAWS`` draws each.

    A class with fewer images gives all it has. ``path`` has the mean of each number of images.
    """
    train, test = _unit(sample.train), _unit(sample.test)
    labels, truth = sample.train_labels, torch.from_numpy(sample.test_labels)
    path = {}
    for shots in SHOTS:
        accuracies = []
        for draw in range(DRAWS):
            random = np.random.default_rng([seed, shots, draw])
            present = np.unique(labels)
            rows = [random.permutation(np.flatnonzero(labels == each))[:shots] for each in present]
            centres = torch.stack([train[each].mean(dim=0) for each in rows])
            centres = torch.nn.functional.normalize(centres)
            predictions = torch.from_numpy(present)[(test @ centres.T).argmax(dim=1)]
            accuracies.append(float((predictions == truth).double().mean()))
        path[str(shots)] = float(np.mean(accuracies))
    return Score(float(np.mean(list(path.values()))), f"mean over {', '.join(path)} images a class", path)


def logistic(sample: Sample, seed: int = 0) -> Score:
    """Accuracy of multinomial logistic regression with an L2 penalty on standardised features, of which the ``COMPONENTS``
    largest principal components are used; C from ``STRENGTHS``."""
    fit, held = _split(sample.train_labels, seed)
    labels = torch.from_numpy(sample.train_labels)
    with torch_threads(1):  # two that share products this small wait for each other longer than they compute
        train, test = _components(
            torch.from_numpy(np.array(sample.train)).float(), torch.from_numpy(np.array(sample.test)).float()
        )
        path: dict[str, float] = {}
        start = None
        for strength in STRENGTHS:
            start = logistic_weights(train[fit], labels[fit], sample.classes, strength, start, PATH_ITERATIONS)
            path[f"{strength:g}"] = _accuracy(_with_one(train[held]) @ start, labels[held])
        chosen = _best(path)
        weights = logistic_weights(train, labels, sample.classes, float(chosen))
        return Score(_accuracy(_with_one(test) @ weights, torch.from_numpy(sample.test_labels)), f"C = {chosen}", path)


def _components(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, D) and (T, D), standardised by those of training and turned to their largest principal components. A rotation
    alone changes no optimum under an L2 penalty, but makes it quicker to find."""
    deviation, mean = torch.std_mean(train, dim=0)
    deviation = deviation.clamp_min(1e-6)
    train, test = (train - mean) / deviation, (test - mean) / deviation
    _, vectors = _eigen(train.T @ train)
    return train @ vectors[:, -COMPONENTS:], test @ vectors[:, -COMPONENTS:]


def _eigen(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (D,), ascending, and eigenvectors (D, D), in one thread: two took fourteen times the processor time on a busy
    machine."""
    with torch_threads(1):
        values, vectors = torch.linalg.eigh(symmetric)
    return values, vectors


def logistic_weights(
    x: Tensor, labels: Tensor, classes: int, strength: float, start: Tensor | None = None, iterations: int = ITERATIONS
) -> Tensor:
    """Weights (D + 1, C), the last row the intercepts, which are not penalised: argmin mean cross entropy + ‖W‖² / (2 C n).

    L-BFGS on weights divided by ``scale``, the root of a curvature that is largest where cross entropy is steepest (Böhning,
    1992): of principal components these are the right units, so it takes half the steps.
    """
    ones, targets = _with_one(x), torch.nn.functional.one_hot(labels, classes).to(x.dtype)
    penalty = torch.full((ones.shape[1], 1), 1 / (strength * len(x)), dtype=x.dtype)
    penalty[-1] = 0
    scale = (ones.square().mean(dim=0)[:, None] / 4 + penalty).rsqrt()
    ones, penalty = ones * scale.T, penalty * scale.square()
    scaled = torch.zeros(len(scale), classes, dtype=x.dtype) if start is None else start / scale
    scaled.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [scaled], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=TOLERANCE
    )

    @torch.no_grad()
    def loss() -> Tensor:
        likelihoods, shrinking = torch.log_softmax(ones @ scaled, dim=1), penalty * scaled
        value = (shrinking * scaled).sum() / 2 - (likelihoods * targets).sum() / len(x)
        scaled.grad = ones.T @ ((likelihoods.exp() - targets) / len(x)) + shrinking
        return value

    optimizer.step(loss)
    return scaled.detach() * scale


def logme(sample: Sample, seed: int = 0) -> Score:
    """LogME (You et al., ICML 2021): the largest log evidence of Bayesian linear regression on each class's one-hot target, over
    n, averaged over classes. Of the training split; nothing is chosen."""
    x = torch.from_numpy(np.array(sample.train)).double()
    n, dimensions = x.shape
    squares, vectors = _eigen(x.T @ x if dimensions <= n else x @ x.T)  # a third of the time of an SVD
    kept = squares > 1e-10 * squares.max()
    singular, vectors = squares[kept].sqrt(), vectors[:, kept]
    targets = torch.nn.functional.one_hot(torch.from_numpy(sample.train_labels), sample.classes).double()
    projections = vectors.T @ (x.T @ targets) / singular[:, None] if dimensions <= n else vectors.T @ targets
    values = [
        log_evidence(singular.numpy(), projections[:, each].numpy(), float(targets[:, each].sum()), n, dimensions)
        for each in range(sample.classes)
    ]
    return Score(float(np.mean(values)), "", {})


def log_evidence(singular: np.ndarray, projections: np.ndarray, square: float, n: int, dimensions: int) -> float:
    """The log evidence over n at its maximum over the precisions α of the prior and β of the noise, by fixed-point iteration.

    ``singular`` (K,) values of the features (n, D), ``projections`` (K,) of the target on their left vectors, ``square`` ‖y‖².
    """
    sigma = singular**2
    alpha = beta = 1.0
    rest = max(square - float(projections @ projections), 0.0)
    previous = -np.inf
    for _ in range(1000):
        effective = float((sigma / (sigma + alpha / beta)).sum())
        shrunk = sigma * projections**2 / (sigma + alpha / beta) ** 2
        weights = float(shrunk.sum())
        residual = rest + float((projections**2 / (1 + sigma * beta / alpha) ** 2).sum())
        evidence = _evidence(alpha, beta, sigma, weights, residual, n, dimensions)
        if abs(evidence - previous) < 1e-9 * n:
            break
        previous = evidence
        alpha = effective / max(weights, 1e-12)
        beta = max(n - effective, 1e-12) / max(residual, 1e-12)
    return evidence / n


def _evidence(
    alpha: float, beta: float, sigma: np.ndarray, weights: float, residual: float, n: int, dimensions: int
) -> float:
    determinant = np.log(alpha + beta * sigma).sum() + (dimensions - len(sigma)) * np.log(alpha)
    fit = n * np.log(beta) + dimensions * np.log(alpha) - n * np.log(2 * np.pi)
    return float(0.5 * (fit - determinant - beta * residual - alpha * weights))


MEASURES: dict[str, Callable[[Sample, int], Score]] = {
    "knn": knn,
    "ridge": ridge,
    "few-shot": few_shot,
    "logistic": logistic,
    "logme": logme,
}


def agreement(scores: Mapping[str, float], accuracies: Mapping[str, float]) -> tuple[float, float, int]:
    """Kendall's tau-b of a ranking and the accuracies of probes, by backbone, with p and their number; NaN below three."""
    shared = sorted(scores.keys() & accuracies.keys())
    if len(shared) < 3:
        return float("nan"), float("nan"), len(shared)
    from scipy.stats import kendalltau

    found = kendalltau([scores[name] for name in shared], [accuracies[name] for name in shared])
    return float(found.statistic), float(found.pvalue), len(shared)


def _split(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit and rows to validate on, ``VALIDATION`` of each class with two images or more."""
    random = np.random.default_rng(seed)
    held = np.zeros(len(labels), dtype=bool)
    for each in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == each))
        held[rows[: max(1, round(VALIDATION * len(rows)))] if len(rows) > 1 else []] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _unit(features: np.ndarray) -> Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(np.array(features)).float())


def _knn_accuracies(
    train: Tensor, labels: Tensor, test: Tensor, truth: Tensor, ks: list[int], classes: int
) -> dict[str, float]:
    """The accuracy (0..1) for each k."""
    right = dict.fromkeys(ks, 0)
    for rows in torch.arange(len(test)).split(DISTANCE_ROWS):
        near = (test[rows] @ train.T).topk(max(ks), dim=1)
        voted = labels[near.indices]
        for k in ks:
            votes = torch.zeros(len(rows), classes).scatter_add_(1, voted[:, :k], 1 + 1e-4 * near.values[:, :k])
            right[k] += int((votes.argmax(dim=1) == truth[rows]).sum())
    return {str(k): count / max(len(test), 1) for k, count in right.items()}


def _accuracy(outputs: Tensor, labels: Tensor) -> float:
    return float((outputs.argmax(dim=1) == labels).double().mean())


def _with_one(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)


def _best(path: Mapping[str, float]) -> str:
    """The hyperparameter of the best score; of equals, the first."""
    return max(path, key=lambda name: path[name])
