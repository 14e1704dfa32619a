"""The dashboard's frame: navigation, the chosen page, and the note at its foot."""

from contextlib import suppress

import streamlit as st

from pages.parts import buttons, frame, streamlit_internals, text_size
from sparse_core.catalog import CITATION
from sparse_core.errors import InputError


def main() -> None:
    """Draw the chosen page within its frame."""
    page = frame.navigation()
    frame.heading(page)
    st.html(streamlit_internals.STYLE)
    streamlit_internals.load_charts_early()
    buttons.provide_plotly()
    notes = st.container()
    with frame.errors_as_messages():
        page.run()
    with notes, suppress(InputError):  # of a home folder that cannot be used, which the page has said
        frame.show_notes()
    st.caption(f"Paper results: {CITATION}. Everything runs on this machine; nothing leaves it.")
    frame.settle_link(page)
    text_size.measure()


main()
