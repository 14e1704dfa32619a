"""Times of the dashboard: drawing is timed in the page, a rerun by the messages of the server.

Playwright is too coarse for both: it checks a page again only after pauses of up to a second, and reports a message only once
the page has finished drawing.
"""

import time
from collections.abc import Sequence

from playwright.sync_api import Browser, BrowserContext, Page
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

from tests.browser.served import MINUTE, VIEWPORT

CHART = "document.querySelector('.js-plotly-plot .main-svg .trace')"
LOOK_MS = 20
SETTLED_MS = 1500  # after this a page has drawn everything


def watch(context: BrowserContext, condition: str) -> None:
    """Every page of this context notes when ``condition``, an expression of JavaScript, holds first, to ``LOOK_MS``. Looking at
    each frame would make Chromium draw frames all the time, on the cores that are timed."""
    context.add_init_script(
        f"""(function look() {{
            if ({condition}) window.seenAt = performance.timeOrigin + performance.now();
            else setTimeout(look, {LOOK_MS});
        }})()"""
    )


def seconds_since(started: float, page: Page, minutes: int = 1) -> float:
    """Seconds from ``started``, a ``time.time()``, to the moment that the page noted; waits for it for some minutes."""
    page.wait_for_function("window.seenAt", timeout=minutes * MINUTE)
    return page.evaluate("window.seenAt") / 1000 - started


def to_chart_and_again(browser: Browser, address: str, started: float) -> tuple[float, float]:
    """Seconds from ``started``, a ``time.time()``, to a page's first chart, and from a reload to the chart again."""
    with browser.new_context(viewport=VIEWPORT) as context:
        watch(context, CHART)
        page = context.new_page()
        page.goto(address, wait_until="commit")
        first = seconds_since(started, page)
        page.wait_for_timeout(SETTLED_MS)
        again = time.time()
        page.reload(wait_until="commit")
        return first, seconds_since(again, page)


def page_switches(browser: Browser, address: str, group: str, pages: Sequence[tuple[str, str]]) -> list[float]:
    """Seconds from the click on each of these pages of the navigation's ``group`` until it is drawn: its title, and what its
    expression of JavaScript asks for, which does not hold on the page before it."""
    seconds = []
    with browser.new_context(viewport=VIEWPORT) as context:
        page = context.new_page()
        page.goto(address)
        page.wait_for_function(CHART, timeout=MINUTE)
        for title, drawn in pages:
            page.wait_for_timeout(SETTLED_MS)
            page.get_by_role("navigation").get_by_role("button", name=group).click()
            page.get_by_role("menuitem", name=title).wait_for()
            seconds.append(
                page.evaluate(
                    f"""title => new Promise(resolve => {{
                        const links = [...document.querySelectorAll("[role=menuitem]")];
                        const started = performance.now();
                        links.find(link => link.textContent.endsWith(title)).click();
                        (function look() {{
                            if (document.querySelector("h1")?.textContent === title && ({drawn}))
                                resolve((performance.now() - started) / 1000);
                            else setTimeout(look, {LOOK_MS});
                        }})();
                    }})""",
                    title,
                )
            )
    return seconds


def requests_of_clicks(browser: Browser, address: str, options: Sequence[str]) -> list[bytes]:
    """What the browser sends on opening a page, and on a click on each of these options."""
    sent: list[bytes] = []
    with browser.new_context(viewport=VIEWPORT) as context:
        page = context.new_page()
        page.on("websocket", lambda socket: socket.on("framesent", lambda payload: sent.append(payload)))
        page.goto(address)
        page.wait_for_function(CHART, timeout=MINUTE)
        page.wait_for_timeout(SETTLED_MS)
        for option in options:
            page.get_by_test_id("stButtonGroup").get_by_text(option, exact=True).first.click()
            page.wait_for_timeout(SETTLED_MS)
    return sent


def reruns(address: str, requests: Sequence[bytes]) -> list[float]:
    """Seconds that the server takes for each rerun, in a session of its own; the first request, which opens it, is left out."""
    seconds, message = [], ForwardMsg()
    with connect(address.replace("http://", "ws://") + "/_stcore/stream", max_size=None) as socket:
        for request in requests:
            started = time.perf_counter()
            socket.send(request)
            while message.WhichOneof("type") != "script_finished":
                message.ParseFromString(socket.recv(timeout=60, decode=False))
            message.Clear()
            seconds.append(time.perf_counter() - started)
    return seconds[1:]
