"""A chart on a page, with its downloads and the table behind it."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages.parts import buttons, tables
from sparse_core.views import columns


def show_chart(
    figure: go.Figure,
    *,
    key: str,
    name: str,
    alt: str,
    on_select: Callable[[], None] | None = None,
    table: pd.DataFrame | None = None,
    beside: Callable[[], None] | None = None,
) -> None:
    """Draw a chart with its downloads beneath it, and the table behind it for keyboard and screen reader.

    ``name`` is the file name of the downloads without ending, ``alt`` what a screen reader reads. With ``on_select`` points
    can be selected: it is called before the page runs again. ``beside`` draws more into the row of downloads.
    """
    selectable: Any = on_select or "ignore"
    st.plotly_chart(figure, key=key, alt=alt, on_select=selectable, config={"displaylogo": False})
    with st.container(horizontal=True, vertical_alignment="center"):
        buttons.chart_downloads(figure, key=f"{key}_downloads", name=name, alt=alt)
        if table is not None:
            shown = st.popover("Table", key=f"{key}_table", on_change="rerun", help="The numbers behind this chart")
            if shown.open:
                with shown:
                    config = tables.column_config(table)
                    st.dataframe(columns.for_display(table), hide_index=True, column_config=config)
                    with st.container(horizontal=True):
                        tables.table_downloads(table, key=key, name=name)
        if beside is not None:
            beside()
