"""The filters of Speedup: which measurements its charts show, and the caption that says so."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import pandas as pd
import streamlit as st

from pages.parts import choices
from pages.parts.speedup_form import this_machine
from sparse_core.catalog import DETECTORS, ENGINES, architecture_label
from sparse_core.views import labels, speed_tables, times


@dataclass(frozen=True)
class Filters:
    """Which measurements are shown: those of one machine, one architecture, one number of threads and one size of images (0: the
    architecture's own)."""

    machine: str
    architecture: str
    mode: str
    engines: list[str]
    batch_size: int | None
    threads: int
    image_size: int = 0

    def select(self, rows: pd.DataFrame, *, any_batch_size: bool = False) -> pd.DataFrame:
        """The newest rows that match."""
        keep = (rows["machine"] == self.machine) & (rows["threads"] == self.threads)
        keep &= (rows["architecture"] == self.architecture) & (rows["mode"] == self.mode)
        keep &= rows["image_size"] == self.image_size
        if self.engines:
            keep &= rows["engine"].isin(self.engines)
        if self.batch_size and not any_batch_size:
            keep &= rows["batch_size"] == self.batch_size
        return speed_tables.latest(rows[keep])

    def caption(self, shown: pd.DataFrame, drawn: str = "lines") -> str:
        """Machine and dates of these rows, and which are timing only or unreliable; ``drawn`` as lines, points or bars."""
        days = sorted({times.day(made) for made in shown["created_at"]})
        parts = [f"Measured on {self.machine}, {' to '.join(dict.fromkeys((days[0], days[-1])))}"]
        if self.image_size:
            parts.append(f"Images of {self.image_size} px")
        if self.architecture in DETECTORS:
            parts.append("The network alone, without decoding of boxes and non-maximum suppression")
        if shown["timing_only"].any():
            dotted = " (dotted)" if drawn == "lines" else ""
            parts.append(f"Timing only{dotted}: a mask on random weights, which has no accuracy")
        if not shown["reliable"].all():
            parts.append(f"{'Some bars' if drawn == 'bars' else 'Hollow markers'} are {speed_tables.UNRELIABLE}")
        parts.append("The newest measurement of each network is shown")
        return ". ".join([*parts, f"Sparse Transfer Lab, {date.today():%Y-%m-%d}"]) + "."


def choose_filters(rows: pd.DataFrame) -> Filters:
    """The controls above the charts; each offers only what was measured with the choices before it, so none empties the view."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        machine = _machine(rows)
        on_machine = rows[rows["machine"] == machine]
        architecture = st.selectbox(
            "Architecture",
            list(dict.fromkeys(on_machine["architecture"].iloc[::-1])),
            format_func=architecture_label,
            key="timed_architecture",
            bind="query-params",
            width=190,
            help="The measured architectures, the most recent first.",
        )
        measured = on_machine[on_machine["architecture"] == architecture]
        mode = _mode(measured)
        measured = measured[measured["mode"] == mode]
        engines = st.multiselect(
            "Engines",
            [name for name in ENGINES if name in set(measured["engine"])],
            placeholder="All",
            format_func=ENGINES.__getitem__,
            key="only_engines",
            bind="query-params",
            width=260,
        )
        measured = measured[measured["engine"].isin(engines)] if engines else measured
        threads = most_measured("Threads", measured, "threads", "threads")
        measured = measured[measured["threads"] == threads]
        image_size = most_measured("Image size (px)", measured, "image_size", "of_size", {0: "the network's own"})
        measured = measured[measured["image_size"] == image_size]
        batch_size = most_measured("Batch size", measured, "batch_size", "batch_size") if mode == "inference" else None
    others = rows["machine"].nunique() - 1
    if others:
        were = "was" if others == 1 else "were"
        st.caption(f"Measurements of {labels.counted(others, 'other machine')} {were} left out of the charts.")
    return Filters(machine, architecture, mode, engines, batch_size, threads, image_size)


def most_measured(label: str, rows: pd.DataFrame, column: str, key: str, names: Mapping[int, str] | None = None) -> int:
    """The control for one value of a column, at first the one with the most sparsities; no control for a single value."""
    sparsities = rows.groupby(column)["sparsity"].nunique()
    options = [int(value) for value in sparsities.index]
    if len(options) == 1:
        return options[0]
    most = max(range(len(options)), key=lambda at: (sparsities.iloc[at], options[at]))
    shown = {option: (names or {}).get(option, str(option)) for option in options}
    return st.selectbox(
        label,
        options,
        index=most,
        format_func=shown.__getitem__,
        key=key,
        bind="query-params",
        width=130 if names else 110,
    )


def _machine(rows: pd.DataFrame) -> str:
    machines = list(dict.fromkeys(rows["machine"].iloc[::-1]))
    here = this_machine()
    return st.selectbox(
        "Machine",
        machines,
        index=machines.index(here) if here in machines else 0,
        format_func=lambda name: f"This one: {name}" if name == here else name.replace("another", "Another", 1),
        key="machine",
        bind="query-params",
        width=330,
        help="Times of different machines cannot be compared, so only one machine is shown.",
    )


def _mode(rows: pd.DataFrame) -> str:
    modes = {mode: name for mode, name in labels.MODES.items() if mode in set(rows["mode"])}
    if len(modes) == 1:
        return next(iter(modes))
    help_text = (
        "Inference: the backbone alone. Online training: decoding, the backbone, and the training of a classifier."
    )
    return choices.choice("Mode", "mode", modes, help_text)
