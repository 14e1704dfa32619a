"""The paper's statements checked against the rows there are."""

from dataclasses import dataclass, field

import pandas as pd

from sparse_core.catalog import architecture_label
from sparse_core.results import measures
from sparse_core.results.comparison import Interval
from sparse_core.results.evidence import Evidence
from sparse_core.results.network_facts import NetworkFacts
from sparse_core.results.statements import POINTS, STATEMENTS, Statement

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot tell"


@dataclass(frozen=True)
class Finding:
    """A statement checked against the rows of a source; ``value``, ``low`` and ``high`` are NaN where it cannot be computed,
    and fractions of 1 where the ``unit`` is "%" or "points"."""

    id: str
    statement: str
    source: str
    verdict: str
    value: float
    low: float
    high: float
    rows: int
    n: int = 0
    interval: str = ""
    architecture: str = ""
    unit: str = POINTS
    transfers: tuple[str, ...] = field(default=("linear",))
    methods: tuple[str, ...] = ()
    note: str = ""
    metric: str = "accuracy"
    tasks: tuple[str, ...] = ()
    tab: str = ""
    page: str = ""


def check(rows: pd.DataFrame, source: str, accuracy: str = "best", facts: NetworkFacts | None = None) -> list[Finding]:
    """Every statement, checked against the rows of ``source`` among ``rows`` and what is known beside them (``facts``)."""
    own = measures.selected(rows, rows["source"] == source)
    there = set(own["architecture"].unique())
    evidence: dict[tuple[str, bool, str], Evidence] = {}
    found = []
    for statement in STATEMENTS:
        only = statement.only or source == "published"
        stands_in = statement.architecture not in there and not only  # one and the same for all
        key = ("" if stands_in else statement.architecture, only, statement.metric)
        if key not in evidence:
            of_metric = measures.measured_in(own, statement.metric)
            evidence[key] = Evidence(of_metric, key[0], only=key[1], accuracy=accuracy, facts=facts)
        found.append(_checked(statement, evidence[key], source))
    return found


def verdict(interval: Interval, low: float, high: float) -> str:
    """``holds`` where the interval lies between low and high, ``does not hold`` where it lies outside, else ``cannot tell``."""
    if not interval.known:
        return OPEN
    if low < interval.low and interval.high < high:
        return HOLDS
    return FAILS if interval.low > high or interval.high < low else OPEN


def _checked(statement: Statement, evidence: Evidence, source: str) -> Finding:
    figure = statement.query(evidence)
    interval = figure.interval
    of = (
        statement.architecture if statement.page else evidence.architecture or statement.architecture
    )  # speeds have no stand-in
    shown = architecture_label(of) if figure.rows else ""
    return Finding(
        statement.id,
        statement.text,
        source,
        verdict(interval, statement.low, statement.high),
        interval.mean,
        interval.low,
        interval.high,
        figure.rows,
        interval.n,
        interval.method,
        shown,
        statement.unit,
        statement.transfers,
        statement.methods,
        statement.note,
        statement.metric,
        statement.tasks,
        statement.tab,
        statement.page,
    )
