"""The paper's statements, each a query and a rule, checked against the rows there are.

Source: Iofinova et al., "How Well Do Sparse ImageNet Models Transfer?", CVPR 2022, sections 3.2 to 3.6, 4 and the appendix.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, nan

import pandas as pd

from sparse_core.catalog import TASKS, architecture_label
from sparse_core.results import difficulty
from sparse_core.results.comparison import Interval, t_interval
from sparse_core.results.evidence import Evidence
from sparse_core.results.statistics import welch_interval

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot tell"
LEVEL = 0.05  # of the relative error increase: networks nearer to each other are called level
INCREASE = "relative_error_increase"
WITHOUT = Interval(nan, nan, nan, 0, "none: no rows")


@dataclass(frozen=True)
class Figure:
    """A value with its interval, and the number of rows that it rests on."""

    interval: Interval
    rows: int


Query = Callable[[Evidence], Figure]


@dataclass(frozen=True)
class Statement:
    """A statement of the paper: it holds where the figure of ``query`` lies between ``low`` and ``high``.

    ``architecture`` is the one it speaks of; rows of another one are checked in its place unless ``only`` is set. ``percent``:
    the figure is a fraction of 1. ``query`` is None where no rows can show it. ``transfers`` and ``methods`` are what the view
    that shows it selects.
    """

    id: str
    text: str
    query: Query | None
    low: float = -inf
    high: float = inf
    architecture: str = "resnet50"
    only: bool = False
    percent: bool = True
    transfers: tuple[str, ...] = ("linear",)
    methods: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """A statement checked against the rows of a source; ``value``, ``low`` and ``high`` are NaN where it cannot be computed."""

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
    percent: bool = True
    transfers: tuple[str, ...] = field(default=("linear",))
    methods: tuple[str, ...] = ()
    note: str = ""


def check(rows: pd.DataFrame, source: str, accuracy: str = "best") -> list[Finding]:
    """Every statement, checked against the rows of ``source`` among ``rows``."""
    own = rows[rows["source"] == source]
    evidence: dict[tuple[str, bool], Evidence] = {}
    found = []
    for statement in STATEMENTS:
        key = (statement.architecture, statement.only or source == "published")
        if key not in evidence:
            evidence[key] = Evidence(own, key[0], only=key[1], accuracy=accuracy)
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
    figure = statement.query(evidence) if statement.query and len(evidence.cells) else Figure(WITHOUT, 0)
    interval = figure.interval
    shown = architecture_label(evidence.architecture) if figure.rows else ""
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
        statement.percent,
        statement.transfers,
        statement.methods,
        statement.note,
    )


def _over_dense(transfer: str, method: str, sparsity: float) -> Query:
    """The mean relative error increase over dense."""

    def query(evidence: Evidence) -> Figure:
        cells = evidence.of(transfer, method, sparsity)
        return Figure(t_interval(cells[INCREASE]), evidence.row_count(cells))

    return query


def _between(transfer: str, first: str, second: str, sparsity: float, second_sparsity: float | None = None) -> Query:
    """The mean difference of two networks' relative error increases, over the tasks that both have."""

    def query(evidence: Evidence) -> Figure:
        one = evidence.of(transfer, first, sparsity)
        other = evidence.of(transfer, second, sparsity if second_sparsity is None else second_sparsity)
        shared = one.index.intersection(other.index)
        one, other = one.loc[shared], other.loc[shared]
        return Figure(t_interval(one[INCREASE] - other[INCREASE]), evidence.row_count(one, other))

    return query


def _accuracy_on(task: str, transfer: str, first: str, second: str, sparsity: float) -> Query:
    """The difference of two accuracies on one task, with Welch's interval over seeds."""

    def query(evidence: Evidence) -> Figure:
        cells = [evidence.of(transfer, method, sparsity) for method in (first, second)]
        if any(task not in cell.index for cell in cells):
            return Figure(WITHOUT, 0)
        one, other = (cell.loc[[task]] for cell in cells)
        sides = [(cell["accuracy_std"], cell["seeds"]) for cell in (one, other)]
        difference = one["accuracy_mean"] - other["accuracy_mean"]
        low, high = welch_interval(difference, sides[0], sides[1])
        n = int(min(one["seeds"].iloc[0], other["seeds"].iloc[0]))
        interval = Interval(
            float(difference.iloc[0]), float(low.iloc[0]), float(high.iloc[0]), n, "Welch's t, over seeds"
        )
        return Figure(interval, evidence.row_count(one, other))

    return query


def _best_of_all(transfer: str, method: str, sparsities: Sequence[float], tasks: Sequence[str]) -> Query:
    """A method's accuracy minus that of the best other method at the same sparsity, over pairs of task and sparsity."""

    def query(evidence: Evidence) -> Figure:
        values, used = [], []
        for sparsity in sparsities:
            cells = {name: evidence.of(transfer, name, sparsity) for name in evidence.methods(transfer)}
            own = cells.pop(method, None)
            for task in tasks:
                others = [cell for cell in cells.values() if task in cell.index]
                if own is not None and task in own.index and others:
                    best = max(cell["accuracy_mean"][task] for cell in others)
                    values.append(own["accuracy_mean"][task] - best)
                    used += [cell.loc[[task]] for cell in (own, *others)]
        interval = t_interval(values)
        return Figure(interval, evidence.row_count(*used) if used else 0)

    return query


def _rho(method: str, sparsity: float) -> Query:
    """Spearman's rho of relative error increase and task difficulty, under linear transfer."""

    def query(evidence: Evidence) -> Figure:
        rho, n, cells = _correlation(evidence, method, sparsity)
        low, high = difficulty.rho_interval(rho, n)
        return Figure(
            Interval(rho, low, high, n, "Fisher's z (Bonett and Wright), over tasks"), evidence.row_count(cells)
        )

    return query


def _correlation(evidence: Evidence, method: str, sparsity: float) -> tuple[float, int, pd.DataFrame]:
    cells = evidence.of("linear", method, sparsity)
    cells = cells.loc[cells.index.intersection(evidence.difficulty.index)]
    line = difficulty.regression(evidence.difficulty.reindex(cells.index).to_numpy(), cells[INCREASE].to_numpy())
    return line.rho, line.n, cells


def _rho_falls(first: float, second: float) -> Query:
    """The mean over methods of rho at the second sparsity minus rho at the first."""

    def query(evidence: Evidence) -> Figure:
        differences, used = [], []
        for method in evidence.methods("linear"):
            if method != "LTH-T":  # the paper leaves it out of its linear figures
                (before, _, cells), (after, _, more) = (_correlation(evidence, method, s) for s in (first, second))
                differences.append(after - before)
                used += [cells, more]
        interval = t_interval(differences)
        named = Interval(
            interval.mean, interval.low, interval.high, interval.n, interval.method.replace("tasks", "methods")
        )
        return Figure(named, evidence.row_count(*used) if used else 0)

    return query


def _specialised_are_harder(evidence: Evidence) -> Figure:
    """Mean difficulty of specialised tasks minus that of general ones, with Welch's interval over tasks."""
    known = evidence.difficulty
    sides = [
        known[[name for name in known.index if name in TASKS and TASKS[name].kind == kind]]
        for kind in ("specialised", "general")
    ]
    means, n = [side.mean() for side in sides], min(map(len, sides))
    spreads = [(pd.Series([side.std()]), pd.Series([len(side)])) for side in sides]
    low, high = welch_interval(pd.Series([means[0] - means[1]]), spreads[0], spreads[1])
    interval = Interval(float(means[0] - means[1]), float(low[0]), float(high[0]), n, "Welch's t, over tasks")
    names = [name for side in sides for name in side.index]
    runs = sum(evidence.dense_runs(transfer)[name] for transfer in ("linear", "full") for name in names)
    return Figure(interval, runs)


def _full_beats_linear(evidence: Evidence) -> Figure:
    """The share of networks that are more accurate under full than under linear transfer, with a t interval over tasks."""
    key = ["method", "sparsity", "dataset"]
    full, linear = (evidence.cells[evidence.cells["transfer"] == name] for name in ("full", "linear"))
    both = full.merge(linear, on=key, suffixes=("", "_linear"))
    shares = (both["accuracy_mean"] > both["accuracy_mean_linear"]).astype(float).groupby(both["dataset"]).mean()
    return Figure(t_interval(shares), int(both["runs"].sum() + both["runs_linear"].sum()))


def _worst_level(transfer: str, method: str, sparsity: float) -> Query:
    """A method's relative error increase at a sparsity minus that at its next worst one."""

    def query(evidence: Evidence) -> Figure:
        others = [level for level in evidence.levels(transfer, method) if abs(level - sparsity) > 1e-6]
        if not others:
            return Figure(WITHOUT, 0)
        worst = max(others, key=lambda level: evidence.of(transfer, method, level)[INCREASE].mean())
        return _between(transfer, method, method, sparsity, worst)(evidence)

    return query


def _fall(transfer: str, method: str, first: float, second: float, tasks: Sequence[str]) -> Query:
    """How much accuracy a method loses between two sparsities, over these tasks."""

    def query(evidence: Evidence) -> Figure:
        before, after = evidence.of(transfer, method, first), evidence.of(transfer, method, second)
        shared = [task for task in tasks if task in before.index and task in after.index]
        before, after = before.loc[shared], after.loc[shared]
        return Figure(t_interval(before["accuracy_mean"] - after["accuracy_mean"]), evidence.row_count(before, after))

    return query


def _percent(sparsity: float) -> str:
    return f"{100 * sparsity:.3g} %"


def _slug(*parts: object) -> str:
    text = "-".join(str(part) for part in parts).lower().replace("ac/dc", "acdc").replace("erk ", "")
    return text.replace("m-fac", "mfac").replace("lth-t", "ltht").replace(" ", "-").replace(".", "")


def _against_dense(
    transfer: str, method: str, figures: dict[float, str], *, ahead: bool = False, architecture: str = "resnet50"
) -> Iterator[Statement]:
    """A statement for each sparsity: fewer errors than dense (``ahead``), or more. ``figures`` are those of the paper's rows."""
    for sparsity, figure in figures.items():
        words = "fewer" if ahead else "more"
        where = f"{architecture_label(architecture)}, {transfer} transfer"
        prefix = "" if architecture == "resnet50" else f"{architecture}-"
        side = {"high": 0.0} if ahead else {"low": 0.0}
        yield Statement(
            _slug(f"{prefix}{transfer}", method, round(100 * sparsity), "ahead" if ahead else "behind", "dense"),
            f"{where}: {method} at {_percent(sparsity)} makes {words} errors than dense ({figure} %).",
            _over_dense(transfer, method, sparsity),
            **side,
            architecture=architecture,
            only=architecture != "resnet50",
            transfers=(transfer,),
            methods=(method,),
        )


def _order(transfer: str, better: str, worse: str, sparsities: Sequence[float]) -> Iterator[Statement]:
    """At each sparsity the first method makes fewer errors than the second."""
    for sparsity in sparsities:
        yield Statement(
            _slug(transfer, better, "before", worse, round(100 * sparsity)),
            f"ResNet50, {transfer} transfer: {better} makes fewer errors than {worse} at {_percent(sparsity)}.",
            _between(transfer, better, worse, sparsity),
            high=0.0,
            transfers=(transfer,),
            methods=(better, worse),
        )


def _aircraft() -> Iterator[Statement]:
    for method, figure in (("AC/DC", "0.551"), ("RigL ERK 5x", "0.552")):
        yield Statement(
            _slug("linear-aircraft", method, "before-woodfisher-80"),
            f"Linear transfer to Aircraft at 80 %: {method} ({figure}) is more accurate than WoodFisher (0.400).",
            _accuracy_on("aircraft", "linear", method, "WoodFisher", 0.8),
            low=0.0,
            methods=(method, "WoodFisher"),
        )


def _difficulties() -> Iterator[Statement]:
    signs = {"AC/DC": -1, "STR": -1, "RigL ERK 1x": -1, "RigL ERK 5x": -1, "WoodFisher": 1}
    for method, sign in signs.items():
        for sparsity in (0.8, 0.9):
            words = "more" if sign > 0 else "less"
            side = {"low": 0.0} if sign > 0 else {"high": 0.0}
            yield Statement(
                _slug("linear-difficulty", method, round(100 * sparsity)),
                f"Linear transfer: the harder the task, the {words} {method} at {_percent(sparsity)} loses to dense "
                "(Spearman's rho).",
                _rho(method, sparsity),
                **side,
                percent=False,
                transfers=("linear", "full"),
                methods=(method,),
            )
    yield Statement(
        "linear-difficulty-falls",
        "Linear transfer: Spearman's rho of error and difficulty is lower at 90 % than at 80 % (mean over methods).",
        _rho_falls(0.8, 0.9),
        high=0.0,
        percent=False,
        transfers=("linear", "full"),
    )


def _rigl() -> Iterator[Statement]:
    note = "The paper's text and its public rows disagree on RigL under full transfer, for unknown reasons."
    for method, other in (("RigL ERK 1x", "AC/DC"), ("RigL ERK 5x", "WoodFisher")):
        for sparsity in (0.8, 0.9, 0.95):
            yield Statement(
                _slug("full", method, "level-with", other, round(100 * sparsity)),
                f"Full transfer: {method} is level with {other} at {_percent(sparsity)} "
                "(relative error increases at most 5 % apart).",
                _between("full", method, other, sparsity),
                low=-LEVEL,
                high=LEVEL,
                transfers=("full",),
                methods=(method, other),
                note=note,
            )


def _little_change() -> Iterator[Statement]:
    for method in ("AC/DC", "RigL ERK 1x", "RigL ERK 5x"):
        yield Statement(
            _slug("linear", method, "sparsity-says-little"),
            f"Linear transfer: from 80 to 95 % sparsity {method} changes by less than 5 % of dense's errors.",
            _between("linear", method, method, 0.95, 0.8),
            low=-LEVEL,
            high=LEVEL,
            methods=(method,),
        )


def _mobilenet() -> Iterator[Statement]:
    name = "mobilenet_v1"
    for sparsity in (0.3, 0.4, 0.5, 0.75):
        yield Statement(
            f"mobilenet_v1-linear-acdc-{round(100 * sparsity)}-within-3",
            f"MobileNetV1, linear transfer: AC/DC at {_percent(sparsity)} is within +3 % of dense's errors.",
            _over_dense("linear", "AC/DC", sparsity),
            high=0.03,
            architecture=name,
            only=True,
            methods=("AC/DC",),
        )
    yield from _against_dense("linear", "M-FAC", {0.75: "+4"}, architecture=name)
    yield from _against_dense("linear", "STR", {0.75: "+11"}, architecture=name)
    for method, figure in (("AC/DC", "+11"), ("M-FAC", "+20"), ("STR", "+33")):
        yield from _against_dense("full", method, {0.75: figure}, architecture=name)


def _tasks() -> Iterator[Statement]:
    both = ("linear", "full")
    harder = "Specialised tasks are harder than general ones (difficulty 0.174 against 0.046)."
    yield Statement("specialised-tasks-harder", harder, _specialised_are_harder, low=0.0, transfers=both)
    better = "Full transfer is more accurate than linear transfer (206 of 240 ResNet50 cells)."
    yield Statement("full-beats-linear", better, _full_beats_linear, low=0.5, transfers=both)
    for transfer, figure in (("linear", "+38"), ("full", "+81")):
        yield Statement(
            f"{transfer}-str-98-worst",
            f"{transfer.capitalize()} transfer: STR makes most errors at 98 % ({figure} %).",
            _worst_level(transfer, "STR", 0.98),
            low=0.0,
            transfers=(transfer,),
            methods=("STR",),
        )
    names = ("caltech101", "flowers", "caltech256", "sun397", "birds", "pets", "dtd")
    listed = ", ".join(TASKS[name].name for name in names)
    text = f"Full transfer: LTH-T loses 8 to 27 points of accuracy from 80 to 95 % on {listed}."
    query = _fall("full", "LTH-T", 0.8, 0.95, names)
    yield Statement("full-ltht-falls", text, query, low=0.0, transfers=("full",), methods=("LTH-T",))


def _text_only() -> Iterator[Statement]:
    """What the paper says in words or tables without public rows."""
    for name, text in (
        (
            "online-training-2-to-4",
            "Sparse backbones at 80 to 95 % cut the time of online linear training 2 to 4 times.",
        ),
        ("inference-90-over-3", "ResNet50 at 90 % infers more than 3 times faster than dense."),
        ("acdc-most-pruned-filters", "AC/DC has clearly more fully pruned filters than the others at 80 and 90 %."),
        (
            "upstream-woodfisher-first",
            "Upstream, WoodFisher is first at 80 and 90 % on ReaL and V2 labels, RigL 5x at 95 %.",
        ),
        (
            "structured-below-unstructured",
            "Structured pruning transfers worse than unstructured at equal upstream accuracy.",
        ),
        ("detection-map-together", "Detection: upstream and downstream mAP go together."),
    ):
        yield Statement(name, text, None, note="Not in the paper's public rows.")


_SPARSITIES = (0.8, 0.9, 0.95)
STATEMENTS: tuple[Statement, ...] = (
    *_against_dense("linear", "AC/DC", {0.8: "−3.2", 0.9: "−2.0"}, ahead=True),
    *_against_dense("linear", "WoodFisher", {0.8: "+14", 0.9: "+14", 0.95: "+17"}),
    *_aircraft(),
    *_order("linear", "AC/DC", "WoodFisher", _SPARSITIES),
    *_order("full", "WoodFisher", "AC/DC", _SPARSITIES),
    *_against_dense("full", "WoodFisher", {0.8: "+0.7", 0.9: "+4.0", 0.95: "+13.4"}),
    *_against_dense("full", "AC/DC", {0.8: "+7.7", 0.9: "+12.0", 0.95: "+21.3"}),
    Statement(
        "full-acdc-best-on-three",
        "Full transfer: AC/DC is the most accurate of all methods on SUN397, Caltech-256 and DTD at 80, 90 and 95 %.",
        _best_of_all("full", "AC/DC", _SPARSITIES, ("sun397", "caltech256", "dtd")),
        low=0.0,
        transfers=("full",),
    ),
    *_against_dense("full", "LTH-T", {0.8: "+9", 0.9: "+37", 0.95: "+110"}),
    *_against_dense("linear", "LTH-T", {0.8: "+79", 0.9: "+221", 0.95: "+402"}),
    *_difficulties(),
    *_little_change(),
    *_mobilenet(),
    *_tasks(),
    *_rigl(),
    *_text_only(),
)
