"""What runs, waits and has just ended, on every page: progress, time left, the button that cancels, and links."""

import streamlit as st

from pages.parts import frame
from pages.parts.frame import home
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import LANES
from sparse_core.views import activity, labels
from sparse_core.views.activity import Activity

SEEN = "seen_jobs"  # in the session: what it has seen going on and the user has not dismissed since
SHOWN = 8
ENDED = {
    "done": (":material/check_circle:", "finished"),
    "failed": (":material/error:", "failed"),
    "cancelled": (":material/cancel:", "cancelled"),
}


def show() -> None:
    """The indicator, which follows the jobs by itself while there are any; nothing while there are none."""
    if _seen() or activity.going_on(home()):
        st.fragment(_draw, run_every=1.0)()


def _seen() -> dict[tuple[str, str], None]:
    return st.session_state.setdefault(SEEN, {})


@frame.errors_as_messages()
def _draw() -> None:
    live = activity.going_on(home())
    for lane in LANES:
        if live and (queue.queued(home(), lane) or lane == "long"):
            queue.ensure_worker(home(), lane)  # it may have been killed; that of long work takes sweeps further, too
    seen = _seen()
    seen.update(dict.fromkeys((each.parameter, each.name) for each in live))
    over = activity.ended(home(), list(seen))
    if not live and not over:
        return
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center", key="jobs"):
        for each in over[-1:]:
            _link(each)
        if over and st.button("Dismiss", key="dismiss_jobs", type="tertiary", help="Removes what has ended from here."):
            for each in over:
                seen.pop((each.parameter, each.name), None)
            st.rerun()
        if live or len(over) > 1:
            icon = ":material/sync:" if live else ENDED[over[-1].state][0]
            with st.popover(_summary(live, over), icon=icon, key="jobs_list", width="content"):
                _list(live, over)


def _summary(live: list[Activity], over: list[Activity]) -> str:
    """The indicator's own line, such as "1 running, 45 %, about 20 s left, 2 waiting"."""
    running = [each for each in live if each.state == "running"]
    waiting = len(live) - len(running)
    parts = [f"{len(running)} running"] if running else []
    if len(running) == 1:
        parts += [f"{running[0].share:.0%}{labels.time_left(running[0].seconds_left)}"]
    parts += [f"{waiting} waiting"] if waiting else []
    return ", ".join(parts) or f"{len(over)} ended"


def _list(live: list[Activity], over: list[Activity]) -> None:
    for each in live[:SHOWN]:
        st.progress(each.share, frame.plain(each.text))
        with st.container(horizontal=True, vertical_alignment="center"):
            st.page_link(f"pages/{each.page}.py", label="Show", query_params={each.parameter: each.name})
            if st.button("Cancel", key=f"cancel_{each.name}", icon=":material/close:"):
                activity.cancel(home(), each)
                st.rerun()
    if len(live) > SHOWN:
        st.caption(f"and {len(live) - SHOWN} more waiting")
    for each in over[-SHOWN:-1]:
        _link(each)


def _link(each: Activity) -> None:
    icon, word = ENDED[each.state]
    label = frame.plain(f"{each.label} {word}")
    st.page_link(f"pages/{each.page}.py", label=label, icon=icon, query_params={each.parameter: each.name})
