"""Tables that sort, filter and download, with the columns that the user chooses."""

import math
from collections.abc import Callable
from datetime import date

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from sparse_core.views import columns

ROUNDING = 0.005  # half a unit of the second decimal: a number is found by what the table shows of it


def column_title(column: str) -> str:
    """A column's heading with its unit."""
    return columns.column(column).title


def show_table(
    frame: pd.DataFrame,
    *,
    key: str,
    name: str,
    shown_columns: list[str] | None = None,
    title: Callable[[str], str] = column_title,
) -> None:
    """A table that sorts, filters and downloads. Chosen columns and filter are part of the link.

    ``shown_columns`` are shown at first (all by default), ``title`` gives a column's heading, ``name`` is the file name of
    the downloads without ending. Downloads hold the rows and columns on the screen with stored names and values.
    """
    with st.container(horizontal=True, vertical_alignment="bottom"):
        wanted = st.text_input(
            "Filter rows",
            key=f"{key}_filter",
            placeholder="for example WoodFisher 90",
            help="Keeps the rows that contain every word",
            bind="query-params",
            width=260,
        )
        with st.popover("Columns", help="Choose which columns are shown"):
            chosen = st.multiselect(
                "Columns",
                list(frame.columns),
                default=shown_columns or list(frame.columns),
                format_func=title,
                key=f"{key}_columns",
                bind="query-params",
            )
        rows = _matching(frame[chosen], wanted or "")
        table_downloads(rows, key=key, name=name)
    if rows.empty:
        st.info(_why_empty(frame, chosen))
        return
    st.dataframe(
        columns.for_display(rows),
        hide_index=True,
        key=f"{key}_rows",
        column_config=column_config(rows, title),
        placeholder="–",
    )
    st.caption(f"{len(rows):,} of {len(frame):,} rows. Click a heading to sort.")


def column_config(frame: pd.DataFrame, title: Callable[[str], str] = column_title) -> dict[str, ColumnConfig]:
    """Streamlit's configuration of the columns of ``frame``, from their definitions in ``views.columns``."""
    return {name: _config(columns.column(name), title(name)) for name in frame.columns}


def table_downloads(rows: pd.DataFrame, *, key: str, name: str) -> None:
    """Buttons that save the rows as CSV and as Parquet."""
    file = f"{name}-{date.today():%Y-%m-%d}"
    st.download_button(
        "CSV",
        lambda: rows.to_csv(index=False).encode(),
        f"{file}.csv",
        "text/csv",
        key=f"{key}_csv",
        on_click="ignore",
    )
    st.download_button(
        "Parquet",
        lambda: rows.to_parquet(index=False),
        f"{file}.parquet",
        "application/vnd.apache.parquet",
        key=f"{key}_parquet",
        on_click="ignore",
    )


def _config(column: columns.Column, title: str) -> ColumnConfig:
    if column.unit is columns.TIMESTAMP:
        return st.column_config.DatetimeColumn(title, format=column.number_format, help=column.help)
    if column.number_format is None:
        return st.column_config.Column(title, help=column.help)
    return st.column_config.NumberColumn(title, format=column.number_format, help=column.help)


def _why_empty(frame: pd.DataFrame, chosen: list[str]) -> str:
    if frame.empty:
        return "No rows yet."
    if not chosen:
        return "No column is chosen. Choose some under Columns."
    return "No row contains these words in the columns shown. Clear the filter to see all rows."


def _matching(frame: pd.DataFrame, wanted: str) -> pd.DataFrame:
    """The rows that contain every word: as text, shown or stored, or as a number of its own."""
    if not wanted.strip():
        return frame
    shown = columns.for_display(frame)
    numbers = shown.select_dtypes("number")
    both = pd.concat([shown, frame], axis=1).drop(columns=numbers.columns)
    text = both.astype(str).agg(" ".join, axis=1).str.lower()
    keep = pd.Series(True, index=frame.index)
    for word in wanted.lower().split():
        keep &= text.str.contains(word, regex=False) | np.isclose(numbers, _number(word), atol=ROUNDING).any(axis=1)
    return frame[keep]


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
