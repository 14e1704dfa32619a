"""Tabs of Tradeoffs on why methods differ: task difficulty, what pruning left, upstream accuracy. Only the open one computes."""

from collections.abc import Sequence
from datetime import date

import pandas as pd
import streamlit as st

from pages.parts import choices, upstream_table
from pages.parts.frame import home
from pages.parts.results import column_title, show_chart, show_table
from pages.parts.tradeoff_controls import Controls
from sparse_core.catalog import RESULT_METRICS, TRANSFERS, architecture_label
from sparse_core.results import measures
from sparse_core.results.store import Store
from sparse_core.speed import network_facts
from sparse_core.views import footnotes, labels, relations
from sparse_core.views.charts import detection
from sparse_core.views.charts import relations as charts

MOST_PANELS = 4
STRUCTURE_COLUMNS = ["source", "transfer", "method", "sparsity", "network_name", "y", "tasks", *relations.TRAITS]
UPSTREAM_COLUMNS = [
    "source",
    "transfer",
    "method",
    "sparsity",
    "upstream_accuracy",
    "upstream_origin",
    "y",
    "tasks",
    "runs",
]
UPSTREAM_NOTE = (
    "Upstream accuracy of paper results: ImageNet top-1 of the method authors' own networks, matched on nominal sparsity; the "
    "networks behind the paper's transfer rows are others"
)
UNKNOWN_UPSTREAM = (
    "No network of these results has a known upstream accuracy. It is known of ResNet50 and MobileNetV1 by STR and RigL in the "
    "paper results, and of networks made on Sparsify; Evaluate measures it for any with a classifier."
)
UNKNOWN_OF_DETECTORS = (
    "Your runs are shown here once the upstream mAP of their detector is known: Evaluate measures it on images with boxes of the "
    "detector's own classes, such as COCO's validation images; Sparsify, when it prunes on upstream data."
)
# The columns of detectors in the table, by those of all networks.
UPSTREAM_TITLES = {
    metric: {"upstream_accuracy": "own_upstream_map", "y": "own_transfer_map", "upstream_origin": "evaluated_network"}
    for metric in RESULT_METRICS
    if metric != "accuracy"
}
SPARSEML_NOTE = (
    "Source: READMEs and tutorials of neuralmagic/sparseml on YOLOv3-SPP and YOLOv5, tables or readings off a chart. The paper's "
    "table 6 is not in its public rows; it says that upstream and downstream mAP go together (section 4). One figure a network, "
    "no spread; never averaged with other sources."
)
REVERSAL_HELP = "The paper (section 3.3): methods that do well under linear transfer fall behind under full transfer."


def difficulty(store: Store, controls: Controls, rows: pd.DataFrame) -> None:
    """The paper's figure 3."""
    transfer = _transfer(controls, rows, "difficulty_transfer")
    dense = _dense(store, store.version, controls.architecture)
    points = relations.difficulty_points(rows[rows["transfer"] == transfer], dense, controls.accuracy)
    if points.empty:
        st.info(
            "A task's difficulty is the dense network's full minus its linear accuracy. No task of these results has both: run "
            "the dense backbone on Probe and on Finetune."
        )
        return
    counts = points.groupby("level")["line"].nunique()
    every = sorted(counts.index)
    usual = sorted(sorted(every, key=lambda level: (-counts[level], level))[:MOST_PANELS])
    shown = choices.multiselect(
        "Sparsities", every, default=usual, format_func=labels.sparsity_label, key="difficulty_levels", width=380
    )
    if not shown:
        st.info("Choose a sparsity.")
        return
    points = points[points["level"].isin(shown)]
    lines = relations.regressions(points)
    tasks = points.drop_duplicates(["dataset", "dataset_hash"])
    show_chart(
        charts.against_difficulty(points, sorted(shown), lines),
        "Relative error increase against task difficulty",
        f"{architecture_label(controls.architecture)}, {TRANSFERS[transfer].lower()} · {labels.counted(len(tasks), 'task')}, a "
        "point each · least-squares lines with 95 % confidence bands · lower is better · filled: specialised tasks, hollow: "
        "general ones",
        footnotes.caption(
            rows[rows["transfer"] == transfer],
            ["Difficulty: dense accuracy of full minus that of linear transfer"],
            footnotes.row_notes(rows),
            controls.accuracy,
            date.today(),
        ),
        key="difficulty_chart",
        name=f"difficulty-{controls.architecture}-{transfer}",
        alt="Relative error increase over dense against task difficulty, a panel for each sparsity",
    )
    show_table(relations.regression_table(lines), key="difficulty", name=f"difficulty-{controls.architecture}")


def why(controls: Controls, rows: pd.DataFrame, summary: pd.DataFrame) -> None:
    """What pruning left of the networks against their errors, and how ranks change between the two transfers."""
    _structure(controls, rows)
    _reversal(controls, summary)


def upstream(controls: Controls, rows: pd.DataFrame) -> None:
    """Upstream accuracy against transfer accuracy, and the upstream accuracies measured here."""
    _upstream_chart(controls, rows)
    upstream_table.show("Upstream accuracies measured here")
    st.page_link("pages/evaluate.py", label="Evaluate a network", icon=":material/checklist:")


def _upstream_chart(controls: Controls, rows: pd.DataFrame) -> None:
    detectors = controls.metric in UPSTREAM_TITLES
    own = network_facts.own_upstream(home(), controls.metric)
    points = relations.with_upstream(rows, relations.published_upstream(), own, controls.accuracy)
    if points.empty:
        st.info(UNKNOWN_OF_DETECTORS if detectors else UNKNOWN_UPSTREAM)
        return
    name = controls.metric if detectors else "accuracy"
    found = relations.correlations(points, "upstream_accuracy", measures.present(TRANSFERS, points))
    notes = [UPSTREAM_NOTE] if (points["source"] == "published").any() else []
    show_chart(
        charts.networks(
            points,
            charts.Axis("upstream_accuracy", f"Upstream {name if detectors else 'top-1 accuracy'} (%)"),
            f"{'Downstream' if detectors else 'Transfer'} {name} (%)",
            measures.present(TRANSFERS, points),
        ),
        f"Upstream against downstream {name} of your detectors"
        if detectors
        else "Upstream accuracy against transfer accuracy",
        f"{architecture_label(controls.architecture)} · a point for each network, mean over {footnotes.task_count(points)} · "
        f"higher is better · {relations.correlation_text(found)}",
        footnotes.caption(rows, [], [*notes, *footnotes.row_notes(rows)], controls.accuracy, date.today()),
        key="upstream_chart",
        name=f"upstream-{controls.architecture}",
        alt=f"Transfer {name} against upstream {name} of each network",
    )
    titles = UPSTREAM_TITLES.get(controls.metric, {"y": "transfer_accuracy"})
    table = points[UPSTREAM_COLUMNS].rename(columns=titles)
    show_table(table, key="upstream", name=f"upstream-{controls.architecture}")


def upstream_of_detectors(controls: Controls, rows: pd.DataFrame) -> None:
    """Upstream against downstream mAP (the paper's table 6): of the user's detectors, and as SparseML publishes it."""
    _upstream_chart(controls, rows)
    st.page_link("pages/evaluate.py", label="Evaluate a detector", icon=":material/checklist:")
    published_map()


def published_map() -> None:
    """The figures that SparseML publishes, a source of their own."""
    points = relations.detector_map()
    found = relations.correlations(points.assign(transfer="full", y=points["transfer_map"]), "upstream_map", ["full"])
    show_chart(
        detection.upstream_map(points),
        "Upstream against downstream mAP of sparse detectors",
        f"SparseML, not the paper's table · a point for each network, one run each, full transfer · up is better · "
        f"{relations.correlation_text(found).removeprefix('full: ')}",
        f"{SPARSEML_NOTE} Sparse Transfer Lab, {date.today():%Y-%m-%d}.",
        key="upstream_map_chart",
        name="upstream-map",
        alt="mAP@0.5 on VOC after transfer against mAP@0.5 on COCO of SparseML's detectors",
    )
    show_table(points.drop(columns="hover"), key="upstream_map", name="upstream-map")


def _structure(controls: Controls, rows: pd.DataFrame) -> None:
    points = relations.with_structure(rows, _structures(str(home())), controls.accuracy)
    if points.empty:
        st.info(
            "The paper's networks are not published with its results, so their filters are not known. Networks that come with "
            "the product, and your own once Structure has analysed them, are shown here: choose Shipped results and ResNet20."
        )
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        trait = choices.selectbox(
            "X axis of the networks", list(relations.TRAITS), format_func=relations.TRAITS.__getitem__, key="trait"
        )
        every = sorted(points["sparsity"].unique())
        level = choices.selectbox(
            "Sparsity of the networks",
            [None, *every],
            format_func=lambda level: "All" if level is None else labels.sparsity_label(level),
            key="why_level",
            width=180,
            help="Sparsity itself goes with both: at one sparsity it cannot explain what is seen.",
        )
    points = points if level is None else points[points["sparsity"] == level]
    transfers = measures.present(TRANSFERS, points)
    found = relations.correlations(points, trait, transfers)
    show_chart(
        charts.networks(
            points,
            charts.Axis(trait, relations.TRAITS[trait]),
            "Relative error increase over dense (%)",
            transfers,
        ),
        f"Error against {relations.TRAITS[trait].partition(',')[0].partition(' (')[0].lower()}",
        f"{architecture_label(controls.architecture)}, {'all sparsities' if level is None else labels.sparsity_label(level)} · a "
        f"point for each network, mean over {footnotes.task_count(points)} · lower is better · "
        f"{relations.correlation_text(found)}",
        footnotes.caption(
            rows,
            ["Only networks whose structure was analysed, and the tasks that most of them have"],
            footnotes.row_notes(rows),
            controls.accuracy,
            date.today(),
        ),
        key="why_chart",
        name=f"why-{controls.architecture}",
        alt="Relative error increase of each network against what pruning left of it",
    )
    table = points.rename(columns={"y": "mean_relative_error_increase"})
    columns = [name if name != "y" else "mean_relative_error_increase" for name in STRUCTURE_COLUMNS]
    show_table(table[columns], key="why", name=f"why-{controls.architecture}", title=_title)


def _reversal(controls: Controls, summary: pd.DataFrame) -> None:
    st.subheader("Rank under linear and under full transfer", anchor=False, help=REVERSAL_HELP)
    levels = sorted(summary["sparsity"].unique())
    level = choices.selectbox(
        "Sparsity of the ranks",
        levels,
        index=levels.index(0.9) if 0.9 in levels else 0,
        format_func=labels.sparsity_label,
        key="rank_level",
        width=180,
    )
    ranks = relations.ranks(summary, level)
    if len(ranks) < 2:
        st.info(
            "Ranks need two or more networks at this sparsity with results under both transfers: choose Both above."
        )
        return
    source = ranks["source"].iloc[0]
    show_chart(
        charts.rank_change(ranks),
        "Rank under linear and under full transfer",
        f"{architecture_label(controls.architecture)} at {labels.sparsity_label(level)} · by mean relative error increase over "
        f"dense, 1 is best · {relations.rank_agreement(ranks)}",
        f"Of {labels.SOURCES.get(source, source)}. Sparse Transfer Lab, {date.today():%Y-%m-%d}.",
        key="reversal_chart",
        name=f"ranks-{controls.architecture}",
        alt="Rank of each network under linear and under full transfer",
        table=ranks.rename(columns={"name": "row"})[["row", "linear", "full"]],
    )


def _title(name: str) -> str:
    return relations.TRAITS.get(name) or column_title(name)


def _transfer(controls: Controls, rows: pd.DataFrame, key: str) -> str:
    """The transfer of a tab that shows one: that of the page, else a choice."""
    there: Sequence[str] = measures.present(controls.transfers, rows)
    if len(there) == 1:
        return there[0]
    return choices.choice("Transfer of the tab", key, {name: labels.TRANSFER_NAMES[name] for name in there})


@st.cache_resource(show_spinner=False, max_entries=10)
def _dense(_store: Store, version: tuple[int, ...], architecture: str) -> pd.DataFrame:
    """The dense runs of an architecture, of both transfers. Never change them."""
    return _store.results(architecture=architecture, methods=["Dense"], coded=True).query("method == 'Dense'")


@st.cache_data(show_spinner=False, max_entries=2, ttl=60)
def _structures(folder: str) -> pd.DataFrame:
    return network_facts.structures(home())
