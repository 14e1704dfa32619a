"""Questions beyond the paper's main comparison, asked of the rows there are: what does one setting change, all else equal?

Source: Iofinova et al., "How Well Do Sparse ImageNet Models Transfer?", CVPR 2022, section 3.1 and its appendices, which ask of
training length, label smoothing, structured pruning, and training from scratch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from sparse_core.catalog import METHODS
from sparse_core.results import measures
from sparse_core.results.comparison import t_interval
from sparse_core.results.measures import CONTENT_KEY, SERIES_KEY
from sparse_core.results.statistics import welch_interval
from sparse_core.specs.transfer import FROM_SCRATCH

GROUP_KEY = [*SERIES_KEY, "method", "sparsity", "recipe"]
ONE_SHOT = "0 epochs"


@dataclass(frozen=True)
class Question:
    """A question with its ``title``. ``split`` takes networks (rows with ``GROUP_KEY``) and returns those it concerns, with the
    column ``setting``, which it takes out of the column that tells it, and ``place``, by which settings are ordered: the first is
    what others are compared with."""

    title: str
    text: str
    split: Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class Answer:
    """``tasks``: a row for each group of rows that agree in ``GROUP_KEY``, each ``setting`` but the group's ``first``, and each
    task, with the ``difference`` of accuracies, setting − first, its 95 % interval over seeds or networks ``low`` and ``high``
    (Welch's t; NaN where a side has fewer than two), and ``runs``. ``means``: the mean over the tasks that both have, with its t
    interval over tasks and the number of ``tasks``."""

    means: pd.DataFrame
    tasks: pd.DataFrame


def asked(rows: pd.DataFrame) -> list[Question]:
    """The questions that the rows may answer: those of which a group of rows has two settings."""
    _, kinds = measures.grouped(rows, GROUP_KEY)
    return [question for question in QUESTIONS if _has_two_settings(question.split(kinds))]


def answer(rows: pd.DataFrame, question: Question, accuracy: str = "best") -> Answer:
    """What the setting changes; empty tables where no group has two settings on one task."""
    places: dict[str, float] = {}

    def by_setting(networks: pd.DataFrame) -> pd.DataFrame:
        found = question.split(networks)
        places.update(zip(found["setting"], found["place"], strict=True))
        return found.assign(network=found["setting"], network_name=found["setting"])

    table = measures.per_configuration(rows, accuracy, by_setting).rename(columns={"network": "setting"})
    tasks = _against_first(table.assign(place=table["setting"].map(places)))
    keys = [*GROUP_KEY, "setting", "first"]
    return Answer(pd.DataFrame(_means(tasks, keys), columns=[*keys, "mean", "low", "high", "tasks", "runs"]), tasks)


def _has_two_settings(rows: pd.DataFrame) -> bool:
    settings = rows[[*GROUP_KEY, "setting"]].drop_duplicates()
    return bool(settings.duplicated(GROUP_KEY).any())


def _against_first(table: pd.DataFrame) -> pd.DataFrame:
    """Each later setting of a group against its first, on the tasks of both."""
    is_first = table["place"] == table.groupby(GROUP_KEY)["place"].transform("min")
    both = table[~is_first].merge(table[is_first], on=[*GROUP_KEY, *CONTENT_KEY], suffixes=("", "_first"))
    difference = both["accuracy_mean"] - both["accuracy_mean_first"]
    sides = [(both[f"accuracy_std{side}"], both[f"seeds{side}"]) for side in ("", "_first")]
    low, high = welch_interval(difference, sides[0], sides[1])
    runs = both["runs"] + both["runs_first"]
    found = both.assign(first=both["setting_first"], difference=difference, low=low, high=high, runs=runs)
    return found[[*GROUP_KEY, "setting", "first", *CONTENT_KEY, "difference", "low", "high", "runs"]]


def _means(tasks: pd.DataFrame, keys: list[str]) -> Iterator[tuple[object, ...]]:
    for key, part in tasks.groupby(keys):
        mean = t_interval(part["difference"])
        yield (*key, mean.mean, mean.low, mean.high, mean.n, int(part["runs"].sum()))


def _training_length(rows: pd.DataFrame) -> pd.DataFrame:
    """Epochs by the recipe; where it is unknown, the multiple in a method's name, such as RigL ERK 5x."""
    epochs = rows["recipe"].str.extract(r"^(\d+) epochs", expand=False)
    multiple = rows["method"].str.extract(r" (\d+)x$", expand=False)
    known = epochs.notna() & (epochs != "0") | epochs.isna() & multiple.notna()
    return rows.assign(
        setting=(epochs + " epochs").fillna(multiple + "x"),
        place=epochs.fillna(multiple).astype(float),
        recipe=rows["recipe"].str.replace(r"^\d+ epochs(, )?", "", regex=True),
        method=rows["method"].str.replace(r" \d+x$", "", regex=True),
    )[known]


def _label_smoothing(rows: pd.DataFrame) -> pd.DataFrame:
    amount = rows["recipe"].str.extract(r"label smoothing ([\d.]+)", expand=False)
    return rows.assign(
        setting=("label smoothing " + amount).fillna("no label smoothing"),
        place=amount.fillna("0").astype(float),
        recipe=rows["recipe"].str.replace(r", label smoothing [\d.]+", "", regex=True),
    )[rows["recipe"].ne("")]


def _structure(rows: pd.DataFrame) -> pd.DataFrame:
    """The structured network beside each unstructured one that was trained as long; one-shot ones were not trained."""
    families = rows["method"].map(lambda name: METHODS[name].family if name in METHODS else "")
    others = rows[~families.isin(["reference", "structured", "one-shot", ""]) & rows["recipe"].ne(ONE_SHOT)]
    structured = rows[families == "structured"]
    beside = [structured.assign(method=name, setting="structured", place=1.0) for name in others["method"].unique()]
    return pd.concat([others.assign(setting="unstructured", place=0.0), *beside], ignore_index=True)


def _from_scratch(rows: pd.DataFrame) -> pd.DataFrame:
    scratch = rows["protocol"].str.contains(FROM_SCRATCH, regex=False)
    return rows.assign(
        setting=scratch.map({False: "transferred weights", True: "from scratch, same mask"}),
        place=scratch.astype(float),
        protocol=rows["protocol"].str.replace(f", {FROM_SCRATCH}", "", regex=False),
    )[rows["transfer"].eq("full")]


QUESTIONS = (
    Question("Training length", "What does longer training upstream change after the transfer?", _training_length),
    Question("Label smoothing", "What does label smoothing upstream change after the transfer?", _label_smoothing),
    Question(
        "Structured pruning",
        "How do networks transfer whose whole filters were removed, beside unstructured ones of the same sparsity and length of "
        "training? The tab Upstream and downstream has them at equal upstream accuracy.",
        _structure,
    ),
    Question("From scratch", "Do the transferred weights matter, or the mask alone?", _from_scratch),
)
