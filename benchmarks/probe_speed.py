"""Speedup of the batched probe, per seed, over a plain training loop and over the paper's DataLoader loop.

    python -m benchmarks.probe_speed [--rounds 5] [--epochs 150] [--loop-epochs 15] [--loader-epochs 2] [--products auto]

The work is the paper's Caltech-101 on ResNet50 features: 3,030 × 2,048 training and 5,647 test samples, 101 classes, batch
64, 5 seeds, tested after every epoch. In each round the probe trains its whole protocol (``--epochs``); then the two loops,
one seed each, train ``--loop-epochs`` and ``--loader-epochs`` epochs, as their time per epoch is constant. Set-up counts for
all. Ratios are of seconds per seed and epoch, the median over rounds. The floors are the time of the arithmetic alone at the
speed of a large fp32 product on all cores: with every test sample computed in every epoch, and with the share of them that
the probe had to compute. Prints one JSON line.
"""

import statistics
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks import harness
from sparse_core.engines.torch_cpu import native_bf16
from sparse_core.specs.training import Hyperparameters
from sparse_core.transfer import linear_training
from sparse_core.transfer.linear_training import Samples

TRAIN, TEST, DIMENSIONS, CLASSES, SEEDS = 3030, 5647, 2048, 101, 5


def synthetic_samples(rows: int, seed: int) -> Samples:
    """Non-negative features around a centre for each class, as pooled ReLU outputs are, of about ResNet50's scale (0.45)."""
    labels = np.arange(rows) % CLASSES
    centres = np.random.default_rng(0).standard_normal((CLASSES, DIMENSIONS), dtype=np.float32)
    noise = np.random.default_rng(seed).standard_normal((rows, DIMENSIONS), dtype=np.float32)
    return Samples(np.maximum(noise + 0.25 * centres[labels], 0) * np.float32(1.1), labels)


def ready_tensors_loop(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, epochs: int) -> float:
    """The plain loop: nn.Linear, torch.optim.SGD, StepLR, tensors in memory. Returns the final accuracy."""

    def batches() -> list[tuple[Tensor, Tensor]]:
        return ((x[rows], y[rows]) for rows in torch.randperm(len(x)).split(64))

    def test(model: torch.nn.Module) -> float:
        return (model(x_test).argmax(1) == y_test).float().mean().item()

    return sgd_loop(batches, test, epochs)


def data_loader_loop(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, epochs: int) -> float:
    """The paper's loop: DataLoaders with four workers over TensorDatasets. Returns the final accuracy."""
    sets = torch.utils.data.TensorDataset(x, y), torch.utils.data.TensorDataset(x_test, y_test)
    train, tested = (
        torch.utils.data.DataLoader(data, batch_size=64, shuffle=shuffle, num_workers=4)
        for data, shuffle in zip(sets, (True, False), strict=True)
    )

    def test(model: torch.nn.Module) -> float:
        return sum((model(batch).argmax(1) == labels).sum().item() for batch, labels in tested) / len(x_test)

    return sgd_loop(lambda: train, test, epochs)


def sgd_loop(batches: Callable, test: Callable[[torch.nn.Module], float], epochs: int) -> float:
    """The paper's protocol with torch's own parts; ``batches()`` returns the batches of an epoch."""
    model = torch.nn.Linear(DIMENSIONS, CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 50, 0.1)
    accuracy = 0.0
    for _ in range(epochs):
        for features, labels in batches():
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(features), labels).backward()
            optimizer.step()
        schedule.step()
        with torch.no_grad():
            accuracy = test(model)
    return accuracy


def floating_point_operations_per_second(size: int = 1024, tries: int = 20) -> float:
    """The best of some square fp32 products on all cores."""
    left, right = torch.randn(2, size, size).unbind()
    out = torch.empty(size, size)
    return 2 * size**3 / min(harness.seconds(lambda: torch.mm(left, right, out=out)) for _ in range(tries))


def main() -> None:
    given = harness.parser(__doc__, rounds=5, epochs=150, loop_epochs=15, loader_epochs=2, products="auto").parse_args()
    warnings.filterwarnings("ignore", message="This DataLoader will create 4 worker processes")
    training, test = (synthetic_samples(rows, seed) for rows, seed in ((TRAIN, 1), (TEST, 2)))
    tensors = tuple(torch.from_numpy(array) for array in (*training, *test))
    settings = Hyperparameters(epochs=given.epochs)
    ready_tensors_loop(*tensors, 1)
    computed = 0.0

    def probe() -> None:
        nonlocal computed
        results = linear_training.train(training, test, CLASSES, range(SEEDS), settings, products=given.products)
        computed = statistics.mean(result.details["share_of_tests_computed"] for result in results)

    operations = 0.0
    seconds: dict[str, list[float]] = {"probe": [], "ready_tensors_loop": [], "data_loader_loop": []}
    epochs = {"probe": given.epochs, "ready_tensors_loop": given.loop_epochs, "data_loader_loop": given.loader_epochs}
    for _ in range(given.rounds):
        operations = max(operations, floating_point_operations_per_second())
        seconds["probe"].append(harness.seconds(probe) / given.epochs / SEEDS)
        for loop in (ready_tensors_loop, data_loader_loop):
            name = loop.__name__
            seconds[name].append(harness.seconds(partial(loop, *tensors, epochs[name])) / epochs[name])

    def floor(share: float) -> float:
        return round(1e3 * 2 * (2 * TRAIN + share * TEST) * DIMENSIONS * CLASSES / operations, 2)

    harness.report(
        "probe_speed",
        given,
        ratio_to_ready_tensors_loop=round(harness.median_ratio(seconds["ready_tensors_loop"], seconds["probe"]), 2),
        ratio_to_data_loader_loop=round(harness.median_ratio(seconds["data_loader_loop"], seconds["probe"]), 2),
        milliseconds_per_seed_and_epoch=harness.rounded(seconds, 2, 1e3),
        share_of_tests_computed=round(computed, 3),
        floor_milliseconds={"all_tests_computed": floor(1.0), "as_computed": floor(computed)},
        fp32_gigaflops=round(operations / 1e9, 1),
        native_bf16=native_bf16(),
        epochs=epochs,
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
