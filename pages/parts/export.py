"""The dialog that exports a chart: for a paper's column or page, a slide or a size of one's own; as PNG, SVG, HTML or data."""

from datetime import date
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages.parts import buttons, frame
from sparse_core.views.charts import captions
from sparse_core.views.charts.fitting import Canvas

PIXELS_PER_INCH, POINTS_PER_INCH = 96, 72
BASE_FONT = 12  # pixels, of a canvas


class Size(NamedTuple):
    """Width and height (None: what the chart takes) in inches, font in points, and whether title and caption are usual there."""

    width: float
    height: float | None
    font: float
    title: bool
    caption: bool


SIZES = {
    "Paper column": Size(3.3, None, 8, False, False),
    "Page width": Size(6.9, None, 8, True, True),
    "Slide": Size(13.33, 7.5, 18, True, False),
    "Own": Size(6.0, None, 9, True, True),
}


def button(figure: go.Figure, *, key: str, name: str, alt: str, table: pd.DataFrame | None) -> None:
    """The button that opens the dialog; ``name``, ``alt`` and ``table`` as in ``results.show_chart``."""
    help_text = "For a paper, a slide or the web: PNG, SVG, HTML, or the data"
    if st.button("Export", icon=":material/download:", key=key, help=help_text):
        _dialog(figure, name, alt, table)


@st.dialog("Export chart", width="large")
@frame.errors_as_messages()
def _dialog(figure: go.Figure, name: str, alt: str, table: pd.DataFrame | None) -> None:
    canvas, scale = _choices()
    fitted = captions.fitted(figure, canvas)
    smaller = canvas.width / fitted.layout.width  # where a slide is too low for the chart in the font asked for
    scale *= smaller
    width, height = (side * scale / PIXELS_PER_INCH for side in (fitted.layout.width, fitted.layout.height))
    font = f", font {scale * BASE_FONT * POINTS_PER_INCH / PIXELS_PER_INCH:.0f} pt to fit" if smaller < 1 else ""
    file = f"{name}-{date.today():%Y-%m-%d}"
    buttons.chart_files(fitted, key="export_files", file=file, alt=alt, scale=scale)
    with st.container(horizontal=True, vertical_alignment="center"):
        data = captions.data(figure) if table is None else table
        text = data.to_csv(index=False).encode()
        st.download_button("Data (CSV)", text, f"{file}.csv", "text/csv", key="export_csv", on_click="ignore")
        st.caption(
            f"{width:.1f} × {height:.1f} in{font}. PNG at 300 pixels per inch; SVG for print; HTML with the pointer's details."
        )


def _choices() -> tuple[Canvas, float]:
    """The controls of the dialog: the canvas, and how many times larger than it the file is."""
    name = st.segmented_control("Size", list(SIZES), default="Paper column", key="export_size", required=True)
    usual = SIZES[name]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        width = st.number_input(
            "Width (in)", 2.0, 30.0, usual.width, 0.1, format="%.2f", key=f"export_width_{name}", width=130
        )
        font = st.number_input(
            "Font size (pt)", 4.0, 60.0, float(usual.font), 0.5, format="%g", key=f"export_font_{name}", width=130
        )
        title = st.toggle("Title", usual.title, key=f"export_title_{name}")
        caption = st.toggle("Caption", usual.caption, key=f"export_caption_{name}")
        dark = (
            st.segmented_control("Background", ["White", "Dark"], default="White", key="export_dark", required=True)
            == "Dark"
        )
    scale = font / POINTS_PER_INCH * PIXELS_PER_INCH / BASE_FONT
    room: dict[str, Any] = {"width": width * PIXELS_PER_INCH / scale}
    if usual.height:
        room["height"] = usual.height * PIXELS_PER_INCH / scale
    if room["width"] < captions.NARROWEST:
        st.warning("The font is large for this width: names may be cut. Choose a smaller font or a wider chart.")
    return Canvas(**room, title=title, caption=caption, dark=dark, fixed=True), scale
