"""How quickly the dashboard answers, in a real Chromium, against a bare Streamlit page with one Plotly chart.

    python -m benchmarks.page_speed [--rounds 5]

Each round starts a server for the bare page and one for the dashboard, in turn and each in a fresh browser context, and takes
the time from the start of the server's process until the first chart is drawn; then from a reload until it is drawn again; then,
for some changes of a control, each seen for the first time, what the server takes for the rerun: from the message that asks
for it to the one that says it has ended. Then the browser goes to Tasks and back by the navigation, from the click until the
page's title and chart are drawn. The ratio is the median over rounds of dashboard over bare page. Prints one JSON line.
"""

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import harness, stopwatch
from tests.browser import served

BARE = """import plotly.graph_objects as go
import streamlit as st

st.plotly_chart(go.Figure(go.Scatter(x=[1, 2, 3], y=[1, 4, 9])))
"""
HEAT_MAP = "document.querySelector('.js-plotly-plot .hm')"
SWITCHES = (("Tasks", HEAT_MAP), ("Tradeoffs", f"!{HEAT_MAP} && {stopwatch.CHART}"))
CONTROLS = ("Full", "Linear", "Both", "Paper results", "All")


def main() -> None:
    given = harness.parser(__doc__, rounds=5).parse_args()
    seconds: dict[str, list[float]] = {
        "bare": [],
        "bare_reload": [],
        "dashboard": [],
        "reload": [],
        "rerun": [],
        "switch": [],
    }
    with tempfile.TemporaryDirectory() as folder, served.chromium() as browser:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE, encoding="utf-8")
        home = Path(folder) / "home"
        with served.dashboard(home) as address:
            clicks = stopwatch.requests_of_clicks(browser, address, CONTROLS)
        for _ in range(given.rounds):
            port = served.free_port()
            address = ["--server.port", str(port), "--server.address", "127.0.0.1"]
            started = time.time()
            with served.server(["-m", "streamlit", "run", str(bare), *address], port, home) as url:
                first, again = stopwatch.to_chart_and_again(browser, url, started)
                seconds["bare"].append(first)
                seconds["bare_reload"].append(again)
            started = time.time()
            with served.dashboard(home) as url:
                first, again = stopwatch.to_chart_and_again(browser, url, started)
                seconds["dashboard"].append(first)
                seconds["reload"].append(again)
                seconds["rerun"] += stopwatch.reruns(url, clicks)
                seconds["switch"] += stopwatch.page_switches(browser, url, "Results", SWITCHES)
    harness.report(
        "page_speed",
        given,
        ratio_to_bare_page=round(harness.median_ratio(seconds["dashboard"], seconds["bare"]), 2),
        ratio_of_reload_to_one_second=round(statistics.median(seconds["reload"]), 2),
        ratio_of_rerun_to_limit=round(statistics.median(seconds["rerun"]) / 0.15, 2),
        seconds_of_page_switch=round(statistics.median(seconds["switch"]), 2),
        seconds=harness.rounded(seconds, 3),
    )


if __name__ == "__main__":
    main()
