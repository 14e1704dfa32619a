"""Rows whose repeated texts are categories, by which a million are averaged in time: every measure is that of plain texts."""

import pandas as pd
import pytest

from sparse_core.results import advice, findings, measures, questions, side_by_side, ties
from sparse_core.results.store import coded_rows, published_rows
from tests.support.records import measured, row


@pytest.fixture(scope="module")
def rows():
    """The paper's linear rows; and own ones of three networks trained alike, of one seed several times, and of two lengths."""
    own = [
        row(method, sparsity, accuracy + 0.01 * seed - 0.002 * net, seed, dataset=task, network=f"{method}{net}", recipe=recipe)
        for method, sparsity, accuracy, recipe in (
            ("Dense", 0.0, 0.9, "12 epochs"),
            ("GMP", 0.9, 0.8, "12 epochs"),
            ("STR", 0.9, 0.7, "12 epochs"),
            ("STR", 0.9, 0.75, "36 epochs"),
        )
        for net in range(3 if method == "GMP" else 1)
        for seed in (0, 1, 2, 2)
        for task in ("digits", "pets")
    ]  # fmt: skip
    table = measured(*own)
    table["network"] += table["recipe"].str[:2]
    table["run_id"] = [f"own{number}" for number in range(len(table))]
    paper = published_rows().query("architecture == 'resnet50'")
    return pd.concat([paper, table], ignore_index=True)


def same(first, second):
    pd.testing.assert_frame_equal(first, second, check_dtype=False, check_categorical=False, rtol=1e-12)


def test_measures(rows):
    coded = coded_rows(rows)
    assert isinstance(coded["method"].dtype, pd.CategoricalDtype)
    plain, quick = measures.joined(rows), measures.joined(coded)
    for name in ("network", "network_name", "member"):
        assert plain[name].tolist() == quick[name].tolist()
    assert plain["network"].nunique() < rows["network"].nunique()
    for measure in (measures.difference_to_dense, measures.summary, measures.per_configuration, measures.difficulty):
        same(measure(plain), measure(quick))
    assert measures.ordered_tasks(rows) == measures.ordered_tasks(coded)
    table = measures.difference_to_dense(plain)
    same(ties.on_task(table, plain, table["method"]), ties.on_task(table, quick, table["method"]))
    some = table[table["sparsity"] == 0.9]
    assert (
        measures.underlying_runs(plain, some)["run_id"].tolist()
        == measures.underlying_runs(quick, some)["run_id"].tolist()
    )


def test_what_is_decided_by_them(rows):
    coded = coded_rows(rows)
    plain, quick = (findings.check(each, "published") for each in (rows, coded))
    assert [(each.id, each.verdict, each.rows) for each in plain] == [
        (each.id, each.verdict, each.rows) for each in quick
    ]
    request = advice.Request(transfer="linear", loss=0.02, sparsity=0.8)
    assert repr(advice.advise(rows, request)) == repr(advice.advise(coded, request))
    joined = measures.joined(rows)
    assert [each.title for each in questions.asked(joined)] == [
        each.title for each in questions.asked(measures.joined(coded))
    ]
    for question in questions.asked(joined):
        first, second = (questions.answer(measures.joined(each), question) for each in (rows, coded))
        same(first.means, second.means)
        same(first.tasks, second.tasks)


@pytest.mark.parametrize("interval", side_by_side.INTERVALS)
def test_networks_side_by_side(rows, interval):
    kept = (rows["source"] == "published") & (rows["transfer"] == "linear")
    found = []
    for each in (rows[kept], coded_rows(rows)[kept]):
        chosen = side_by_side.usual(side_by_side.networks(measures.difference_to_dense(each)))
        keys = chosen[measures.NETWORK_KEY].itertuples(index=False, name=None)
        names = dict(zip(keys, side_by_side.short_names(chosen), strict=True))
        found.append(side_by_side.compare(each, names, interval=interval))
    same(found[0].means, found[1].means)
    same(found[0].pairs, found[1].pairs)
