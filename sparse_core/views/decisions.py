"""Tables of findings and of the guide's answers, in the words of the screen."""

import math
from collections.abc import Sequence
from urllib.parse import urlencode

import pandas as pd

from sparse_core.catalog import RESULT_METRICS, task_label
from sparse_core.results.advice import Advice, Speedup
from sparse_core.results.findings import FAILS, HOLDS, OPEN, Finding
from sparse_core.views.labels import SOURCES, TRANSFER_NAMES, file_size, percent

VERDICTS = {HOLDS: "Holds", FAILS: "Does not hold", OPEN: "Cannot tell"}
FINDING_COLUMNS = {
    "statement": "Statement",
    "finding_verdict": "Verdict",
    "finding_view": "View",
    "finding_value": "Figure",
    "finding_interval": "95 % interval",
    "finding_samples": "n",
    "finding_runs": "Runs",
    "finding_note": "Note",
}
ANSWER_COLUMNS = {
    "answer": "Network",
    "answer_verdict": "Evidence",
    "answer_loss": "Accuracy loss (points)",
    "answer_interval": "95 % interval (points)",
    "answer_increase": "Relative error increase",
    "answer_speedup": "Measured speedup",
    "answer_size": "File size",
    "answer_for": "Tasks for",
    "answer_against": "Tasks against",
    "answer_tied": "Tied with",
    "answer_runs": "Runs",
    "answer_speed_of": "Speedup measured with",
}


def finding_table(found: Sequence[Finding]) -> pd.DataFrame:
    """A row for each finding; columns as ``FINDING_COLUMNS``."""
    lines = [
        (
            each.statement,
            VERDICTS[each.verdict],
            _view(each),
            _figure(each.value, each.unit),
            _ends(each.low, each.high, each.unit),
            each.n,
            each.rows,
            each.note if each.rows or not each.note else f"{each.note} No rows here.",
        )
        for each in found
    ]
    return pd.DataFrame(lines, columns=list(FINDING_COLUMNS))


def _view(found: Finding) -> str | None:
    """The link to the chart of the rows that a finding speaks of, beside the page with the finding."""
    if not found.rows or found.page:
        return f"./{found.page}" if found.rows else None
    query = {"architecture": found.architecture, "source": SOURCES[found.source], "view": found.tab}
    query["metric"] = RESULT_METRICS[found.metric] if found.metric != "accuracy" else ""
    if len(found.transfers) == 1 and found.metric == "accuracy":  # of detectors there is one transfer
        query["transfer"] = TRANSFER_NAMES[found.transfers[0]]
    query["lottery"] = "true" if "LTH-T" in found.methods and "linear" in found.transfers else ""
    lists = [("methods", name) for name in found.methods] + [("tasks", task_label(name)) for name in found.tasks]
    return f"./?{urlencode([(name, value) for name, value in (*query.items(), *lists) if value])}"


def finding_summary(found: Sequence[Finding], source: str) -> str:
    """How many statements hold, in a sentence."""
    counts = {verdict: sum(each.verdict == verdict for each in found) for verdict in VERDICTS}
    without = sum(not each.rows for each in found)
    told = f"{counts[HOLDS]} hold, {counts[FAILS]} do not, and {counts[OPEN]} cannot be told"
    return f"{SOURCES.get(source, source)}: of {len(found)} statements {told} ({without} of these have no rows)."


def answer_table(advice: Advice) -> pd.DataFrame:
    """A row for each answer, best first; columns as ``ANSWER_COLUMNS``."""
    lines = [
        (
            each.name,
            each.verdict[:1].upper() + each.verdict[1:],
            _points(each.loss.mean),
            f"{_points(each.loss.low)} to {_points(each.loss.high)}" if each.loss.known else each.loss.method,
            _figure(each.increase.mean, "%"),
            _speedup(each.speedup),
            "not known" if each.file_size is None else file_size(round(each.file_size)),
            _tasks(each.tasks_for),
            _tasks(each.tasks_against),
            ", ".join(each.tied_with),
            each.rows,
            each.speedup.how if each.speedup else "",
        )
        for each in advice.answers
    ]
    return pd.DataFrame(lines, columns=list(ANSWER_COLUMNS))


def _speedup(found: Speedup | None) -> str:
    if found is None:
        return "not measured"
    mask = ", timing only" if found.timing_only else ""
    return f"{found.ratio:.2f} × ({found.low:.2f} to {found.high:.2f}){mask}"


def _tasks(names: Sequence[str]) -> str:
    """The number of tasks, and which."""
    return f"{len(names)}: {', '.join(map(task_label, names))}" if names else "0"


def _points(fraction: float) -> str:
    """A fraction in percentage points, with a minus sign and no negative zero."""
    return f"{round(100 * fraction, 1) + 0.0:.1f}".replace("-", "−")


def _figure(value: float, unit: str) -> str:
    if math.isnan(value):
        return "–"
    number = percent(value, signed=True) if unit in ("%", "points") else f"{value:.2f}".replace("-", "−")
    return f"{number} {unit}".strip()


def _ends(low: float, high: float, unit: str) -> str:
    return "none" if math.isnan(low) else f"{_figure(low, unit).removesuffix(unit).strip()} to {_figure(high, unit)}"
