"""The dashboard's frame: navigation, the chosen page, and the note at its foot."""

import streamlit as st

from pages.parts import buttons, frame, streamlit_internals
from sparse_core.catalog import CITATION


def main() -> None:
    """Draw the chosen page within its frame."""
    page = frame.navigation()
    st.html(streamlit_internals.STYLE)
    streamlit_internals.load_charts_early()
    buttons.provide_plotly()
    notes = st.container()
    with frame.errors_as_messages():
        page.run()
    with notes, frame.errors_as_messages():
        frame.show_notes()
    st.caption(f"Paper results: {CITATION}. Everything runs on this machine; nothing leaves it.")
    frame.settle_link(page)


main()
