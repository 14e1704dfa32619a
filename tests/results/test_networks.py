"""What counts as one result: networks by content, seeds as samples, baselines of one protocol, records of any version."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from sparse_core import catalog
from sparse_core.results import measures, statistics
from sparse_core.results.records import Records
from sparse_core.results.store import Store
from sparse_core.specs.training import FULL_LEARNING_RATE, full_learning_rate
from sparse_core.views import footnotes, labels, runs, tables
from tests.support.records import measured, record, row

ACCURACIES = {"a": (0.61, 0.63, 0.62), "b": (0.91, 0.93, 0.92)}


def network(hash_: str, method: str = "AC/DC", sparsity: float = 0.9, name: str = "", **others):
    """Three seeds of a network with this hash, with the accuracies of ``ACCURACIES``."""
    network = {"network": hash_ * 64, "network_name": name or f"net_{hash_}"}
    return [
        row(method, sparsity, accuracy, seed, **{**network, "run_id": f"{hash_}{method}{seed}{others}", **others})
        for seed, accuracy in enumerate(ACCURACIES[hash_])
    ]


def test_two_networks_of_one_method_and_sparsity_are_two_results():
    rows = measured(*network("a"), *network("b"), *network("a", "Dense", 0))
    table = measures.per_configuration(rows)
    sparse = table[table["method"] == "AC/DC"].set_index("network_name")
    assert sparse["seeds"].to_dict() == {"net_a": 3, "net_b": 3}
    assert sparse["accuracy_mean"].to_dict() == pytest.approx({"net_a": 0.62, "net_b": 0.92})
    assert sparse["accuracy_std"].tolist() == pytest.approx([0.01, 0.01])
    assert measures.summary(rows)["network_name"].tolist() == ["net_a", "net_b"]
    assert measures.over_same_tasks(table)["network_name"].tolist() == ["net_a", "net_b", "net_a"]


def test_networks_that_share_a_name_differ_in_rows_lines_and_points():
    rows = measured(*(run for hash_ in "ab" for run in network(hash_, name="mine")), *network("a", "Dense", 0, "mine"))
    table = tables.task_table(rows, "best", measures.ordered_tasks(rows))
    sparse = table[table["method"] == "AC/DC"]
    assert sparse["row"].tolist() == ["AC/DC 90 %, mine (1)", "AC/DC 90 %, mine (2)"]
    assert sparse["line"].tolist() == ["AC/DC, mine (1)", "AC/DC, mine (2)"]
    assert table.loc[table["method"] == "Dense", "row"].tolist() == ["Dense, your runs"]
    points = labels.name_points(measures.summary(rows))["point"]
    assert points.nunique() == 2 and points.str.endswith(", mine (aaaaaa)").sum() == 1
    chosen = measures.underlying_runs(rows, sparse[sparse["network"] == "a" * 64])
    assert set(chosen["network"]) == {"a" * 64} and len(chosen) == 6


def test_sparsities_that_read_alike_do_not_give_two_networks_one_name():
    table = tables.task_table(measured(*network("a"), *network("b", sparsity=0.9003)), "best", {})
    assert table["row"].tolist() == ["AC/DC 90 %, net_a", "AC/DC 90 %, net_b"]


def test_one_network_under_two_names_is_one_result(home):
    for seed, name in enumerate(("first", "second")):
        made = record(sparsity=0.5, seed=seed)
        result = {**made.result, "created_at": f"2026-01-0{seed + 1}"}
        Records(home).write(dataclasses.replace(made, spec={**made.spec, "backbone": name}, result=result))
    rows = Store(Records(home)).results(source="measured")
    assert set(rows["network_name"]) == {"first"} and set(rows["backbone"]) == {"first", "second"}
    assert measures.per_configuration(rows)["seeds"].tolist() == [2]


def test_a_checkpoint_file_is_named_by_the_file(home):
    made = record()
    Records(home).write(dataclasses.replace(made, spec={**made.spec, "backbone": "resnet50:/data/my nets/a.pth"}))
    assert Store(Records(home)).results(source="measured")["network_name"].tolist() == ["a.pth"]


def test_a_rerun_neither_raises_n_nor_changes_the_spread():
    seeds = [row("STR", 0.5, accuracy, seed) for seed, accuracy in enumerate((0.962, 0.955, 0.97))]
    (once,) = measures.per_configuration(measured(*seeds)).itertuples()
    again = [{**entry, "replicate": 1, "run_id": f"{entry['run_id']} again"} for entry in seeds]
    for repeated in (again[:1], again):
        (twice,) = measures.per_configuration(measured(*seeds, *repeated)).itertuples()
        assert twice.accuracy_mean == pytest.approx(once.accuracy_mean)
        assert (twice.accuracy_std, twice.seeds) == pytest.approx((once.accuracy_std, 3))
        assert twice.runs == 3 + len(repeated)
    assert labels.samples(twice) == "3 seeds, 6 runs"
    assert footnotes.repeated_notes(measured(*seeds, *again)) == [
        "3 runs are a rerun of a seed (STR 50 %): averaged into that seed, n counts seeds"
    ]


def test_replicates_that_differ_are_averaged_into_their_seed():
    rows = measured(row("STR", 0.5, 0.8, 0), row("STR", 0.5, 0.6, 0, replicate=1), row("STR", 0.5, 0.9, 1))
    (found,) = measures.per_configuration(rows).itertuples()
    assert found.accuracy_mean == pytest.approx((0.7 + 0.9) / 2)
    assert found.accuracy_std == pytest.approx(np.std([0.7, 0.9], ddof=1))


def test_a_seed_published_twice_counts_once(home):
    rows = Store(Records(home)).results(architecture="mobilenet_v1", transfer="full", methods=["STR"])
    twice = measures.per_configuration(rows).query("method == 'STR' and sparsity == 0.75")
    assert len(twice) == 12 and set(twice["seeds"]) == {1} and set(twice["runs"]) == {2}
    assert twice["accuracy_std"].isna().all()
    (note,) = footnotes.repeated_notes(rows)
    assert note.startswith("12 runs are published under a seed that has another row (STR 75 %)")


def test_several_dense_networks_are_a_baseline_by_the_mean_of_their_means():
    """One has three seeds and one has a single seed: pooled runs would weigh the first three times."""
    dense = [*network("a", "Dense", 0), row("Dense", 0, 0.82, 0, network="b" * 64, network_name="net_b")]
    table = measures.difference_to_dense(measured(*dense, row("AC/DC", 0.9, 0.7)))
    (sparse,) = table[table["method"] == "AC/DC"].itertuples()
    assert sparse.baseline_accuracy == pytest.approx((0.62 + 0.82) / 2)
    assert (sparse.baseline_networks, sparse.baseline_seeds) == (2, 4)
    assert sparse.baseline_std == pytest.approx(np.std([0.62, 0.82], ddof=1))
    assert sparse.difference == pytest.approx(0.7 - 0.72)
    (note,) = footnotes.baseline_notes(measured(*dense))
    assert "(net_a, net_b)" in note and "mean of their means" in note
    assert footnotes.baseline_notes(measured(*network("a", "Dense", 0))) == []


def test_differences_of_own_runs_with_the_same_seeds_are_paired():
    dense = [row("Dense", 0, accuracy, seed) for seed, accuracy in enumerate((0.70, 0.75, 0.83))]
    sparse = [row("STR", 0.5, accuracy, seed) for seed, accuracy in enumerate((0.69, 0.73, 0.82))]
    table = measures.difference_to_dense(measured(*dense, *sparse)).set_index("method")
    expected = stats.ttest_rel((0.69, 0.73, 0.82), (0.70, 0.75, 0.83)).confidence_interval()
    found = table.loc["STR"]
    assert (found["difference_low"], found["difference_high"]) == pytest.approx((expected.low, expected.high))
    assert found["interval"] == "paired t, over seeds"
    assert np.isnan(table.loc["Dense", "difference_low"]) and table.loc["Dense", "interval"] == ""


@pytest.mark.parametrize("change", ["other seeds", "published"])
def test_other_differences_have_the_interval_of_welch(change):
    left, right = (0.70, 0.75, 0.83), (0.69, 0.73, 0.82, 0.80)
    source = {"source": "published"} if change == "published" else {}
    if change == "published":
        left = (*left, 0.79)
    dense = [row("Dense", 0, accuracy, seed, **source) for seed, accuracy in enumerate(left)]
    sparse = [row("STR", 0.5, accuracy, seed, **source) for seed, accuracy in enumerate(right)]
    found = measures.difference_to_dense(measured(*dense, *sparse)).set_index("method").loc["STR"]
    expected = stats.ttest_ind(right, left, equal_var=False).confidence_interval()
    assert (found["difference_low"], found["difference_high"]) == pytest.approx((expected.low, expected.high))
    assert found["interval"] == "Welch's t, over seeds"


def test_with_several_dense_networks_they_are_the_samples():
    dense = [*network("a", "Dense", 0), *network("b", "Dense", 0), row("Dense", 0, 0.7, network="c" * 64)]
    sparse = [row("STR", 0.5, accuracy, seed) for seed, accuracy in enumerate((0.69, 0.73, 0.82))]
    found = measures.difference_to_dense(measured(*dense, *sparse)).set_index("method").loc["STR"]
    expected = stats.ttest_ind((0.69, 0.73, 0.82), (0.62, 0.92, 0.7), equal_var=False).confidence_interval()
    assert (found["difference_low"], found["difference_high"]) == pytest.approx((expected.low, expected.high))
    assert found["interval"] == "Welch's t, over networks"


def test_no_interval_with_too_few_samples_or_without_variation():
    two = [row("STR", 0.5, accuracy, seed) for seed, accuracy in enumerate((0.69, 0.73))]
    others = [row("Dense", 0, accuracy, seed) for seed, accuracy in enumerate((0.70, 0.75, 0.83), start=1)]
    assert measures.difference_to_dense(measured(*two, *others))["difference_low"].isna().all()
    one = measures.difference_to_dense(measured(row("Dense", 0, 0.8), row("STR", 0.5, 0.7)))
    same = [row(method, sparsity, 0.8, seed) for method, sparsity in (("Dense", 0), ("STR", 0.5)) for seed in range(3)]
    for table in (one, measures.difference_to_dense(measured(*same))):
        assert table["difference_low"].isna().all() and set(table["interval"]) == {""}


def test_published_intervals_agree_with_scipy(home):
    rows = Store(Records(home)).results(source="published", architecture="resnet50", transfer="linear")
    table = measures.difference_to_dense(rows)
    assert set(table.loc[table["method"] != "Dense", "interval"]) == {"Welch's t, over seeds"}
    for cell in table[table["method"] == "STR"].itertuples():
        own = rows[(rows["dataset"] == cell.dataset) & (rows["sparsity"] == cell.sparsity)]
        left, right = (own.loc[own["method"] == method, "accuracy_best"] for method in ("STR", "Dense"))
        if not len(right):
            right = rows.loc[(rows["dataset"] == cell.dataset) & (rows["method"] == "Dense"), "accuracy_best"]
        expected = stats.ttest_ind(left, right, equal_var=False).confidence_interval()
        assert (cell.difference_low, cell.difference_high) == pytest.approx((expected.low, expected.high))


def test_the_interval_of_welch_covers_the_difference():
    """Few seeds with unequal spread: 95 % of the intervals contain the true difference, up to chance."""
    generator = np.random.default_rng(0)
    frame = measured(*({"a": 0.0} for _ in range(4000)))
    sides = []
    for mean, deviation in ((0.7, 0.01), (0.75, 0.03)):
        drawn = generator.normal(mean, deviation, (len(frame), 3))
        columns = frame.assign(mean=drawn.mean(axis=1), std=drawn.std(axis=1, ddof=1), n=3)
        sides.append(columns)
    low, high = statistics.welch_interval(
        sides[0]["mean"] - sides[1]["mean"], *((side["std"], side["n"]) for side in sides)
    )
    assert ((low < -0.05) & (high > -0.05)).mean() == pytest.approx(0.95, abs=0.015)


def test_difficulty_never_averages_protocols():
    """Four dense means, one for each protocol: two pairs of every linear with every full protocol, none of them pooled."""
    rows = measured(
        *(row("Dense", 0, accuracy, transfer="linear", protocol=name) for name, accuracy in (("A", 0.5), ("B", 0.6))),
        *(row("Dense", 0, 0.9, seed, transfer="full", protocol="C") for seed in range(2)),
        row("Dense", 0, 0.7, transfer="full", protocol="D"),
    )
    pairs = measures.difficulty(rows).set_index(["linear_protocol", "full_protocol"])["difficulty"]
    assert pairs.to_dict() == pytest.approx({("A", "C"): 0.4, ("A", "D"): 0.2, ("B", "C"): 0.3, ("B", "D"): 0.1})
    assert measures.ordered_tasks(rows) == {("digits", "h"): pytest.approx(0.4)}  # C has most seeds, A comes before B


def own_data(name):
    """A run on a user's folder of this name, kept by an earlier version."""
    made = record(sparsity=0.5)
    result = {**made.result, "dataset_name": name}
    return dataclasses.replace(made, spec={**made.spec, "dataset": f"/home/me/{name}"}, result=result)


@pytest.mark.parametrize("name", ["flowers", "Oxford Flowers-102", "digits", "CIFAR10"])
def test_a_folder_named_as_a_task_is_none(home, name):
    Records(home).write(own_data(name))
    (found,) = Store(Records(home)).results(source="measured").itertuples()
    assert found.dataset == f"{name} (own data)" == catalog.task_label(found.dataset)
    (kept,) = Records(home).read_many({found.run_id})
    assert f"{name} (own data)" in runs.label(kept)


def test_nothing_known_of_a_task_is_said_of_a_folder_of_its_name(home):
    Records(home).write(own_data("flowers"))
    rows = Store(Records(home)).results()
    rows["architecture"] = "resnet50"
    tasks = measures.ordered_tasks(rows)
    assert not np.isnan(tasks["flowers", ""]) and np.isnan(tasks["flowers (own data)", "data"])
    assert full_learning_rate("/home/me/aircraft") == FULL_LEARNING_RATE != full_learning_rate("aircraft")


@pytest.mark.parametrize("named", [{}, {"task": "flowers"}])
def test_a_task_by_its_own_loader_is_listed_as_such(home, named):
    made = record()
    spec, result = {**made.spec, "dataset": "flowers"}, {**made.result, "dataset_name": "flowers", **named}
    Records(home).write(dataclasses.replace(made, spec=spec, result=result))
    (found,) = Store(Records(home)).results(source="measured").itertuples()
    assert found.dataset == "flowers" and catalog.task_label(found.dataset) == "Oxford Flowers-102"


def test_a_record_that_calls_a_sparse_network_dense_is_no_baseline(home, caplog):
    made = record(sparsity=0.9)
    Records(home).write(dataclasses.replace(made, result={**made.result, "method": "Dense"}))
    for _ in range(2):
        (found,) = Store(Records(home)).results(source="measured").itertuples()
    assert (found.method, found.sparsity) == ("Unknown", 0.9)
    assert caplog.text.count(f"{made.run_id} calls a network of sparsity 0.9 dense") == 1
    assert json.loads((Records(home).runs / made.run_id / "result.json").read_text())["method"] == "Dense"
