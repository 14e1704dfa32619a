"""Annotations, the filter of runs, and what the user keeps of pages."""

import pandas as pd
import pytest

from sparse_core.errors import InputError
from sparse_core.results import saved_views
from sparse_core.results.annotations import Annotation, Annotations
from sparse_core.results.filters import RunFilter
from sparse_core.results.records import Records
from sparse_core.results.saved_views import SavedView
from sparse_core.results.store import Store
from tests.support.records import record, write


def test_the_archive_keeps_note_and_tags(home):
    kept = Annotations(home / "annotations")
    kept.write("r", Annotation("odd", ("b", "a", "b")))
    kept.archive(["r", "new"])
    assert kept.all() == {"r": Annotation("odd", ("a", "b"), archived=True), "new": Annotation(archived=True)}
    kept.archive(["r"], False)
    assert kept.read("r") == Annotation("odd", ("a", "b"))
    assert kept.archived() == ["new"]


def test_a_note_on_an_archived_run_leaves_it_there(home):
    kept = Records(home)
    kept.annotations.archive(["r"])
    kept.annotate("r", "odd", ["a"])
    assert kept.annotations.read("r") == Annotation("odd", ("a",), archived=True)


def test_archived_runs_are_in_no_results_but_in_the_export(home, tmp_path):
    write(home, record(seed=0), record(seed=1))
    store = Store(Records(home))
    version = store.version
    store.records.annotations.archive([record(seed=0).run_id])
    assert store.version != version
    assert store.results(source="measured")["seed"].tolist() == [1]
    assert store.results(source="measured", archived=True)["seed"].tolist() == [0, 1]
    assert store.export(tmp_path / "all.csv") == len(store.results()) + 1


def test_runs_are_deleted_and_restored_together(home):
    write(home, *(record(seed=seed) for seed in range(4)))
    kept = Records(home)
    gone = [record(seed=seed).run_id for seed in (1, 2)]
    kept.delete(*gone)
    assert kept.ids() == {record(seed=seed).run_id for seed in (0, 3)}
    kept.restore(*gone)
    assert len(kept.ids()) == 4


ROWS = pd.DataFrame(
    [("a", "resnet20", "GMP"), ("b", "resnet20", "Dense"), ("c", "resnet50", "GMP"), ("d", "resnet20", "STR")],
    columns=["run_id", "architecture", "method"],
).assign(transfer="linear", dataset="digits", source="measured")


@pytest.mark.parametrize(
    ("kept", "runs"),
    [
        (RunFilter(), "abcd"),
        (RunFilter(architecture=("resnet20",)), "abd"),
        (RunFilter(method=("STR",)), "bd"),  # dense is the baseline of the others
        (RunFilter(method=("STR",), keep_dense=False), "d"),
        (RunFilter(tags=("x", "y")), "abc"),
        (RunFilter(tags=("x",), keep_dense=False), "a"),
        (RunFilter(dataset=("pets",)), ""),
    ],
)
def test_a_filter_keeps(kept, runs):
    tagged = {"a": Annotation(tags=("x",)), "c": Annotation(tags=("y", "z")), "d": Annotation()}
    assert "".join(kept.apply(ROWS, tagged)["run_id"]) == runs


def test_a_filtered_store_offers_the_values_that_are_left(home):
    store = Store(Records(home)).filtered(RunFilter(source=("published",), architecture=("mobilenet_v1",)))
    assert store.values("architecture") == ["mobilenet_v1"]
    assert set(store.results()["architecture"]) == {"mobilenet_v1"}


def test_a_view_is_kept_by_its_name(home):
    saved_views.keep(home, SavedView("b", "runs", {"rows": ["Each run"]}))
    saved_views.keep(home, SavedView("A", "runs", {}))
    saved_views.keep(home, SavedView("b", "runs", {"rows": ["By configuration"]}))
    assert [view.name for view in saved_views.views(home)] == ["A", "b"]
    assert saved_views.views(home)[1].query == {"rows": ["By configuration"]}
    saved_views.forget(home, "A")
    assert [view.name for view in saved_views.views(home)] == ["b"]
    for name in (" ", "x" * 81):
        with pytest.raises(InputError, match="A view's name takes 1 to 80 characters"):
            saved_views.keep(home, SavedView(name, "runs", {}))
