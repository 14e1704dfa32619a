"""How large the browser's text is: charts are drawn in pixels, and are enlarged with it."""

import streamlit as st

_SCALE = "text_scale"  # in the session: the text's size over the usual one
LARGEST = 3.0

# Streamlit sizes its texts by that of the root, which is the user's own: see ``streamlit_internals.STYLE``.
_measure = st.components.v2.component(
    "sparse_transfer_text_size",
    js="""export default ({ data, setStateValue }) => {
  const size = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const scale = Math.round(100 * size / 16) / 100;
  if (scale !== data.known) setStateValue("scale", scale);
};""",
)


def scale() -> float:
    """How many times as large as usual the text of this session's browser is; 1 until that is known."""
    return float(st.session_state.get(_SCALE, 1.0))


def measure() -> None:
    """Ask the browser, which runs the page again if its text has another size than was known. Call it after the page."""
    _measure(key="text_size", data={"known": scale()}, height=0, on_scale_change=_keep)


def _keep() -> None:
    state = st.session_state["text_size"]
    if state.get("scale"):
        st.session_state[_SCALE] = min(max(float(state["scale"]), 1 / LARGEST), LARGEST)
