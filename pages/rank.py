"""Rank: backbones by cheap measures on their cached features, before any is trained, and how well probes agree."""

from datetime import date

import pandas as pd
import streamlit as st

from pages.parts import choices, frame, links, progress
from pages.parts.frame import home
from pages.parts.results import open_store, show_chart, show_table
from sparse_core.catalog import asked_dataset, task_label
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import library
from sparse_core.specs.options import PROGRAM
from sparse_core.specs.ranking import RANKINGS, RankSpec
from sparse_core.views import labels
from sparse_core.views.charts import rankings as charts

MEASURES = {
    "knn": "k nearest neighbours",
    "ridge": "Ridge regression",
    "few-shot": "Few-shot (1 to 25 images a class)",
    "logistic": "Logistic regression",
    "logme": "LogME",
}
HELP = (
    "All but LogME are the top-1 accuracy on the test images of a cheap classifier on the features; k, λ and C are chosen on a "
    "split of the training images. LogME is a log evidence, of training images alone. None is a probe, and they never mix."
)
FEWEST_PROBES = 3
assert set(MEASURES) == set(RANKINGS)


def main() -> None:
    """The form; then the job that the link names, or that runs: its progress, or the ranking."""
    open_store("rank")
    _form()
    status = progress.linked_job("rank") or progress.unfinished_job("rank")
    if status is None:
        st.info("No ranking is shown yet. Choose a dataset and a measure, then rank.")
        return
    task = task_label(asked_dataset(status.job.spec.dataset))
    st.header(frame.plain(f"{MEASURES[status.job.spec.measure]} on {task}"), divider="gray")
    if not status.ended:
        progress.show_progress(status.job_id)
    elif status.state == "done":
        _result(status, task)
    else:
        progress.ended_without_result(status, "Rank")


def _form() -> None:
    ready = {card.name: card for card in library.available(home()) if card.ready and card.kind != "architecture"}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        dataset = choices.resolve_dataset(choices.dataset_choice())
        measure = choices.selectbox(
            "Measure", list(MEASURES), index=1, format_func=MEASURES.__getitem__, key="measure", width=300, help=HELP
        )
    names = choices.multiselect(
        "Backbones",
        list(ready),
        format_func=lambda name: labels.backbone_label(ready[name]),
        placeholder=f"All {len(ready)} on this machine. Choose some here",
        key="rank_backbones",
        help=choices.IMPORT_HELP,
    )
    if dataset is None:
        return
    command = [*PROGRAM, "rank", "--dataset", dataset, "--measure", measure]
    command += ["--backbones", ",".join(names)] if names else []
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Rank", type="primary", icon=":material/play_arrow:"):
            st.query_params["job"] = queue.submit(home(), Job("rank", RankSpec(dataset, measure, tuple(names))))
            st.rerun()
        links.share(" ".join([*command, "--json"]), key="share_rank")
        st.caption("Features come from the cache, or are extracted first; the ranking itself takes seconds.")


def _result(status: queue.Status, task: str) -> None:
    cards = {card.name: card for card in library.available(home())}
    rows = pd.DataFrame(status.result["rows"])
    rows["row"] = [labels.backbone_label(cards[name]) if name in cards else name for name in rows["backbone"]]
    rows["method"] = [cards[name].method if name in cards else "" for name in rows["backbone"]]
    measure = status.job.spec.measure
    unit = "Log evidence per image" if measure == "logme" else "Top-1 accuracy (%)"
    show_chart(
        charts.scores(rows, unit, 1.0 if measure == "logme" else 100.0),
        f"Backbones ranked by {MEASURES[measure]}" if measure == "logme" else f"Backbones ranked: {MEASURES[measure]}",
        f"{task} · {labels.counted(len(rows), 'backbone')} · higher is better · {_agreement(status.result)}",
        f"Measured on features, before any training: not a probe. Sparse Transfer Lab, {date.today():%Y-%m-%d}.",
        key="rank_chart",
        name=f"rank-{measure}",
        alt="Score of each backbone, best first",
    )
    table = rows[["row", "score", "chosen", "seconds"]]
    show_table(table, key="rank", name=f"rank-{measure}")


def _agreement(result: dict[str, object]) -> str:
    """How well the ranking agrees with the probes there are."""
    probes, tau, p = int(str(result["probes"])), result["tau"], result["p"]
    if probes < FEWEST_PROBES or tau is None:
        return f"linear probes of {probes} of these: too few to say how well they agree"
    return f"Kendall's τ = {tau:.2f} (p = {p:.2g}) with the linear probes of {labels.counted(probes, 'backbone')}"


main()
