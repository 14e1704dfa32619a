"""Seconds from clicking "Start probe" to the finished probe of digits, in a real Chromium.

    python -m benchmarks.probe_button [--rounds 3]

The paper's protocol: 5 seeds of 150 epochs. In each round, in fresh home folders with a server each: ``zoo`` is the first
probe as the page offers it, of a small network on small images (limit: 6 s); in the other home, ``first`` is the first probe,
with EfficientNet-Lite0, clicked as soon as the button is there, so the worker's start counts (25 s); ``second`` is that of
another backbone, its 70 % copy, clicked as soon (15 s); ``cached`` is another learning rate on the same features, after the page
has come to rest (3 s). The time ends when the page shows the final accuracy. Each ratio is the median over rounds over its
limit. Prints one JSON line.
"""

import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, expect

from benchmarks import harness, stopwatch
from tests.browser import served

# An earlier result, or an example, is on the page before the click.
RUNNING = "[...document.querySelectorAll('button')].some(button => button.textContent.includes('Cancel'))"
RESULT = (
    f"""(window.hasRun ||= {RUNNING}) && !{RUNNING} && document.body.textContent.includes('Final top-1 accuracy')"""
)
LIMITS = {"zoo": 6.0, "first": 25.0, "second": 15.0, "cached": 3.0}
BACKBONE = "backbone=EfficientNet-Lite0,+"
HOMES = (
    {"zoo": ""},
    {"first": f"{BACKBONE}dense", "second": f"{BACKBONE}magnitude+70+%25", "cached": f"{BACKBONE}dense&lr=0.011"},
)


def main() -> None:
    given = harness.parser(__doc__, rounds=3).parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in LIMITS}
    with served.chromium() as browser:
        for _ in range(given.rounds):
            for queries in HOMES:
                measure(browser, queries, seconds)
    ratios = {f"ratio_{name}": statistics.median(times) / LIMITS[name] for name, times in seconds.items()}
    rounded = {name: round(ratio, 2) for name, ratio in ratios.items()}
    harness.report("probe_button", given, **rounded, seconds=harness.rounded(seconds, 2), limits=LIMITS)


def measure(browser: Browser, queries: dict[str, str], seconds: dict[str, list[float]]) -> None:
    """The probes of one fresh home folder, one after another."""
    with tempfile.TemporaryDirectory() as folder, served.dashboard(Path(folder)) as address:
        for name, query in queries.items():
            is_at_rest = name == "cached"
            seconds[name].append(wait_for_probe(browser, f"{address}/probe?{query}", at_rest=is_at_rest))


def wait_for_probe(browser: Browser, address: str, *, at_rest: bool) -> float:
    """Seconds from the click to the result."""
    context = browser.new_context()
    stopwatch.watch(context, RESULT)
    page = context.new_page()
    page.goto(address)
    if at_rest:
        expect(page.get_by_text("once the features are cached")).to_be_visible(timeout=2 * served.MINUTE)
        page.wait_for_timeout(stopwatch.SETTLED_MS)
    button = page.get_by_role("button", name="Start probe")
    button.wait_for(timeout=served.MINUTE)
    started = time.time()
    button.click()
    seconds = stopwatch.seconds_since(started, page, minutes=10)
    context.close()
    return seconds


if __name__ == "__main__":
    main()
