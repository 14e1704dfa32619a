"""The frame of the dashboard: navigation, errors in words, and what every page has at its foot."""

import streamlit as st

from pages.parts import buttons, frame
from sparse_core.catalog import CITATION


def main() -> None:
    """Draw the chosen page within its frame."""
    page = frame.navigation()
    st.html(frame.STYLE)
    frame.load_charts_early()
    buttons.provide_plotly()
    with frame.faults_in_words():
        page.run()
    st.caption(f"Published runs: {CITATION}. Everything runs on this machine; nothing leaves it.")
    frame.settle_link(page)


main()
