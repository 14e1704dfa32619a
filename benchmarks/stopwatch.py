"""Times of the dashboard, taken where they happen: what is drawn, in the page; what a rerun takes, on its server.

A browser's driver would be a poor stopwatch for either: it looks at a page again only after pauses that grow up to a
second, and hears of a message only when the page is done with what it is drawing.
"""

import time
from collections.abc import Sequence

from playwright.sync_api import Browser, BrowserContext, Page
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

CHART = "document.querySelector('.js-plotly-plot .main-svg .trace')"
SETTLED_MS = 1500  # after this a page has drawn all it has
MINUTE_MS = 60_000


def watch(context: BrowserContext, condition: str) -> None:
    """Have every page of this context note the first frame in which ``condition``, an expression of JavaScript, holds."""
    context.add_init_script(
        f"""(function look() {{
            if ({condition}) window.seenAt = performance.timeOrigin + performance.now();
            else requestAnimationFrame(look);
        }})()"""
    )


def seconds_since(started: float, page: Page) -> float:
    """Seconds from ``started``, a ``time.time()``, to the frame that the page noted; waits for it."""
    page.wait_for_function("window.seenAt", timeout=MINUTE_MS)
    return page.evaluate("window.seenAt") / 1000 - started


def to_chart_and_again(browser: Browser, address: str, started: float) -> tuple[float, float]:
    """Seconds from ``started``, a ``time.time()``, to a page's first chart, and from a reload to the chart again."""
    with _context(browser) as context:
        watch(context, CHART)
        page = context.new_page()
        page.goto(address, wait_until="commit")
        first = seconds_since(started, page)
        page.wait_for_timeout(SETTLED_MS)
        again = time.time()
        page.reload(wait_until="commit")
        return first, seconds_since(again, page)


def requests_of_clicks(browser: Browser, address: str, controls: Sequence[str]) -> list[bytes]:
    """What the browser sends: on opening a page, and on a click on each of the options that these words name."""
    sent: list[bytes] = []
    with _context(browser) as context:
        page = context.new_page()
        page.on("websocket", lambda socket: socket.on("framesent", lambda payload: sent.append(payload)))
        page.goto(address)
        page.wait_for_function(CHART, timeout=MINUTE_MS)
        page.wait_for_timeout(SETTLED_MS)
        for words in controls:
            page.get_by_test_id("stButtonGroup").get_by_text(words, exact=True).first.click()
            page.wait_for_timeout(SETTLED_MS)
    return sent


def reruns(address: str, requests: Sequence[bytes]) -> list[float]:
    """Seconds that the server takes for each rerun but the first, which opens the page, in a session of its own."""
    stream = address.replace("http://", "ws://") + "/_stcore/stream"
    with connect(stream, max_size=None) as socket:
        seconds = []
        for request in requests:
            started = time.perf_counter()
            socket.send(request)
            while not _ends_rerun(socket.recv(timeout=60)):
                pass
            seconds.append(time.perf_counter() - started)
    return seconds[1:]


def _context(browser: Browser) -> BrowserContext:
    return browser.new_context(viewport={"width": 1440, "height": 1000})


def _ends_rerun(payload: str | bytes) -> bool:
    """Whether this message of the server says that the script has run to its end."""
    message = ForwardMsg()
    message.ParseFromString(payload if isinstance(payload, bytes) else payload.encode())
    return message.WhichOneof("type") == "script_finished"
