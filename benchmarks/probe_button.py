"""How long a user waits from pressing run to the finished probe, in a real Chromium, with digits' features cached.

    python -m benchmarks.probe_button [--rounds 3] [--limit-seconds 3]

The study's protocol, 5 seeds of 150 epochs on EfficientNet-Lite0's features of digits. Features are made first where the cache
lacks them. In each round another learning rate is asked for, so that no run is found finished; the time runs from the click
until the page shows the final accuracy. Prints one JSON line.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, expect

from benchmarks import stopwatch
from sparse_core.engines.machine import machine
from sparse_core.paths import REPOSITORY
from tests.browser import served

MINUTE = 60_000
RESULT = "document.body?.textContent.includes('Final top-1 accuracy')"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--limit-seconds", type=float, default=3.0)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, served.chromium() as browser:
        home = Path(folder)
        words = ["features", "--backbone", "efficientnet_lite0", "--dataset", "digits", "--json"]
        environment = {**os.environ, "SPARSE_TRANSFER_HOME": str(home)}
        subprocess.run(
            [sys.executable, "-m", "sparse_core", *words],
            check=True,
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        with served.dashboard(home) as address:
            context = browser.new_context()
            stopwatch.watch(context, RESULT)
            page = context.new_page()
            seconds = [wait_for_probe(page, address, 0.01 + number / 1000) for number in range(given.rounds)]
    print(
        json.dumps(
            {
                "benchmark": "probe_button",
                "ratio_to_limit": round(statistics.median(seconds) / given.limit_seconds, 2),
                "seconds": [round(value, 2) for value in seconds],
                "rounds": given.rounds,
                "machine": machine(),
            }
        )
    )


def wait_for_probe(page: Page, address: str, rate: float) -> float:
    """Seconds from the click to the result; the worker has been up for a while, as for a user who reads the page first."""
    page.goto(f"{address}/probe?lr={rate:g}")
    expect(page.get_by_text("once the features are cached")).to_be_visible(timeout=2 * MINUTE)
    page.wait_for_timeout(stopwatch.SETTLED_MS)
    started = time.time()
    page.get_by_role("button", name="Start probe").click()
    return stopwatch.seconds_since(started, page)


if __name__ == "__main__":
    main()
