"""One chart of every kind that the product draws, from the paper's results and made-up numbers, with texts of usual length."""

from collections.abc import Callable
from datetime import date
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sparse_core.results import measures
from sparse_core.results.comparison import rank_test
from sparse_core.results.records import Records
from sparse_core.results.store import Store
from sparse_core.views import footnotes, labels, relations, speed_tables, tables
from sparse_core.views.charts import captions, comparison, sparsify, speed, structure, tradeoffs, training
from sparse_core.views.charts import rankings as ranking_charts
from sparse_core.views.charts import relations as relation_charts
from sparse_core.views.charts import tasks as task_charts
from tests.support.measurements import line, speed_record, training_record
from tests.support.records import measured, row

NOWHERE = Path("/nonexistent")
CLASSES = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "a class of a rather long name",
]
LEVELS = [
    ("Dense", 0, 0.9),
    ("AC/DC", 0.8, 0.86),
    ("AC/DC", 0.9, 0.85),
    ("STR", 0.8, 0.855),
    ("STR", 0.9, 0.84),
    ("GMP", 0.9, 0.842),
]


@cache
def paper() -> pd.DataFrame:
    rows = Store(Records(NOWHERE)).results(source="published", architecture="resnet50")
    return rows[~measures.is_hidden_lottery_ticket(rows)]


def own(**fields: object) -> pd.DataFrame:
    """Networks of one's own, with sizes close to each other."""
    sizes = [
        {"nonzero_parameters": round(4e6 * (1 - 0.9 * level)), "multiply_adds": 1e8, "file_size": 2e6}
        for _, level, _ in LEVELS
    ]
    return measured(
        *(
            row(*level, seed, **{**size, **fields})
            for level, size in zip(LEVELS, sizes, strict=True)
            for seed in range(3)
        )
    )


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    return labels.name_points(measures.with_sizes(measures.summary(rows), rows))


def pareto(rows: pd.DataFrame, axis: str) -> go.Figure:
    means = measures.with_sizes(measures.over_same_tasks(measures.per_configuration(rows)), rows)
    table = labels.name_points(measures.with_front(means, axis))
    return tradeoffs.pareto(table, measures.present(["linear", "full"], table), axis=axis)


def per_task(rows: pd.DataFrame) -> pd.DataFrame:
    return tables.task_table(rows, "best", measures.ordered_tasks(rows))


def heat_map(value: str, most: int | None = None) -> go.Figure:
    table = per_task(paper().query("transfer == 'linear' and (method != 'Dense' or @value == 'accuracy_mean')"))
    table = table.dropna(subset=[value]) if value == "accuracy_mean" else _with_differences()
    rows = labels.distinct(table["row"])[:most]
    table = table[table["row"].isin(rows)]
    return task_charts.heat_map(table, value, rows, labels.distinct(table["task"]))


def _with_differences() -> pd.DataFrame:
    table = per_task(paper().query("transfer == 'linear'"))
    return table[table["method"] != "Dense"]


def accuracy_per_task() -> go.Figure:
    table = per_task(paper().query("sparsity in [0, 0.9]"))
    return task_charts.accuracy_per_task(table, ["linear", "full"], labels.distinct(table["task"]))


def curves(value: str = "top1", **options: bool) -> go.Figure:
    rows = [
        {
            "run": f"{group}, seed {seed}",
            "group": group,
            "epoch": epoch,
            "top1": 0.9 - 0.5 / epoch + 0.01 * seed,
            "loss": 2 / epoch,
        }
        for group in ("Dense", "AC/DC 90 %, your runs, lr 0.1")
        for seed in range(5)
        for epoch in range(1, 31)
    ]
    return training.learning_curves(pd.DataFrame(rows), value, **options)


def confusion(classes: int = 10) -> np.ndarray:
    draw = np.random.default_rng(0)
    return draw.poisson(2, (classes, classes)) + np.diag(draw.integers(60, 90, classes))


def speeds() -> pd.DataFrame:
    engines = [("deepsparse", 3.0), ("onnxruntime", 1.0), ("torch", 0.8)]
    records = [
        speed_record(
            str(level), sparsity=level, lines=[line(engine=name, ratio=ratio + level) for name, ratio in engines]
        )
        for level in (0.5, 0.8, 0.9, 0.95)
    ]
    return speed_tables.table(NOWHERE, records, {})


def with_accuracy() -> pd.DataFrame:
    table, spread = speeds(), 0.01 * np.arange(12)
    named = {
        "method": "AC/DC",
        "source": "measured",
        "upstream": "I",
        "protocol": "P",
        "network": "n",
        "network_name": "net",
    }
    counts = {"seeds": 5, "networks": 1, "runs": 5, "accuracy_std": 0.01, "baseline_accuracy": 0.92}
    found = table.assign(**named, **counts, interval="Welch's t, over seeds", dataset="digits", front=False)
    found = found.assign(difference=spread - 0.06, difference_low=spread - 0.08, difference_high=spread - 0.04)
    return found.assign(accuracy_mean=0.9 - spread / 10)


def course() -> go.Figure:
    runs = [f"resnet20-ACDC-{level}-seed0" for level in (80, 90, 95, 98)]
    epochs = [
        {"run": run, "epoch": epoch, "sparsity": 0.3 * epoch, "loss": 1 / epoch, "accuracy": 0.3 * epoch}
        for run in runs
        for epoch in (1, 2, 3)
    ]
    return sparsify.course(pd.DataFrame(epochs), [0.8, 0.9, 0.95, 0.98], 3)


def routes() -> go.Figure:
    rows = [
        {
            "method": method,
            "sparsity": level,
            "route": route,
            "line": f"{method}, {name}",
            "accuracy_mean": accuracy - level / 20,
        }
        for method, levels, accuracy in (
            ("Dense", [0.0], 0.93),
            ("GMP", [0.8, 0.9], 0.92),
            ("AC/DC", [0.8, 0.9], 0.921),
        )
        for route, name in (("task", "pruned on the task"), ("transferred", "transferred"))
        for level in levels
    ]
    more = {"accuracy_std": 0.01, "seed_std": 0.01, "networks": 3, "runs": 3, "start": "dense weights", "epochs": 20}
    return sparsify.routes(pd.DataFrame(rows).assign(**more), "top1")


def layers() -> pd.DataFrame:
    names = [f"layer{number}.0.conv1" for number in range(1, 21)]
    return pd.DataFrame(
        {"name": names, "shape": "64 × 64 × 3 × 3", "sparsity": 0.9, "filters": 64, "filters_pruned": 8, "share": 0.05}
    )


def shares() -> pd.DataFrame:
    networks = [
        "resnet20_acdc_90_s0: ResNet20, AC/DC 90 %",
        "a network with a long name of its own: ResNet50, WoodFisher 98 %",
    ]
    columns = {
        "mean_layer_filters_pruned_share": [0.1, 0.2],
        "filters_pruned_share": [0.1, 0.3],
        "filters_dead_share": [0.1, 0.4],
    }
    return pd.DataFrame({"network": networks, **columns})


def filters_by_method() -> go.Figure:
    table = pd.DataFrame(
        [
            {"method": method, "sparsity": level, "share": share * level}
            for method, share in (("GMP", 0.1), ("AC/DC", 0.3), ("STR", 0.31))
            for level in (0.8, 0.9, 0.95)
        ]
    )
    return structure.filters_by_method(table.assign(share_std=0.02, networks=3))


def overlap() -> go.Figure:
    table = layers().assign(layer=range(1, 21), overlap=0.3, overlap_by_chance=0.05, kept_in_both=10, kept_in_either=30)
    return structure.overlap(table)


def compared(kind: str) -> go.Figure:
    """The charts of Compare, of four networks on five tasks."""
    values = np.random.default_rng(0).normal(0.1, 0.1, (5, 4)) + np.linspace(0, 0.1, 4)
    names = ["AC/DC 90 %", "STR 90 %", "WoodFisher 90 %, a network with a long name of its own", "RigL ERK 5x 90 %"]
    grid = pd.DataFrame(values, columns=names)
    methods = dict(zip(names, ["AC/DC", "STR", "WoodFisher", "RigL ERK 5x"], strict=True))
    tasks = ["Oxford Flowers-102", "FGVC-Aircraft", "Pets", "SUN397", "CIFAR-10"]
    if kind == "ranks":
        return comparison.critical_difference(rank_test(grid), methods)
    if kind == "pair":
        difference = grid[names[0]] - grid[names[1]]
        table = pd.DataFrame({"difference": difference, "low": difference - 0.02, "high": difference + 0.02})
        return comparison.differences(table, tasks, (-0.01, -0.03, 0.01), names[0])
    means = pd.DataFrame({"name": names, "mean": grid.mean().to_numpy(), "low": 0.0, "high": 0.2})
    return comparison.means_over_tasks(means, grid, tasks, methods)


def against_difficulty() -> go.Figure:
    random = np.random.default_rng(0)
    rows = [
        {"method": method, "source": "published", "upstream": "", "protocol": "", "line": method, "level": level}
        | {"sparsity": level, "difficulty": x, "relative_error_increase": random.normal(0.1, 0.1), "hover": "a task"}
        | {"kind": "specialised" if x > 0.2 else "general"}
        for method in ("AC/DC", "STR")
        for level in (0.8, 0.9)
        for x in np.linspace(0.02, 0.4, 12)
    ]
    points = pd.DataFrame(rows)
    return relation_charts.against_difficulty(points, [0.8, 0.9], relations.regressions(points))


def related_networks() -> go.Figure:
    table = measures.over_same_tasks(measures.per_configuration(own()))
    table = table.assign(y=table["accuracy_mean"], upstream_accuracy=0.9 - table["sparsity"] / 10, hover="a network")
    table = table.assign(line=labels.name_lines(table))
    axis = relation_charts.Axis("upstream_accuracy", "Upstream top-1 accuracy (%)")
    return relation_charts.networks(table, axis, "Transfer accuracy (%)", ["linear"])


def rank_change() -> go.Figure:
    names = ["AC/DC", "STR", "RigL ERK 5x, a network with a long name of its own", "WoodFisher"]
    table = pd.DataFrame({"name": names, "method": ["AC/DC", "STR", "RigL ERK 5x", "WoodFisher"], "hover": "ranks"})
    return relation_charts.rank_change(table.assign(linear=[1.0, 2, 3, 4], full=[2.0, 3, 4, 1]))


def ranking() -> go.Figure:
    names = [
        "resnet20_acdc_90_s0: ResNet20, AC/DC 90 %",
        "a network with a long name of its own: ResNet50, WoodFisher 98 %",
    ]
    rows = pd.DataFrame({"row": names, "method": ["AC/DC", "WoodFisher"], "score": [0.9, 0.8]})
    return ranking_charts.scores(rows, "Top-1 accuracy (%)", 100.0)


KINDS: dict[str, Callable[[], go.Figure]] = {
    "ranking": ranking,
    "error against difficulty": against_difficulty,
    "networks against a trait": related_networks,
    "change of ranks": rank_change,
    "means with intervals": lambda: compared("means"),
    "differences by task": lambda: compared("pair"),
    "critical differences": lambda: compared("ranks"),
    "tradeoff": lambda: tradeoffs.tradeoff(summary(paper()), ["linear", "full"]),
    "tradeoff on a log scale": lambda: tradeoffs.tradeoff(
        summary(paper()), ["linear", "full"], scale=tradeoffs.Scale(log=True, same=True)
    ),
    "tradeoff against size": lambda: tradeoffs.tradeoff(summary(own()), ["linear"], axis="nonzero_parameters"),
    "tradeoff of two protocols": lambda: tradeoffs.tradeoff(
        summary(pd.concat([own(), own(protocol="Q, 20 epochs")])), ["linear"]
    ),
    "pareto": lambda: pareto(paper(), "sparsity"),
    "pareto against size": lambda: pareto(own(), "nonzero_parameters"),
    "accuracy per task": accuracy_per_task,
    "heat map": lambda: heat_map("accuracy_mean"),
    "heat map of differences": lambda: heat_map("difference"),
    "heat map of two rows": lambda: heat_map("difference", 2),
    "curves": curves,
    "mean curves": lambda: curves(mean=True),
    "loss on a log scale": lambda: curves("loss", mean=True, log=True),
    "confusion": lambda: training.confusion_matrix(confusion(), CLASSES),
    "confusion of 40 classes": lambda: training.confusion_matrix(
        confusion(40), [f"class {number}" for number in range(40)]
    ),
    "confusion beside dense": lambda: training.confusion_matrix(
        confusion(), CLASSES, ("AC/DC 90 %", "Dense", confusion())
    ),
    "classes": lambda: training.per_class_accuracy(confusion(), CLASSES),
    "classes beside dense": lambda: training.per_class_accuracy(
        confusion(), CLASSES, ("AC/DC 90 %", "Dense", confusion())
    ),
    "speedup": lambda: speed.speedup(speeds(), "sparsity"),
    "speedup by batch size": lambda: speed.speedup(speeds().assign(batch_size=[1, 8, 64] * 4), "batch_size"),
    "training speedup": lambda: speed.training_against_accuracy(with_accuracy()),
    "accuracy and speed": lambda: speed.accuracy_against_speed(with_accuracy(), "milliseconds_per_image"),
    "time of an epoch": lambda: speed.epoch_split(speed_tables.epoch_split(NOWHERE, [training_record()], {})),
    "time by layer": lambda: speed.layer_shares(layers()),
    "sparsification": course,
    "routes": routes,
    "sparsity by layer": lambda: structure.layer_sparsity(layers()),
    "filters pruned": lambda: structure.filters_pruned(shares()),
    "filters by method": filters_by_method,
    "mask": lambda: structure.mask(np.eye(32), 64, 576),
    "mask overlap": overlap,
    "accuracy and size": lambda: structure.accuracy(tables.accuracy_table(own()), "nonzero_parameters"),
}


def chart(kind: str) -> go.Figure:
    """The chart with title, subtitle and caption."""
    rows = paper()
    caption = footnotes.caption(
        rows, ["Only the tasks Oxford Flowers-102"], footnotes.row_notes(rows), "best", date(2030, 1, 2)
    )
    subtitle = "ResNet50 · mean ± standard error over 12 tasks · lower is better, below 0 beats the dense network"
    return captions.with_caption(KINDS[kind](), "Relative error increase over dense", subtitle, caption)
