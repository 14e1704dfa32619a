"""Whether the dashboard stays usable while a measurement of speed runs, in a real Chromium.

    python -m benchmarks.measuring_usability [--rounds 3]

The job system measures a ResNet50 at batch 64 in DeepSparse, or in PyTorch if that is missing, on all cores. Meanwhile the
first page is reloaded until its chart is drawn again, and controls are changed, each until the server's rerun has ended. The
same is done before, without a measurement. ``ratio_to_limit`` is the slower of the two medians over one second,
``ratio_to_alone`` is it over the same without a measurement. Expected: the first below 1. Prints one JSON line.
"""

import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser

from benchmarks import harness, stopwatch
from benchmarks.page_speed import CONTROLS
from sparse_core.engines import availability
from sparse_core.engines.machine import load
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.specs.speedup import SpeedupSpec
from tests.browser import served

LIMIT_SECONDS = 1.0


def main() -> None:
    given = harness.parser(__doc__, rounds=3).parse_args()
    engine = "torch" if availability.missing("deepsparse") else "deepsparse"
    spec = SpeedupSpec(architecture="resnet50", sparsity=0.9, engines=(engine,), batch_sizes=(64,), rounds=10_000)
    with (
        tempfile.TemporaryDirectory() as folder,
        served.chromium() as browser,
        served.dashboard(Path(folder)) as address,
    ):
        home = Path(folder)
        alone = answers(browser, address, given.rounds)
        job_id = queue.submit(home, Job("speedup", spec))
        wait_until_measuring(home, job_id)
        meanwhile = answers(browser, address, given.rounds)
        busy = load()
        rounds_measured = rounds_done(home, job_id)
        queue.cancel(home, job_id)
    medians = {name: statistics.median(values) for name, values in meanwhile.items()}
    slower = max(medians, key=medians.__getitem__)
    harness.report(
        "measuring_usability",
        given,
        ratio_to_limit=round(medians[slower] / LIMIT_SECONDS, 2),
        ratio_to_alone=round(medians[slower] / statistics.median(alone[slower]), 2),
        seconds_while_measuring=harness.rounded(meanwhile, 3),
        seconds_alone=harness.rounded(alone, 3),
        engine=engine,
        rounds_measured_meanwhile=rounds_measured,
        load_while_measuring=round(busy, 2),
    )


def answers(browser: Browser, address: str, rounds: int) -> dict[str, list[float]]:
    """Seconds from a reload to the chart, and for a rerun after a change of a control."""
    seconds: dict[str, list[float]] = {"reload": [], "rerun": []}
    clicks = stopwatch.requests_of_clicks(browser, address, CONTROLS)
    for _ in range(rounds):
        _, reload = stopwatch.to_chart_and_again(browser, address, time.time())
        seconds["reload"].append(reload)
        seconds["rerun"] += stopwatch.reruns(address, clicks)
    return seconds


def wait_until_measuring(home: Path, job_id: str) -> None:
    deadline = time.monotonic() + 300
    while rounds_done(home, job_id) < 1:
        if time.monotonic() > deadline:
            raise SystemExit("The measurement did not begin within five minutes.")
        time.sleep(0.2)


def rounds_done(home: Path, job_id: str) -> int:
    """The rounds that the measurement has finished; it must still be running."""
    status = queue.status(home, job_id)
    if status.ended:
        raise SystemExit(f"The measurement ended too early: {status.message or status.state}")
    return status.progress.done


if __name__ == "__main__":
    main()
