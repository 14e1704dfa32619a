"""How quickly the dashboard answers, in a real Chromium, against a bare Streamlit page with one Plotly chart.

    python -m benchmarks.page_speed [--rounds 5]

Each round starts a server for the bare page and one for the dashboard, in turn and each in a fresh browser context, and takes
the time from the start of the server's process until the first chart is drawn; then from a reload until it is drawn again; then,
for some changes of a control, what the server takes for the rerun: from the message that asks for it to the one that says
it has ended. The ratio is the median over rounds of dashboard over bare page. Prints one JSON line.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, WebSocket
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from sparse_core.machine import machine
from tests.browser import served

BARE = """import plotly.graph_objects as go
import streamlit as st

st.plotly_chart(go.Figure(go.Scatter(x=[1, 2, 3], y=[1, 4, 9])))
"""
CHART = ".js-plotly-plot .main-svg .trace"
CONTROLS = ("Full", "Linear", "Both", "Published", "Published and measured")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    seconds: dict[str, list[float]] = {"bare": [], "bare_reload": [], "dashboard": [], "reload": [], "rerun": []}
    with tempfile.TemporaryDirectory() as folder, served.chromium() as browser:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE, encoding="utf-8")
        home = Path(folder) / "home"
        for _ in range(given.rounds):
            port = served.free_port()
            words = ["-m", "streamlit", "run", str(bare), "--server.port", str(port), "--server.address", "127.0.0.1"]
            started = time.perf_counter()
            with served.server(words, port, home) as address:
                _, seconds_to_chart, reload = open_and_reload(browser, address, started)
                seconds["bare"].append(seconds_to_chart)
                seconds["bare_reload"].append(reload)
            started = time.perf_counter()
            with served.dashboard(home) as address:
                page, seconds_to_chart, reload = open_and_reload(browser, address, started)
                seconds["dashboard"].append(seconds_to_chart)
                seconds["reload"].append(reload)
                seconds["rerun"] += reruns(page)
                page.context.close()
    ratios = [ours / bare for ours, bare in zip(seconds["dashboard"], seconds["bare"], strict=True)]
    print(
        json.dumps(
            {
                "benchmark": "page_speed",
                "ratio_to_bare_page": round(statistics.median(ratios), 2),
                "ratio_of_reload_to_one_second": round(statistics.median(seconds["reload"]), 2),
                "ratio_of_rerun_to_limit": round(statistics.median(seconds["rerun"]) / 0.15, 2),
                "seconds": {name: [round(value, 3) for value in values] for name, values in seconds.items()},
                "rounds": given.rounds,
                "machine": machine(),
            }
        )
    )


def open_and_reload(browser: Browser, address: str, started: float) -> tuple[Page, float, float]:
    """The page, and the seconds from ``started`` to its first chart and from a reload to the chart again."""
    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    page.goto(address, wait_until="commit")
    page.wait_for_selector(CHART, state="attached", timeout=60_000)
    first = time.perf_counter() - started
    page.wait_for_timeout(1500)
    again = time.perf_counter()
    page.reload(wait_until="commit")
    page.wait_for_selector(CHART, state="attached", timeout=60_000)
    return page, first, time.perf_counter() - again


def reruns(page: Page) -> list[float]:
    """Seconds on the server for each of some changes of a control, each seen for the first time."""
    asked: list[float] = []
    taken: list[float] = []

    def on_sent(_: object) -> None:
        asked.append(time.perf_counter())

    def on_received(payload: object) -> None:
        if isinstance(payload, bytes) and asked and ended(payload):
            taken.append(time.perf_counter() - asked[0])
            asked.clear()

    def on_socket(socket: WebSocket) -> None:
        socket.on("framesent", on_sent)
        socket.on("framereceived", on_received)

    page.on("websocket", on_socket)
    page.reload()
    page.wait_for_selector(CHART, state="attached")
    page.wait_for_timeout(1500)
    taken.clear()
    for words in CONTROLS:
        asked.clear()
        page.get_by_test_id("stButtonGroup").get_by_text(words, exact=True).first.click()
        page.wait_for_timeout(1200)
    return taken


def ended(payload: bytes) -> bool:
    """Whether this message of the server says that the script has run to its end."""
    message = ForwardMsg()
    message.ParseFromString(payload)
    return message.WhichOneof("type") == "script_finished"


if __name__ == "__main__":
    main()
