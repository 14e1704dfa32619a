"""Tradeoffs in Streamlit's test harness: what it shows, filters of charts and tables, links, empty states."""

import numpy as np
import pandas as pd
import pytest

from sparse_core.paths import PUBLISHED
from tests.pages.support import (
    PROTOCOL,
    chart_text,
    choose,
    command_output,
    figure,
    legend,
    messages,
    open_app,
    press,
    table,
    write_runs,
)


def test_tradeoffs_opens_with_the_paper_results() -> None:
    app = open_app()
    assert legend(app)[:6] == ["WoodFisher", "STR", "AC/DC", "RigL ERK 1x", "RigL ERK 5x", "LTH-T"]
    said = chart_text(app)
    assert "Not in the paper's public rows: GMP, M-FAC, Magnitude, Structured" in said
    assert not {"GMP", "M-FAC"} & set(legend(app))
    assert "lower is better" in said and "12 tasks" in said and "CVPR 2022" in said
    assert "RigL, full transfer" in said
    assert "LTH-T under linear transfer is left out, as in the paper (+79 to +402 %)" in said
    assert [trace for trace in figure(app)["data"] if trace.get("xaxis") == "x" and trace["name"] == "LTH-T"] == []


def test_lottery_tickets_are_drawn_when_asked_for() -> None:
    app = choose(open_app(), lottery=True)
    (drawn,) = [trace for trace in figure(app)["data"] if trace.get("xaxis") == "x" and trace["name"] == "LTH-T"]
    assert drawn["y"] == pytest.approx([79.4, 220.6, 401.6], abs=0.05)
    assert "left out" not in chart_text(app)


def test_the_rigl_note_is_shown_only_with_its_rows() -> None:
    assert "RigL, full transfer" not in chart_text(open_app(transfer="Linear"))
    assert "RigL, full transfer" not in chart_text(open_app(methods=["AC/DC"]))


def test_filters_change_chart_caption_and_table() -> None:
    chosen = {"methods": ["AC/DC", "STR"], "tasks": ["cifar10", "dtd"], "sparsity": (85, 95), "transfer": "full"}
    app = choose(open_app(), **chosen)
    assert legend(app) == ["STR", "AC/DC"]
    assert all(trace["x"] == [90, 95] for trace in figure(app)["data"])
    said = chart_text(app)
    assert "over 2 tasks" in said and "Only the methods AC/DC, STR" in said
    assert "Only the tasks CIFAR-10, Describable Textures" in said and "Only sparsity 85 % to 95 %" in said
    assert set(table(app)["method"]) == {"AC/DC", "STR"} and len(table(app)) == 4


def test_a_link_restores_the_view() -> None:
    link = {"transfer": "Full", "methods": ["AC/DC"], "view": "Runs", "points": ["Full: AC/DC 90 %"]}
    app = open_app(**link, sparsity=["80", "90"])
    assert app.segmented_control(key="transfer").value == "full"
    assert app.multiselect(key="points").value == ["Full: AC/DC 90 %"]
    assert app.slider(key="sparsity").value == (80, 90)
    runs = table(app)
    assert set(runs["method"]) == {"AC/DC", "Dense"} and set(runs["transfer"]) == {"Full transfer"}
    assert len(runs[runs["method"] == "AC/DC"]) == 36


def test_selected_points_filter_the_averages() -> None:
    app = open_app()
    assert len(table(app)) == 19 + 16
    choose(app, points=["Linear: STR 98 %"])
    (line,) = [trace for trace in figure(app)["data"] if trace["name"] == "STR" and trace["xaxis"] == "x"]
    assert line["marker"]["size"][-1] > line["marker"]["size"][0]
    (only,) = table(app).itertuples()
    assert (only.method, only.sparsity) == ("STR", pytest.approx(98))
    assert only.mean_relative_error_increase == pytest.approx(38.07, abs=0.01)


def test_accuracy_per_task_shows_one_sparsity() -> None:
    app = open_app(view="Accuracy per task")
    assert "at 90 % sparsity" in chart_text(app, 1)
    assert figure(app, 1)["layout"]["yaxis"]["ticktext"][-1] == "Oxford-IIIT Pets"
    choose(app, level=0.95)
    assert "at 95 % sparsity" in chart_text(app, 1)
    mobile = open_app(view="Accuracy per task", architecture="MobileNetV1")
    assert {"M-FAC", "AC/DC", "STR", "Dense"} == set(legend(mobile, 1))


def test_charts_below_name_the_selected_points() -> None:
    app = open_app(view="Pareto front", points=["Full: STR 98 %"])
    assert "Only Full: STR 98 %" in chart_text(app, 1) and "RigL" not in chart_text(app, 1)
    published = pd.read_csv(PUBLISHED / "transfer_accuracy.csv")
    full = published[(published["architecture"] == "resnet50") & (published["transfer"] == "full")]
    behind = full[(full["method"] == "Dense") | ((full["method"] == "STR") & (full["sparsity"] == 0.98))]
    assert f"{len(behind)} runs" in chart_text(app, 1)


def test_unknown_sizes_of_the_papers_networks_are_explained() -> None:
    app = open_app(axis="File size", view="Pareto front")
    assert len(app.get("plotly_chart")) == 0
    assert "No matching run has a known file size" in app.info[0].value
    press(app, "Back to sparsity")
    assert app.selectbox(key="axis").value == "sparsity" and len(app.get("plotly_chart")) == 2


def test_an_axis_of_sizes_shows_only_networks_of_known_size(home) -> None:
    for method, sparsity, accuracy in (("Dense", 0, 0.7), ("AC/DC", 0.9, 0.6)):
        write_runs(home, method, sparsity, [accuracy] * 2, architecture="resnet50", dataset="dtd")
    app = open_app(axis="Nonzero parameters", view="Pareto front")
    assert legend(app) == ["AC/DC, your runs"]
    assert legend(app, 1) == ["Pareto front, your runs", "Dense, your runs", "AC/DC, your runs"]
    for number, title in enumerate(("Relative error increase over dense", "Accuracy against size")):
        said = chart_text(app, number)
        assert title in said and "Nonzero parameters in million" in said
        assert "1,923 paper results left out" in said and "4 runs" in said
        assert figure(app, number)["layout"]["xaxis"]["title"]["text"] == "Nonzero parameters (million)"
    assert figure(app)["data"][0]["x"] == pytest.approx([np.log10(0.4)])
    assert "up and to the left is better" in chart_text(app, 1)
    assert set(table(app)["nonzero_parameters"]) == {4_000_000, 400_000}
    elsewhere = open_app(axis="File size", architecture="MobileNetV1")
    assert "There are some of ResNet50: choose one above" in elsewhere.info[0].value


def test_your_runs_appear_at_once_as_lines_of_their_own(home) -> None:
    app = open_app()
    write_runs(home, "Dense", 0, [0.7, 0.7], architecture="resnet50", dataset="dtd")
    write_runs(home, "AC/DC", 0.9, [0.6, 0.6], architecture="resnet50", dataset="dtd")
    app.run()
    (mine,) = [trace for trace in figure(app)["data"] if trace["name"] == "AC/DC, your runs"]
    assert mine["y"] == pytest.approx([100 / 3]) and mine["line"]["dash"] == "dash"
    (published,) = [trace for trace in figure(app)["data"] if trace["name"] == "AC/DC" and trace["xaxis"] == "x"]
    assert published["y"] == pytest.approx([-3.19, -2.00, 1.66], abs=0.01)
    assert "One task without a spread over seeds, so no error bar: AC/DC" in chart_text(app)
    choose(app, source="published")
    assert "AC/DC, your runs" not in legend(app)


def test_one_task_has_the_spread_over_its_seeds_in_chart_and_table() -> None:
    app = open_app(tasks=["CIFAR-10"], transfer="Linear")
    assert "one task ± standard error over seeds" in chart_text(app)
    bars = [line["error_y"]["array"] for line in figure(app)["data"] if "error_y" in line]
    assert bars and all(error > 0 for line in bars for error in line)
    assert (table(app)["seed_error"] > 0).all() and table(app)["standard_error"].isna().all()


def test_a_protocol_without_a_baseline_counts_its_runs(home) -> None:
    write_runs(home, "Dense", 0, [0.98, 0.97])
    write_runs(home, "Magnitude", 0.5, [0.96, 0.95])
    write_runs(home, "Magnitude", 0.5, [0.96, 0.95, 0.94], protocol=PROTOCOL.replace("150", "20"))
    app = open_app(architecture="EfficientNet-Lite0")
    twins = table(app).set_index("series_name")[["tasks", "runs"]]  # the rows that differ in nothing else that is shown
    assert twins.loc["your runs, 20 epochs"].tolist() == [0, 3] and twins.loc["your runs, 150 epochs"].tolist() == [
        1,
        2,
    ]
    assert "No baseline for Linear\\: Magnitude 50 %, your runs, 20 epochs" in app.warning[0].value
    assert legend(app) == ["Magnitude, your runs"]


def test_networks_of_one_method_and_sparsity_are_points_of_their_own(home) -> None:
    write_runs(home, "Dense", 0, [0.98, 0.97])
    for network, accuracies in (("net5", [0.96, 0.94]), ("net6", [0.85, 0.83])):
        write_runs(home, "AC/DC", 0.9, accuracies, network=network)
    app = open_app(architecture="EfficientNet-Lite0")
    assert legend(app) == ["AC/DC, net5", "AC/DC, net6"]
    heights = {trace["name"]: trace["y"] for trace in figure(app)["data"]}
    assert heights == {"AC/DC, net5": pytest.approx([100]), "AC/DC, net6": pytest.approx([540])}
    assert dict(zip(table(app)["network_name"], table(app)["runs"], strict=True)) == {"net5": 2, "net6": 2}
    (second,) = [point for point in app.multiselect(key="points").options if "net6" in point]
    runs = open_app(architecture="EfficientNet-Lite0", view="Runs", points=second)
    assert set(table(runs)["network_name"]) == {"net6", "net"}  # net is the dense network
    per_task = open_app(architecture="EfficientNet-Lite0", view="Accuracy per task")
    assert legend(per_task, 1) == ["Dense, your runs", "AC/DC, net5", "AC/DC, net6"]
    hover = next(trace for trace in figure(per_task, 1)["data"] if trace["name"] == "AC/DC, net6")["hovertext"][0]
    assert "network net6, hash of" in hover and "(2 seeds)" in hover and "(paired t, over seeds)" in hover


def test_names_of_networks_are_text(home) -> None:
    write_runs(home, "AC/DC", 0.9, [0.9], network="resnet18:/data/**a** ![x](http://example.org/x.png)<b>.pth")
    app = open_app(architecture="EfficientNet-Lite0")
    assert "![x](" not in app.warning[0].value and "**a**" not in app.warning[0].value


def test_an_architecture_with_your_runs_only(home) -> None:
    write_runs(home, "Dense", 0, [0.98, 0.97])
    write_runs(home, "Magnitude", 0.5, [0.96, 0.95])
    app = open_app(architecture="EfficientNet-Lite0")
    assert legend(app) == ["Magnitude, your runs"]
    said = chart_text(app)
    assert "EfficientNet-Lite0 is not in the paper's published results" in said
    assert "dense network of the same architecture" in said and "SGD lr 0.01, 150 epochs" in said
    assert "Full transfer: no results" in said


def test_a_missing_baseline_is_reported(home) -> None:
    write_runs(home, "Magnitude", 0.5, [0.96, 0.95])
    app = open_app(architecture="EfficientNet-Lite0")
    assert len(app.get("plotly_chart")) == 0
    assert "No baseline for Linear\\: Magnitude 50 %, your runs" in app.warning[0].value
    assert table(app)["mean_relative_error_increase"].isna().all()
    tasks = open_app("tasks", architecture="EfficientNet-Lite0", value="Difference to dense")
    assert tasks.warning[0].value.startswith("No baseline")


def test_last_epoch_shows_only_your_runs(home) -> None:
    app = open_app(accuracy="Last epoch")
    assert "no last-epoch accuracy" in app.info[0].value
    write_runs(home, "Dense", 0, [0.9, 0.9], architecture="resnet50")
    write_runs(home, "Magnitude", 0.5, [0.8, 0.8], architecture="resnet50")
    app.run()
    (line,) = [trace for trace in figure(app)["data"] if "y" in trace and trace["y"][0] is not None]
    assert line["y"] == pytest.approx([100 * (0.21 - 0.11) / 0.11])


def test_an_empty_view_offers_to_reset_the_filters() -> None:
    app = open_app(methods=["GMP"])
    assert len(app.get("plotly_chart")) == 0
    assert "GMP is not in the paper's published results" in app.info[0].value
    press(app, "Reset filters")
    assert len(legend(app)) == 6


def test_an_architecture_without_results_is_explained() -> None:
    for page in ("tradeoffs", "tasks"):
        app = open_app(page, architecture="ResNet18")
        assert "ResNet18 is not in the paper's published results" in app.info[0].value
        press(app, "Reset filters")
        assert len(app.get("plotly_chart")) == 1


def test_hidden_lottery_tickets_can_be_shown() -> None:
    app = open_app(methods=["LTH-T"], transfer="Linear")
    assert "left out by default" in app.info[0].value
    press(app, "Show LTH-T, linear")
    assert "LTH-T" in legend(app)


def test_unknown_names_in_a_link_are_reported() -> None:
    app = open_app(methods=["AC/DD", "STR"], architecture="ResNet5O", points=["Full: STR 91 %"], view="Averagse")
    said = [toast.value for toast in app.toast]
    assert len(said) == 4
    assert any("Unknown choice under the tabs 'Averagse'. Did you mean Averages" in message for message in said)
    assert any("Unknown choice under Methods 'AC/DD'. Did you mean AC/DC" in message for message in said)
    assert any("Unknown choice under Architecture 'ResNet5O'. Did you mean ResNet50" in message for message in said)
    assert any("Unknown choice under Selected points 'Full\\: STR 91 %'" in message for message in said)
    assert len(open_app(methods=["STR"], architecture="ResNet50").toast) == 0
    (message,) = [toast.value for toast in open_app(methods=["![x](http://example.org/x.png)"]).toast]
    assert "![x](" not in message  # the browser would fetch the image


@pytest.mark.parametrize(
    "query",
    [
        {"transfer": "Full", "source": "Paper results"},
        {"transfer": "Linear", "methods": ["AC/DC", "WoodFisher"], "tasks": ["CIFAR-10", "Oxford-IIIT Pets"]},
        {"transfer": "Linear", "sparsity": ["85", "95"]},
    ],
)
def test_command_gives_what_the_chart_shows(query: dict) -> None:
    app = open_app(**query)
    given = {(row["method"], row["sparsity"]): row["mean_relative_error_increase"] for row in command_output(app)}
    shown = {
        (line["name"], round(sparsity / 100, 4)): height / 100
        for line in figure(app)["data"]
        if "xaxis" in line
        for sparsity, height in zip(line["x"], line["y"], strict=True)
    }
    assert shown == pytest.approx(given)


def test_command_gives_the_selected_points_within_the_filters_of_all_pages() -> None:
    points = ["Full: STR 90 %", "Linear: AC/DC 80 %"]
    kept = {
        "filter_everywhere": "true",
        "filter_dataset": ["CIFAR-10", "Describable Textures"],
        "filter_source": "Paper results",
    }
    app = open_app(points=points, **kept)
    shown = table(app)[["method", "mean_relative_error_increase", "tasks"]]
    given = [(row["method"], 100 * row["mean_relative_error_increase"], row["tasks"]) for row in command_output(app)]
    assert sorted(given) == [
        (method, pytest.approx(increase), tasks)
        for method, increase, tasks in sorted(shown.itertuples(index=False, name=None))
    ]
    assert {tasks for *_, tasks in given} == {2} and len(given) == 2


def test_pareto_front_over_all_tasks_and_one() -> None:
    app = open_app(view="Pareto front")
    assert "mean over 12 tasks" in chart_text(app, 1) and legend(app, 1)[0] == "Pareto front"
    rows = table(app)
    front = rows[rows["front"] & (rows["transfer"] == "Full transfer")]
    assert list(front["method"]) == ["Dense", "STR", "WoodFisher", "WoodFisher", "WoodFisher"]
    choose(app, pareto_task="sun397")
    rows = table(app)
    best = rows[rows["front"] & (rows["transfer"] == "Full transfer")]
    assert set(best.loc[best["sparsity"].between(80, 95), "method"]) == {"AC/DC"}


def test_tables_filter_by_words_and_columns() -> None:
    app = open_app(averages_filter="acdc", view="Averages")
    assert "No row contains these words" in app.info[0].value
    app = open_app(averages_filter="ac/dc 90 full")
    assert len(table(app)) == 1
    app = open_app(view="Runs", behind_filter="birds wood 95 full")
    assert len(table(app)) == 3 and table(app)["accuracy_final"].isna().all()
    app = open_app(view="Runs", behind_filter="WoodFisher 90")
    rows = pd.read_csv(PUBLISHED / "transfer_accuracy.csv")
    known = rows.query("architecture == 'resnet50' and method == 'WoodFisher' and sparsity == 0.9")
    assert set(table(app)["sparsity"]) == {90}  # not those with a 90 in their accuracy
    assert len(table(app)) == len(known)
    app = open_app(averages_columns=["Method", "Tasks"])
    assert list(table(app).columns) == ["method", "tasks"]


def test_the_tab_on_difficulty_shows_figure_3():
    app = open_app("tradeoffs", view="Difficulty", transfer="Linear")
    assert "task difficulty" in chart_text(app, 1).lower() and "specialised" in chart_text(app, 1)
    (rho,) = table(app).query("row == 'AC/DC' and sparsity == 90")["rho"]
    assert rho == pytest.approx(-0.476, abs=0.001)


def test_the_tab_why_says_that_the_papers_networks_are_unknown_and_shows_the_ranks():
    app = open_app("tradeoffs", view="Why")
    assert "are not published with its results" in messages(app)
    assert "Kendall's τ = 0.20" in chart_text(app, 1) and "WoodFisher" in legend(app, 1)
    app = open_app("tradeoffs", view="Why", transfer="Linear")
    assert "choose Both above" in messages(app)


def test_the_tab_upstream_and_downstream_names_whose_networks():
    app = open_app("tradeoffs", view="Upstream and downstream", transfer="Linear")
    assert "ρ = 0.87" in chart_text(app, 1) and "n = 10" in chart_text(app, 1)
    assert "the method authors' own networks" in chart_text(app, 1)
    assert {"STR", "Dense"} <= set(table(app)["method"])


def test_tabs_without_rows_say_so(home):
    write_runs(home, "Dense", 0, [0.9])
    write_runs(home, "A", 0.5, [0.8])
    for view, text in (
        ("Difficulty", "full minus its linear accuracy"),
        ("Why", "once Structure has analysed them"),
        ("Upstream and downstream", "known upstream accuracy"),
    ):
        app = open_app("tradeoffs", view=view, source="Your runs", architecture="EfficientNet-Lite0")
        assert text in messages(app)


def test_a_question_that_the_rows_can_answer_has_a_tab():
    app = open_app("tradeoffs", view="Training length", transfer="Full")
    assert not app.exception and "What does longer training" in "".join(each.value for each in app.markdown)
    shown = table(app)
    assert shown["row"].str.contains("5x instead of 1x").all() and len(shown) == 36
    assert "Training length" not in [tab.label for tab in open_app("tradeoffs", architecture="MobileNetV1").tabs]
