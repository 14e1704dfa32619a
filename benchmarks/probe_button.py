"""Seconds from clicking "Start probe" to the finished probe, in a real Chromium, with the features of digits cached.

    python -m benchmarks.probe_button [--rounds 3] [--limit-seconds 3]

The paper's protocol: 5 seeds of 150 epochs on EfficientNet-Lite0's features of digits, which are extracted first. Each round
uses another learning rate, so that no run is found finished; the time ends when the page shows the final accuracy. Prints
one JSON line.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, expect

from benchmarks import harness, stopwatch
from tests.browser import served

RESULT = "document.body?.textContent.includes('Final top-1 accuracy')"


def main() -> None:
    given = harness.parser(__doc__, rounds=3, limit_seconds=3.0).parse_args()
    with tempfile.TemporaryDirectory() as folder, served.chromium() as browser:
        verb = ["features", "--backbone", "efficientnet_lite0", "--dataset", "digits", "--json"]
        environment = {**os.environ, "SPARSE_TRANSFER_HOME": folder}
        subprocess.run([sys.executable, "-m", "sparse_core", *verb], check=True, env=environment, capture_output=True)
        with served.dashboard(Path(folder)) as address:
            context = browser.new_context()
            stopwatch.watch(context, RESULT)
            page = context.new_page()
            seconds = [wait_for_probe(page, address, 0.01 + number / 1000) for number in range(given.rounds)]
    harness.report(
        "probe_button",
        given,
        ratio_to_limit=round(statistics.median(seconds) / given.limit_seconds, 2),
        seconds=[round(value, 2) for value in seconds],
    )


def wait_for_probe(page: Page, address: str, rate: float) -> float:
    """Seconds from the click to the result; the worker is started before, as for a user who reads the page first."""
    page.goto(f"{address}/probe?lr={rate:g}")
    expect(page.get_by_text("once the features are cached")).to_be_visible(timeout=2 * served.MINUTE)
    page.wait_for_timeout(stopwatch.SETTLED_MS)
    started = time.time()
    page.get_by_role("button", name="Start probe").click()
    return stopwatch.seconds_since(started, page)


if __name__ == "__main__":
    main()
