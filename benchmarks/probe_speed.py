"""How much faster the batched probe is, per seed, than an ordinary loop and than the study's DataLoader loop.

    python -m benchmarks.probe_speed [--rounds 5]

The work is the study's Caltech-101 on ResNet50 features: 3,030 × 2,048 training and 5,647 test samples, 101 classes, batch
64, 5 seeds, tested after every epoch. In each round the probe trains its whole protocol (``--epochs``, 150); then the two
loops, one seed each, run fewer epochs of the same work, whose time an epoch is constant. Set-up counts for the probe and for
the loops alike. Ratios are those of seconds per seed and epoch, the median over rounds. The floors say how long the arithmetic
alone takes at the pace of a large fp32 product on all cores: with every test sample computed in every epoch, and with the
share of them that the probe had to compute. Prints one JSON line.
"""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sparse_core.engines.machine import machine
from sparse_core.engines.torch_cpu import native_bf16
from sparse_core.specs.training import Hyperparameters
from sparse_core.transfer import linear_training
from sparse_core.transfer.linear_training import Samples

TRAIN, TEST, DIMENSIONS, CLASSES, SEEDS = 3030, 5647, 2048, 101, 5


def made_features(rows: int, labels: np.ndarray, seed: int) -> np.ndarray:
    """Non-negative features around a centre for each class, as a pooled ReLU gives, of about ResNet50's size (0.45)."""
    centres = np.random.default_rng(0).standard_normal((CLASSES, DIMENSIONS), dtype=np.float32)
    noise = np.random.default_rng(seed).standard_normal((rows, DIMENSIONS), dtype=np.float32)
    return np.maximum(noise + 0.25 * centres[labels], 0) * np.float32(1.1)


def ready_tensors_loop(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, epochs: int) -> float:
    """The plain loop: nn.Linear, torch.optim.SGD, StepLR, tensors in memory. Returns the last accuracy."""

    def batches() -> list[tuple[Tensor, Tensor]]:
        return ((x[rows], y[rows]) for rows in torch.randperm(len(x)).split(64))

    def test(model: torch.nn.Module) -> float:
        return (model(x_test).argmax(1) == y_test).float().mean().item()

    return sgd_loop(batches, test, epochs)


def data_loader_loop(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, epochs: int) -> float:
    """The study's way: DataLoaders of four workers over TensorDatasets. Returns the last accuracy."""
    sets = torch.utils.data.TensorDataset(x, y), torch.utils.data.TensorDataset(x_test, y_test)
    train, tested = (
        torch.utils.data.DataLoader(data, batch_size=64, shuffle=shuffle, num_workers=4)
        for data, shuffle in zip(sets, (True, False), strict=True)
    )

    def test(model: torch.nn.Module) -> float:
        return sum((model(batch).argmax(1) == labels).sum().item() for batch, labels in tested) / len(x_test)

    return sgd_loop(lambda: train, test, epochs)


def sgd_loop(batches: Callable, test: Callable[[torch.nn.Module], float], epochs: int) -> float:
    """The study's protocol with torch's own parts; ``batches()`` gives an epoch's."""
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


def seconds_per_epoch(work: Callable[[], object], epochs: int) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) / epochs


def products_a_second(size: int = 1024, tries: int = 20) -> float:
    """Floating-point operations a second in the best of some square products on all cores."""
    left, right = torch.randn(2, size, size).unbind()
    out = torch.empty(size, size)
    return 2 * size**3 / min(seconds_per_epoch(lambda: torch.mm(left, right, out=out), 1) for _ in range(tries))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--epochs", type=int, default=150, help="of the probe")
    options.add_argument("--loop-epochs", type=int, default=15, help="of the loop on ready tensors")
    options.add_argument("--loader-epochs", type=int, default=2, help="of the DataLoader loop")
    options.add_argument("--products", default="auto", choices=("auto", "bf16", "fp32"))
    given = options.parse_args()
    warnings.filterwarnings("ignore", message="This DataLoader will create 4 worker processes")

    y = np.arange(TRAIN) % CLASSES
    y_test = np.arange(TEST) % CLASSES
    x, x_test = made_features(TRAIN, y, 1), made_features(TEST, y_test, 2)
    tensors = tuple(torch.from_numpy(array) for array in (x, y, x_test, y_test))
    settings = Hyperparameters(epochs=given.epochs)
    training, test = Samples(x, y), Samples(x_test, y_test)

    seconds: dict[str, list[float]] = {"probe": [], "ready_tensors_loop": [], "data_loader_loop": []}
    operations, computed = 0.0, 0.0
    ready_tensors_loop(*tensors, 1)

    def probe_once() -> None:
        nonlocal computed
        results = linear_training.train(training, test, CLASSES, range(SEEDS), settings, products=given.products)
        computed = statistics.mean(result.details["share_of_tests_computed"] for result in results)

    for _ in range(given.rounds):
        operations = max(operations, products_a_second())
        seconds["probe"].append(seconds_per_epoch(probe_once, given.epochs * SEEDS))
        seconds["ready_tensors_loop"].append(
            seconds_per_epoch(lambda: ready_tensors_loop(*tensors, given.loop_epochs), given.loop_epochs)
        )
        seconds["data_loader_loop"].append(
            seconds_per_epoch(lambda: data_loader_loop(*tensors, given.loader_epochs), given.loader_epochs)
        )

    def ratio(loop: str) -> float:
        return round(statistics.median(b / a for a, b in zip(seconds["probe"], seconds[loop], strict=True)), 2)

    def floor(share: float) -> float:
        return round(1e3 * 2 * (2 * TRAIN + share * TEST) * DIMENSIONS * CLASSES / operations, 2)

    print(
        json.dumps(
            {
                "benchmark": "probe_speed",
                "ratio_to_ready_tensors_loop": ratio("ready_tensors_loop"),
                "ratio_to_data_loader_loop": ratio("data_loader_loop"),
                "milliseconds_per_seed_and_epoch": {
                    name: [round(1e3 * value, 2) for value in values] for name, values in seconds.items()
                },
                "share_of_tests_computed": round(computed, 3),
                "floor_milliseconds": {"all_tests_computed": floor(1.0), "as_computed": floor(computed)},
                "fp32_gigaflops": round(operations / 1e9, 1),
                "products": given.products,
                "native_bf16": native_bf16(),
                "epochs": {
                    "probe": given.epochs,
                    "ready_tensors_loop": given.loop_epochs,
                    "data_loader_loop": given.loader_epochs,
                },
                "rounds": given.rounds,
                "threads": torch.get_num_threads(),
                "machine": machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
