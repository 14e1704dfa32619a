"""Runs in Streamlit's test harness: empty states, the table with states, comparing, deleting, notes."""

import contextlib
import dataclasses
import io
import json
import re
import shlex
from functools import partial
from typing import Any

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.parts import results, run_actions, run_selection
from pages.parts.run_selection import KNOWN
from sparse_core import cli
from sparse_core.datasets import catalogue
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.results import saved_views
from sparse_core.results.records import Records
from sparse_core.results.saved_views import SavedView
from sparse_core.results.store import Store
from sparse_core.specs.identity import recorded
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec, protocol
from sparse_core.views import configurations
from tests.pages.support import chart_text, choose, figure, messages, metrics, open_page, press, run, shown, table
from tests.support import boxes
from tests.support.records import detection_record, record, write


def test_a_page_without_runs_shows_the_next_step():
    assert "No runs yet" in open_page("runs").info[0].value


def options(app: AppTest) -> list[str]:
    """The single runs that can be selected."""
    return [each for each in app.multiselect(key="chosen").options if re.search(r", seed \d+", each)]


def compare(home, *records) -> AppTest:
    """The page with these runs selected."""
    write(home, *records)
    app = open_page("runs")
    assert len(options(app)) == len(records)
    return choose(app, chosen=options(app))


def lines(app: AppTest) -> dict[str, list[float]]:
    """The heights of the curves by name; bands have no names of their own in the hover text."""
    return {trace["name"]: trace["y"] for trace in figure(app)["data"] if "hovertext" in trace}


def test_the_seeds_of_a_configuration_are_one_curve_or_one_each(home):
    app = compare(home, record(seed=0, final=0.7), record(seed=1, final=0.8))
    assert shown(app.header[0].value) == "Dense, Digits, linear"
    assert lines(app) == {"Dense, Digits, linear": [75.0]}
    assert metrics(app)["Final top-1 accuracy"] == "75.0 ± 7.1 % (n = 2)"
    app = choose(app, mean_curves=False)
    assert lines(app) == {"Dense, Digits, linear, seed 0": [70.0], "Dense, Digits, linear, seed 1": [80.0]}
    assert "Test accuracy per epoch" in chart_text(app)
    assert "2 runs on this machine, 2026-01-02. 2 runs with SGD lr 0.01" in chart_text(app)


def test_the_command_lists_exactly_the_runs_that_are_compared(home):
    chosen = [record(seed=0), record(seed=1)]
    write(home, record(seed=2), record(sparsity=0.5))
    write(home, *chosen)
    app = open_page("runs")
    app = choose(app, chosen=[each for each in options(app) if "Dense" in each and "seed 2" not in each])
    command, whole = (code.value for code in app.code)
    assert {run["run_id"] for run in printed(command)} == {each.run_id for each in chosen}
    assert len(printed(whole)) == 4


def printed(command: str) -> list[dict[str, Any]]:
    """What a copied command prints."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert cli.main(shlex.split(command)[1:]) == 0
    return json.loads(output.getvalue())


def test_the_command_of_a_single_run_repeats_its_seed_alone(home):
    app = compare(home, record(seed=7))
    assert "--only-seed 7" in app.code[0].value


def test_compared_configurations_show_only_what_differs(home):
    first = record(sparsity=0.5)
    second = dataclasses.replace(
        first, run_id="linear-0-other", spec={**first.spec, "backbone": "mine", "backbone_hash": "second network"}
    )
    app = compare(home, first, second)
    names = {f"Magnitude 50 %, Digits, linear ({network})" for network in ("net", "mine")}
    assert {name.removesuffix(", seed 0") for name in lines(app)} == names
    compared = next(each.value for each in app.dataframe if "Network" in each.value)
    assert set(compared["Network"]) == {"net", "mine"}
    assert not {"Epochs", "Method", "Learning rate"} & set(compared)


def test_a_rerun_is_flagged(home):
    write(home, record(), record(replicate=1))
    app = open_page("runs", rows="Each run")
    assert sorted(table(app)["replicate"]) == [0, 1]
    assert "1 run is a rerun of a seed (Dense): averaged into that seed, n counts seeds." in messages(app)


def test_the_caption_names_different_protocols(home):
    usual, short = record(final=0.7), record(final=0.8)
    short = dataclasses.replace(short, run_id="linear-0-short")
    short.spec["settings"]["epochs"] = 5
    short.result.update(protocol="SGD, 5 epochs", created_at="2026-01-05T03:04:05")
    app = compare(home, usual, short)
    assert sorted(lines(app).values()) == [[70.0], [80.0]]
    assert "2 runs on this machine, 2026-01-02 to 2026-01-05. Protocols differ: 1 run with SGD" in chart_text(app)
    assert "; 1 run with" in chart_text(app)


def test_the_table_shows_state_and_settings_of_every_run(home):
    write(home, record(seed=0), record(sparsity=0.5))
    Records(home).annotate(record(seed=0).run_id, "odd", ["a"])
    spec = ProbeSpec("efficientnet_lite0", "digits")
    for state, seed in (("failed", 1), ("cancelled", 2), ("done", 3)):
        job_id = queue.submit(home, Job("probe", spec, (seed,)))
        queue.end(home, job_id, state, "The disk is full.", {"runs": [], "found": []})
    queue.submit(home, Job("finetune", FinetuneSpec("net", "digits"), (0, 1)))
    app = open_page("runs", rows="Each run")
    shown = table(app)
    assert shown["state"].tolist() == ["waiting", "waiting", "cancelled", "failed", "done", "done"]
    assert shown["seed"].tolist() == [0, 1, 2, 1, 0, 0]
    assert shown["protocol"].iloc[2] == protocol(spec)
    assert shown["protocol"].str.startswith("SGD lr").all()
    assert {"accuracy_final", "note", "tags"} <= set(shown)
    assert len(table(choose(app, runs_source="published"))) == 2655
    assert table(choose(app, runs_source="measured"))["state"].tolist() == shown["state"].tolist()


def test_a_run_with_failed_attempts_is_listed_once(home):
    made = record(seed=4)
    write(home, made)
    spec = recorded(made.spec)
    for state in ("failed", "cancelled"):
        queue.end(home, queue.submit(home, Job("probe", ProbeSpec(spec.backbone, spec.dataset), (4,))), state, "No.")
    assert table(open_page("runs", rows="Each run"))["state"].tolist() == ["done"]


def test_failed_jobs_are_listed_before_the_first_run(home):
    job_id = queue.submit(home, Job("probe", ProbeSpec("net", "digits"), (0,)))
    queue.end(home, job_id, "failed", "Unknown backbone 'net'.")
    app = open_page("runs")
    assert "No runs yet" in app.info[0].value
    assert table(app)["state"].tolist() == ["failed"]


def test_deleting_the_only_run_can_be_undone(home):
    entry = record()
    Records(home).write(entry)
    app = open_page("runs")
    Records(home).delete(entry.run_id)  # as the dialog does, which needs a browser
    app.session_state["deleted"] = [entry.run_id]
    app.run()
    assert "Deleted." in [info.value for info in app.info]
    press(app, "Undo")
    assert Records(home).ids() == {entry.run_id}
    assert "Deleted." not in [info.value for info in app.info]


def toasts(app: AppTest) -> str:
    return " ".join(shown(entry.value) for entry in app.toast)


def test_a_link_to_a_run_that_is_gone_says_so(home):
    gone = "GMP 90 %, Digits, linear, seed 0 (02 Jan 03:04, 12ab)"
    assert gone in toasts(open_page("runs", chosen=gone))
    write(home, record(seed=4))
    app = open_page("runs", chosen=gone)
    assert gone in toasts(app) and "does not exist here" in toasts(app)
    (known,) = options(app)
    assert not toasts(open_page("runs", chosen=known))


def test_notes_are_saved(home):
    app = compare(home, record())
    app.text_area[0].set_value("looks odd")
    press(app, "Save")
    assert Records(home).annotation(record().run_id)[0] == "looks odd"


def test_rows_are_configurations_newest_first(home):
    newer = record(sparsity=0.5)
    newer.result["created_at"] = "2026-02-01T00:00:00"
    write(
        home,
        *(record(seed=seed, final=final) for seed, final in ((0, 0.7), (1, 0.8))),
        record(seed=1, replicate=1),
        newer,
    )
    rows = table(open_page("runs"))
    assert rows["method"].tolist() == ["Magnitude", "Dense"]
    assert rows["seeds"].tolist() == [1, 2]  # a rerun is no seed of its own
    assert rows["final_mean"].iloc[1] == pytest.approx((70 + (80 + 88) / 2) / 2)
    assert rows["colour"].str.startswith("data:image/svg+xml").all()


def test_a_job_that_waits_is_a_configuration_of_its_own(home):
    queue.submit(home, Job("probe", ProbeSpec("efficientnet_lite0", "digits"), (0, 1)))
    rows = table(open_page("runs"))
    assert (rows["state"].tolist(), rows["seeds"].tolist()) == (["waiting"], [2])


def picked(app: AppTest, rows: list[int], cells: list[tuple[int, str]] = []) -> AppTest:  # noqa: B006
    """What the page does when rows of a table are ticked, or a cell is clicked, which takes a browser."""
    key = "a table"
    app.session_state[KNOWN] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(st, "session_state", state := {key: {"selection": {"rows": rows, "cells": cells}}})
        results._pick(key, pd.RangeIndex(9), partial(run_selection.take_configurations, app.table_of_configurations))
    for name, value in state.items():
        if name != key:
            app.session_state[name] = value
    app.run()
    assert not app.exception
    return app


def test_a_click_opens_a_configuration_and_ticks_compare(home):
    write(home, record(seed=0), record(seed=1), record(sparsity=0.5))
    app = open_page("runs")
    app.table_of_configurations = configurations.configurations(
        configurations.annotated(Store(Records(home)).results(source="measured"), {})
    )
    place = app.table_of_configurations["method"].tolist().index("Dense")
    app = picked(app, [], [(place, "Method")])
    assert shown(app.header[0].value) == "Dense, Digits, linear"
    app = picked(app, [0, 1])
    assert shown(app.header[0].value) == "2 configurations compared"
    assert len(app.query_params["chosen"]) == 2


def test_rows_are_ticked_where_they_are_selected(home):
    write(home, record(seed=0), record(sparsity=0.5), record(sparsity=0.8))

    def ticked(app: AppTest) -> tuple[list[int], str]:
        table = app.dataframe[0].proto
        return json.loads(table.selection_default)["selection"]["rows"], table.id

    app = open_page("runs")
    names = app.multiselect(key="chosen").options[:3]  # the configurations
    rows, first = ticked(app)
    assert rows == [] and ticked(app.run()) == ([], first)  # the same table
    rows, second = ticked(choose(app, chosen=names[1:]))
    assert rows == [1, 2] and second != first
    press(app, "Archive 2 runs")
    rows, third = ticked(app)
    assert rows == [] and third not in (first, second)  # no row that stands there now


def test_a_run_that_is_chosen_with_its_configuration_counts_once(home):
    write(home, record(seed=0), record(seed=1))
    app = open_page("runs")
    app = choose(app, chosen=app.multiselect(key="chosen").options)
    assert len(app.multiselect(key="chosen").value) == 3  # the configuration and both seeds
    press(app, "Archive 2 runs")
    assert len(Records(home).annotations.archived()) == 2


def test_archived_runs_are_hidden_and_can_be_restored(home):
    app = compare(home, record(seed=0))
    press(app, "Archive 1 run")
    assert Records(home).annotations.archived() == [record(seed=0).run_id]
    assert Store(Records(home)).results(source="measured").empty
    press(app, "Undo")
    assert len(Store(Records(home)).results(source="measured")) == 1
    Records(home).annotations.archive([record(seed=0).run_id])
    app = open_page("runs", show_archived="true")
    app = choose(app, chosen=options(app))
    press(app, "Restore 1 run")
    assert Records(home).annotations.archived() == []


def test_tags_filter_the_runs_and_if_wanted_all_pages(home):
    write(home, record(sparsity=0.5), record(sparsity=0.8), record())
    Records(home).annotate(record(sparsity=0.5).run_id, "", ["good"])
    app = choose(open_page("runs"), filter_tags=["good"])
    assert table(app)["sparsity"].tolist() == [50]
    assert printed(app.code[-1].value)[0]["sparsity"] == 0.5
    query = {"filter_tags": "good", "filter_everywhere": "true", "architecture": "EfficientNet-Lite0"}
    app = open_page("tradeoffs", **query)
    names = " ".join(trace["name"] for trace in figure(app)["data"] if "name" in trace)
    assert "Some results are hidden by the filters" in messages(app)
    rows = table(choose(app, part="Runs")) if "part" in app.session_state else None
    assert rows is None or 80 not in rows["sparsity"].tolist()
    assert names


def test_views_are_saved_by_name_and_columns_are_remembered(home):
    app = open_page("runs", {"views": True}, rows="Each run")
    next(field for field in app.text_input if field.label == "Name of the present view").set_value("Mine")
    press(app, "Save view")
    (view,) = saved_views.views(home)
    assert (view.name, view.page, view.query["rows"]) == ("Mine", "runs", ["Each run"])
    press(app, "Delete")
    assert saved_views.views(home) == []
    write(home, record())
    app = choose(open_page("runs"), configurations_columns=["method", "seeds"])
    assert list(table(app)) == ["method", "seeds"]
    assert list(table(open_page("runs"))) == ["method", "seeds"]


@pytest.mark.parametrize("page", ["tradeoffs", "tasks", "guide", "compare", "findings", "speedup", "structure"])
def test_every_page_with_filters_has_saved_views_and_the_filter_of_all_pages(home, page):
    saved_views.keep(home, SavedView("Mine", "runs", {}))
    app = open_page(page, {"views": True, "filters": True})
    assert "Of other pages" in messages(app)
    (toggle,) = [each for each in app.toggle if each.key == "filter_everywhere"]
    parts = [
        each for each in app.multiselect if each.key in ("filter_architecture", "filter_transfer", "filter_method")
    ]
    assert len(parts) == 3 and all(each.disabled for each in parts)  # until it holds on all pages
    toggle.set_value(True)
    run(app)
    assert not any(each.disabled for each in app.multiselect if each.key == "filter_method")


@pytest.mark.parametrize("page", ["tradeoffs", "tasks", "guide", "compare"])
def test_a_filter_of_all_pages_that_keeps_nothing_is_named_as_the_reason(page):
    app = open_page(page, filter_everywhere="true", filter_architecture="ResNet50", filter_method="M-FAC")
    assert not app.error and any("filters that hold on all pages" in each.value for each in app.info)


def test_a_filter_of_all_pages_leaves_its_architectures_to_choose_from():
    app = open_page("tradeoffs", filter_everywhere="true", filter_architecture="MobileNetV1")
    assert app.selectbox(key="architecture").options == ["MobileNetV1"] and app.get("plotly_chart")


def test_tags_and_notes_are_written_into_the_table(home, monkeypatch):
    write(home, record(seed=0), record(seed=1))
    rows = configurations.configurations(configurations.annotated(Store(Records(home)).results(source="measured"), {}))
    monkeypatch.setattr(st, "session_state", {"edited": {"edited_rows": {0: {"tags": "b a", "note": "odd"}}}})
    run_actions._keep_edits(rows)
    assert {Records(home).annotation(record(seed=seed).run_id)[1][0] for seed in (0, 1)} == {"a"}


def test_a_detector_s_run_shows_its_precision_and_its_boxes(home, tmp_path):
    folder = boxes.voc(tmp_path / "voc", 4, 2)
    data = catalogue.load_boxes(home, str(folder))
    of = {"dataset": str(folder), "content": data.hash, "image": data.test.names[0]}
    write(home, detection_record(**of), detection_record(sparsity=0.5, map50=0.7, **of))
    app = open_page("runs")
    app = choose(
        app, chosen=[each for each in app.multiselect(key="chosen").options if "50 %" in each and "seed 0" in each]
    )
    assert "Test mAP@0.5 per epoch" in chart_text(app) and "Precision–recall by class" in chart_text(app, 1)
    assert "mAP@0.5" in next(name for name in metrics(app) if name.startswith("Final"))
    by_class = next(each.value for each in app.dataframe if "Average precision (%)" in each.value)
    assert by_class[["Class", "Network", "Average precision (%)"]].to_numpy().tolist() == [
        ["cat", "Magnitude 50 %", 70.0],
        ["cat", "Dense", 80.0],
    ]
    assert by_class["SD"].isna().all() and "–" in {each.proto.placeholder for each in app.dataframe}  # one seed each
    app.session_state["drawn"] = True
    app.run()
    assert not app.exception and not app.error
    assert "Misclassified images" not in [each.label for each in app.expander]


def test_map_and_accuracies_are_told_apart(home):
    write(home, detection_record(), detection_record(seed=1, map50=0.7))
    app = open_page("runs")
    assert "Mean final mAP@0.5 (%)" in app.dataframe[0].proto.columns
    assert "Final mAP@0.5 (%)" in open_page("runs", rows="Each run").dataframe[0].proto.columns
    write(home, record())
    for rows in ("By configuration", "Each run"):
        shown = table(open_page("runs", rows=rows))
        assert set(shown["metric"]) == {"mAP@0.5", "top-1 accuracy"}


def test_compared_detectors_are_compared_by_map(home):
    app = compare(home, detection_record(), detection_record(seed=1, map50=0.7))
    assert "Test mAP@0.5 per epoch" in chart_text(app) and "accuracy" not in chart_text(app)
    columns = app.dataframe[-1].proto.columns
    assert "Final mAP@0.5 (%)" in columns and "Best mAP@0.5 (%)" in columns and "Final accuracy" not in columns
    assert "accuracy" not in " ".join(each.label for each in app.toggle)


def test_a_detector_and_a_classifier_are_not_compared(home):
    app = compare(home, detection_record(), record())
    assert "not compared" in app.info[-1].value and not app.get("plotly_chart")
