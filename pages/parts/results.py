"""Results on a page: the store that holds them, and the charts and tables that show them, with their downloads."""

from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from streamlit.elements.lib.column_types import ColumnConfig

from pages.parts import export, frame, jobs_indicator, links, run_filters, saved_views_list, text_size
from pages.parts.frame import home
from sparse_core.results import saved_views
from sparse_core.results.records import Records
from sparse_core.results.store import Store, default_database
from sparse_core.views import columns, times
from sparse_core.views.charts import captions

NOT_SEARCHED = ("tied", "finding_view")  # names of other rows, and links
MOST_PICKED, MOST_SHOWN = 1000, 10_000  # rows of a table in which some can be picked, and of others; downloads hold all
PICKING: list[Any] = ["multi-row", "single-cell"]
ROUNDING = 0.005  # half a unit of the second decimal: a number is found by what the table shows of it


class Picking(NamedTuple):
    """How rows of a table are picked: ``names`` names the rows of an index ("" for one that cannot be picked), ``picked`` are the
    names that are, and ``take`` is given the index of the rows that the user picks."""

    names: Callable[[pd.Index], list[str]]
    picked: Collection[str]
    take: Callable[[pd.Index], None]


def open_store(page: str = "") -> Store:
    """The results, including every run that has been finished or deleted by now. Every page calls this first: the indicator of
    jobs is drawn above it, and beside its title the saved views of the ``page`` and the filters, which hold on Runs in any case
    and on the others if the user wants that."""
    frame.require_frame()
    links.update_address()
    jobs_indicator.show()
    store = _open_store(home(), bool(st.session_state.get("in_memory")))
    store.refresh()
    if not page and not run_filters.everywhere():
        return store
    with frame.beside_title():
        if page:
            saved_views_list.popover(page)
        kept = run_filters.popover(store, own_page=page == "runs")
    if run_filters.everywhere() and kept.count and page != "runs":
        st.caption("Some results are hidden by the filters that hold on all pages.")
    return store.filtered(kept)


@st.cache_resource(show_spinner="Opening the results …")
def _open_store(folder: Path, in_memory: bool) -> Store:
    """``in_memory``: not from the cache, which the serving process alone may open; see ``captured``."""
    records = Records(folder)
    return Store(records, None if in_memory else default_database(records))


def show_chart(
    figure: go.Figure,
    *texts: str,
    key: str,
    name: str,
    alt: str,
    select_into: str = "",
    opens: str = "",
    table: pd.DataFrame | None = None,
    beside: Callable[[], None] | None = None,
    title: Callable[[str], str] | None = None,
) -> None:
    """Draw a chart with its export beneath it, and the table behind it for keyboard and screen reader.

    ``texts`` are title, subtitle and caption; none if the figure has them already. ``name`` is the file name of the downloads
    without ending, ``alt`` what a screen reader reads. With ``select_into`` points can be selected: the control
    of that key, which is part of the link, takes their names, and the expander of the key ``opens`` is opened. ``beside`` draws
    more into the row below. ``title`` gives the headings of the table.
    """
    figure = captions.with_caption(figure, *texts) if texts else figure
    on_select: Any = partial(_take_selection, key, select_into, opens) if select_into else "ignore"
    drawn = captions.enlarged(figure, text_size.scale())
    st.plotly_chart(drawn, key=key, alt=alt, on_select=on_select, config={"displaylogo": False})
    with st.container(horizontal=True, vertical_alignment="center"):
        export.button(figure, key=f"{key}_export", name=name, alt=alt, table=table)
        if table is not None:
            shown = st.popover("Table", key=f"{key}_table", on_change="rerun", help="The numbers behind this chart")
            if shown.open:
                with shown:
                    st.dataframe(
                        columns.for_display(table),
                        hide_index=True,
                        column_config=_column_config(table, title or column_title),
                    )
                    with st.container(horizontal=True):
                        _table_downloads(table, key=key, name=name)
        if beside is not None:
            beside()


def _take_selection(chart: str, control: str, opens: str) -> None:
    selected = st.session_state[chart]["selection"]["points"]
    if selected and opens:
        st.session_state[opens] = True
    st.session_state[control] = list(dict.fromkeys(each["customdata"] for each in selected if each.get("customdata")))


def column_title(column: str) -> str:
    """The heading of a column with its unit."""
    return columns.column(column).title


def titles(metric: str) -> Callable[[str], str]:
    """The headings of columns where accuracies are of ``metric``."""
    return partial(columns.title_for, metric=metric)


def show_table(
    frame: pd.DataFrame,
    *,
    key: str,
    name: str,
    shown_columns: list[str] | None = None,
    title: Callable[[str], str] = column_title,
    picking: Picking | None = None,
) -> None:
    """A table that sorts, filters and downloads. Chosen columns and filter are part of the link.

    ``shown_columns`` are shown at first (all by default), ``title`` gives a column's heading, ``name`` is the file name of
    the downloads without ending. Downloads hold the rows and columns on the screen with stored names and values. With ``picking``
    rows can be ticked, or one be clicked. Chosen columns are then remembered, too.
    """
    with st.container(horizontal=True, vertical_alignment="bottom"):
        example, help_text = "for example WoodFisher 90", "Keeps the rows that contain every word"
        wanted = st.text_input(
            "Filter rows", key=f"{key}_filter", placeholder=example, help=help_text, bind="query-params", width=260
        )
        with st.popover("Columns", help="Choose which columns are shown"):
            every = list(frame.columns)
            kept = [each for each in saved_views.columns(home(), key) if each in every] if picking else []
            chosen = st.multiselect(
                "Columns",
                every,
                kept or shown_columns or every,
                format_func=title,
                key=f"{key}_columns",
                bind="query-params",
                on_change=partial(_remember_columns, key) if picking else None,
            )
        rows = _matching(frame[chosen], wanted or "")
        _table_downloads(rows, key=key, name=name)
    if rows.empty:
        st.info(_why_empty(frame, chosen))
        return
    first = rows.head(MOST_PICKED if picking else MOST_SHOWN)
    shown, config = columns.for_display(first), _column_config(first, title)
    ticks = _ticks(key, first.index, picking) if picking else {"key": f"{key}_rows"}
    st.dataframe(shown, hide_index=True, column_config=config, placeholder="–", **ticks)
    more = f" The first {len(first):,} are shown; filter to find others." if len(first) < len(rows) else ""
    how = "Click a row to open it, tick several to compare them, click a heading to sort." if picking else ""
    st.caption(f"{len(rows):,} of {len(frame):,} rows.{more} {how or 'Click a heading to sort.'}")


def _remember_columns(key: str) -> None:
    with suppress(OSError):  # a home folder that cannot be written
        saved_views.keep_columns(home(), key, list(st.session_state[f"{key}_columns"]))


def _ticks(key: str, index: pd.Index, picking: Picking) -> dict[str, Any]:
    """The arguments that make the rows of this index tickable, with those ticked that are picked.

    Streamlit keeps ticks by place: they would be at wrong rows once other rows stand there, or others are picked elsewhere. The
    table then becomes a new one.
    """
    names = picking.names(index)
    places = [place for place, name in enumerate(names) if name in picking.picked]
    drawn, number = st.session_state.get(f"{key}_drawn", ([], 0))
    if drawn != names or _ticked(f"{key}_rows_{number}") != places:
        number += 1
    st.session_state[f"{key}_drawn"] = names, number
    widget = f"{key}_rows_{number}"
    on_select = partial(_pick, widget, index, picking.take)
    ticked = {"selection": {"rows": places}}
    return {"key": widget, "on_select": on_select, "selection_mode": PICKING, "selection_default": ticked}


def _ticked(widget: str) -> list[int] | None:
    """The places of the rows that are ticked, else of the one of which a cell was clicked; None where the table was not shown."""
    if widget not in st.session_state:
        return None
    selection = st.session_state[widget]["selection"]
    return sorted(selection["rows"] or [row for row, _ in selection["cells"]])


def _pick(widget: str, index: pd.Index, take: Callable[[pd.Index], None]) -> None:
    take(index[[place for place in _ticked(widget) or () if place < len(index)]])


def _column_config(frame: pd.DataFrame, title: Callable[[str], str] = column_title) -> dict[str, ColumnConfig]:
    return {name: _config(columns.column(name), title(name)) for name in frame.columns}


def _table_downloads(rows: pd.DataFrame, *, key: str, name: str) -> None:
    file = f"{name}-{date.today():%Y-%m-%d}"
    for label, ending, kind, content in (
        ("CSV", "csv", "text/csv", lambda: rows.to_csv(index=False).encode()),
        ("Parquet", "parquet", "application/vnd.apache.parquet", lambda: rows.to_parquet(index=False)),
    ):
        st.download_button(label, content, f"{file}.{ending}", kind, key=f"{key}_{ending}", on_click="ignore")


def _config(column: columns.Column, title: str) -> ColumnConfig:
    if column.unit is columns.IMAGE:
        return st.column_config.ImageColumn(title, width=50, help=column.help)
    if column.unit is columns.LINK:
        return st.column_config.LinkColumn(title, width=70, help=column.help, display_text="Show")
    if column.number_format is None:
        return st.column_config.Column(title, help=column.help)
    dated = column.unit is columns.TIMESTAMP
    title += f" ({times.zone()})" if dated else ""
    kind = st.column_config.DatetimeColumn if dated else st.column_config.NumberColumn
    return kind(title, format=column.number_format, help=column.help)


def _why_empty(frame: pd.DataFrame, chosen: list[str]) -> str:
    if frame.empty:
        return "No rows yet."
    if not chosen:
        return "No column is chosen. Choose some under Columns."
    return "No row contains these words in the columns shown. Clear the filter to see all rows."


def _matching(frame: pd.DataFrame, wanted: str) -> pd.DataFrame:
    """The rows that contain every word: as text, shown or stored, or as a number of its own."""
    words = wanted.lower().split()
    if not words:
        return frame
    texts: list[tuple[np.ndarray, pd.Series]] = []  # each row's place among the different texts of a column
    numbers: list[np.ndarray] = []
    for name in frame.columns:
        shown = columns.for_display(frame[[name]])[name]
        if is_numeric_dtype(shown) and not is_bool_dtype(shown):
            numbers.append(shown.to_numpy(float, na_value=np.nan))
        elif name not in NOT_SEARCHED:
            texts += [_different_texts(values) for values in (shown, frame[name])]
    keep = np.full(len(frame), True)
    for word in words:
        number = pd.to_numeric(word, errors="coerce")
        found = np.full(len(frame), False)
        for places, different in texts:
            found |= different.str.contains(word, regex=False).to_numpy()[places]
        for values in numbers:
            found |= np.isclose(values, number, atol=ROUNDING)
        keep &= found
    return frame[keep]


def _different_texts(values: pd.Series) -> tuple[np.ndarray, pd.Series]:
    """The place (N,) of each value's text among the different ones of a column, and these in small letters."""
    places, different = pd.factorize(values.astype(str) if values.dtype == object else values, use_na_sentinel=False)
    return places, pd.Series(different).astype(str).str.lower()
