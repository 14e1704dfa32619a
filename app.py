"""The frame of the dashboard: navigation, errors in words, and what every page has at its foot."""

import logging

import streamlit as st

from pages import buttons, frame
from sparse_core.catalog import CITATION
from sparse_core.errors import as_input_error

FAULT = "This page could not be drawn: a fault of ours, written to the log. Reload the page, or choose another."


def main() -> None:
    """Draw the chosen page. Whatever goes wrong on it is one sentence there and a traceback in the log."""
    page = frame.navigation()
    st.html(frame.STYLE)
    frame.load_charts_early()
    buttons.provide_plotly()
    try:
        page.run()
    except Exception as error:
        wrong = as_input_error(error)
        if wrong is not error:
            logging.getLogger("sparse_transfer_lab").exception("the page %s failed", page.title)
        st.error(str(wrong) if wrong else FAULT)
    st.caption(f"Published runs: {CITATION}. Everything runs on this machine; nothing leaves it.")
    frame.settle_link(page)


main()
