"""How long Runs takes to open with many runs, in a real Chromium.

    python -m benchmarks.runs_page [--runs 20000] [--rounds 5]

Fills a home folder with records of made-up probes, five seeds each, compacted as the product does it, and opens another page
first: a new server reads the records once. Then it opens Runs, in a fresh browser context each time, until its table is drawn.
Prints one JSON line; ``ratio_to_limit`` is the median over 1.5 s.
"""

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, expect

from benchmarks import harness
from sparse_core.results.records import Record, write_compacted
from sparse_core.specs.identity import record_document, run_id
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import ProbeSpec, protocol
from tests.browser import served

LIMIT_SECONDS = 1.5
SEEDS = 5
METHODS = ("Dense", "GMP", "AC/DC", "STR", "WoodFisher")


def main() -> None:
    given = harness.parser(__doc__, runs=20_000, rounds=5).parse_args()
    with tempfile.TemporaryDirectory() as folder, served.chromium() as browser:
        home = Path(folder) / "home"
        write_compacted(_place(home), [_record(number) for number in range(given.runs)])
        with served.dashboard(home) as address:
            started = time.perf_counter()
            _seconds(browser, f"{address}/structure", "nothing leaves it")
            first = time.perf_counter() - started
            caption = f"of {given.runs // SEEDS:,} rows."
            seconds = [_seconds(browser, f"{address}/runs", caption) for _ in range(given.rounds)]
    harness.report(
        "runs_page",
        given,
        ratio_to_limit=round(statistics.median(seconds) / LIMIT_SECONDS, 2),
        seconds={"first_page_of_a_new_server": round(first, 2), "runs": [round(each, 2) for each in seconds]},
    )


def _place(home: Path) -> Path:
    (home / "runs").mkdir(parents=True)
    return home / "runs" / "compacted-benchmark.parquet"


def _record(number: int) -> Record:
    """A made-up probe; every fifth number is another configuration."""
    configuration, seed = divmod(number, SEEDS)
    method, level = METHODS[configuration % len(METHODS)], configuration // len(METHODS)
    sparsity = 0.0 if method == "Dense" else (0.8, 0.9, 0.95)[level % 3]
    settings = Hyperparameters(epochs=1 + level)
    spec = ProbeSpec(f"net-{method}-{sparsity}", "digits", backbone_hash=f"{method} {sparsity}", dataset_hash="d")
    spec = dataclasses.replace(spec, settings=settings)
    accuracy = 0.5 + (number * 7919 % 1000) / 2500
    result = {"architecture": "resnet20", "upstream": "ImageNet", "method": method, "sparsity": sparsity}
    result |= {"backbone_sparsity": sparsity, "protocol": protocol(spec), "metric": "top1", "dataset_name": "digits"}
    result |= {
        f"{name}_{when}": accuracy for name in ("accuracy", "top1", "mean_per_class") for when in ("best", "final")
    }
    result |= {"learning_rate": 0.01, "seconds_training": 1.5, "train_images": 100, "test_images": 50, "notes": []}
    result |= {"class_names": ["a", "b"], "confusion": [[0, 0, 25], [1, 1, 25]]}
    result |= {"created_at": f"2026-{1 + configuration % 12:02}-{1 + configuration % 28:02}T10:00:{seed:02}"}
    epoch = {"epoch": 1, "loss": 1.0, "top1": accuracy, "mean_per_class": accuracy}
    return Record(run_id(spec, seed), record_document(spec, seed), result, [epoch])


def _seconds(browser: Browser, address: str, text: str) -> float:
    with browser.new_context(viewport=served.VIEWPORT) as context:
        page = context.new_page()
        started = time.perf_counter()
        page.goto(address)
        expect(page.get_by_text(text).first).to_be_visible(timeout=2 * served.MINUTE)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
