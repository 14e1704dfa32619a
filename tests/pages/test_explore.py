"""The pages that show results, run by Streamlit's test harness: what they show, filters, links, empty states."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from sparse_core.paths import PUBLISHED, REPOSITORY
from sparse_core.results.records import Record, Records
from tests.support.records import record

APP = str(REPOSITORY / "app.py")
PROTOCOL = "SGD lr 0.01, 150 epochs"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPARSE_TRANSFER_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def open_page(home: Path) -> Callable[..., AppTest]:
    def open_at(page: str = "tradeoffs", **query: str | list[str]) -> AppTest:
        app = AppTest.from_file(APP, default_timeout=60)
        app.switch_page(f"pages/{page}.py")
        for name, value in query.items():
            app.query_params[name] = value
        return fine(app.run())

    return open_at


def fine(app: AppTest) -> AppTest:
    assert not app.exception
    assert [error.value for error in app.error] == []
    return app


def measure(home: Path, method: str, sparsity: float, accuracies: list[float], **changed: str) -> None:
    changed = {"dataset": "digits", "protocol": PROTOCOL, "dataset_hash": "0a1b2c3d", **changed}
    for seed, accuracy in enumerate(accuracies):
        made = record(sparsity=sparsity, seed=seed, best=accuracy, final=accuracy - 0.01)
        spec = {**made.spec, "dataset": changed["dataset"], "dataset_hash": changed["dataset_hash"]}
        result = {**made.result, "method": method, "dataset_name": changed["dataset"], "protocol": changed["protocol"]}
        result |= {"architecture": changed.get("architecture", "efficientnet_lite0")}
        name = "-".join(["linear", str(seed), method, str(sparsity), *changed.values()]).replace("/", "-")
        Records(home).write(Record(name, spec, result, []))


def figure(app: AppTest, number: int = 0) -> dict:
    return json.loads(app.get("plotly_chart")[number].proto.spec)


def words(app: AppTest, number: int = 0) -> str:
    return " ".join(entry["text"].replace("<br>", " ") for entry in figure(app, number)["layout"]["annotations"])


def legend(app: AppTest, number: int = 0) -> list[str]:
    return [trace["name"] for trace in figure(app, number)["data"] if trace.get("showlegend")]


def table(app: AppTest, number: int = -1):
    return app.dataframe[number].value


def test_tradeoffs_opens_with_the_published_study(open_page: Callable[..., AppTest]) -> None:
    app = open_page()
    assert legend(app)[:6] == ["WoodFisher", "STR", "AC/DC", "RigL ERK 1x", "RigL ERK 5x", "LTH-T"]
    for method in ("GMP", "M-FAC", "Magnitude", "Structured"):
        assert f"{method}: not in the paper" in legend(app)
    said = words(app)
    assert "lower is better" in said and "12 tasks" in said and "CVPR 2022" in said
    assert "RigL, full transfer" in said
    assert "LTH-T under linear transfer is left out, as in the paper (+79 to +402 %)" in said
    drawn = [trace for trace in figure(app)["data"] if trace.get("xaxis") == "x" and trace["name"] == "LTH-T"]
    assert drawn == []


def test_lottery_tickets_are_drawn_when_asked_for(open_page: Callable[..., AppTest]) -> None:
    app = open_page()
    app.toggle(key="lottery").set_value(True)
    fine(app.run())
    (drawn,) = [trace for trace in figure(app)["data"] if trace.get("xaxis") == "x" and trace["name"] == "LTH-T"]
    assert drawn["y"] == pytest.approx([79.4, 220.6, 401.6], abs=0.05)
    assert "left out" not in words(app)


def test_rigl_note_stands_only_where_its_rows_do(open_page: Callable[..., AppTest]) -> None:
    assert "RigL, full transfer" not in words(open_page(transfer="Linear"))
    assert "RigL, full transfer" not in words(open_page(methods=["AC/DC"]))


def test_filters_change_chart_caption_and_table(open_page: Callable[..., AppTest]) -> None:
    app = open_page()
    app.multiselect(key="methods").set_value(["AC/DC", "STR"])
    app.multiselect(key="tasks").set_value(["cifar10", "dtd"])
    app.slider(key="sparsity").set_value((85, 95))
    app.segmented_control(key="transfer").set_value("full")
    fine(app.run())
    assert legend(app) == ["STR", "AC/DC"]
    assert all(trace["x"] == [90, 95] for trace in figure(app)["data"])
    said = words(app)
    assert "over 2 tasks" in said and "Only the methods AC/DC, STR" in said
    assert "Only the tasks CIFAR-10, Describable Textures" in said and "Only sparsity 85 % to 95 %" in said
    assert set(table(app)["method"]) == {"AC/DC", "STR"} and len(table(app)) == 4


def test_a_link_restores_the_view(open_page: Callable[..., AppTest]) -> None:
    link = {"transfer": "Full", "methods": ["AC/DC"], "view": "Runs", "points": ["Full: AC/DC 90 %"]}
    app = open_page(**link, sparsity=["80", "90"])
    assert app.segmented_control(key="transfer").value == "full"
    assert app.multiselect(key="points").value == ["Full: AC/DC 90 %"]
    assert app.slider(key="sparsity").value == (80, 90)
    runs = table(app)
    assert set(runs["method"]) == {"AC/DC", "Dense"} and set(runs["transfer"]) == {"Full transfer"}
    assert len(runs[runs["method"] == "AC/DC"]) == 36


def test_chosen_points_filter_the_averages(open_page: Callable[..., AppTest]) -> None:
    app = open_page()
    assert len(table(app)) == 19 + 16
    app.multiselect(key="points").set_value(["Linear: STR 98 %"])
    fine(app.run())
    (line,) = [trace for trace in figure(app)["data"] if trace["name"] == "STR" and trace["xaxis"] == "x"]
    assert line["marker"]["size"][-1] > line["marker"]["size"][0]
    (only,) = table(app).itertuples()
    assert (only.method, only.sparsity) == ("STR", pytest.approx(98))
    assert only.mean_relative_error_increase == pytest.approx(38.07, abs=0.01)


def test_accuracy_per_task_shows_one_sparsity(open_page: Callable[..., AppTest]) -> None:
    app = open_page(view="Accuracy per task")
    assert "at 90 % sparsity" in words(app, 1)
    assert figure(app, 1)["layout"]["yaxis"]["ticktext"][-1] == "Oxford-IIIT Pets"
    app.selectbox(key="level").set_value(0.95)
    fine(app.run())
    assert "at 95 % sparsity" in words(app, 1)
    mobile = open_page(view="Accuracy per task", architecture="MobileNetV1")
    assert {"M-FAC", "AC/DC", "STR", "Dense"} == set(legend(mobile, 1))


def test_figures_below_say_what_they_are_narrowed_to(open_page: Callable[..., AppTest]) -> None:
    app = open_page(view="Pareto front", points=["Full: STR 98 %"])
    assert "Only Full: STR 98 %" in words(app, 1) and "RigL" not in words(app, 1)
    published = pd.read_csv(PUBLISHED / "transfer_accuracy.csv")
    full = published[(published["architecture"] == "resnet50") & (published["transfer"] == "full")]
    behind = full[(full["method"] == "Dense") | ((full["method"] == "STR") & (full["sparsity"] == 0.98))]
    assert f"{len(behind)} runs" in words(app, 1)


def test_pareto_front_over_all_tasks_and_one(open_page: Callable[..., AppTest]) -> None:
    app = open_page(view="Pareto front")
    assert "mean over 12 tasks" in words(app, 1) and legend(app, 1)[0] == "Pareto front"
    rows = table(app)
    front = rows[rows["front"] & (rows["transfer"] == "Full transfer")]
    assert list(front["method"]) == ["Dense", "STR", "WoodFisher", "WoodFisher", "WoodFisher"]
    app.selectbox(key="pareto_task").set_value("sun397")
    fine(app.run())
    rows = table(app)
    best = rows[rows["front"] & (rows["transfer"] == "Full transfer")]
    assert set(best.loc[best["sparsity"].between(80, 95), "method"]) == {"AC/DC"}


def test_sizes_of_the_studys_networks_are_unknown_and_said_so(open_page: Callable[..., AppTest]) -> None:
    app = open_page(axis="File size", view="Pareto front")
    assert len(app.get("plotly_chart")) == 0
    assert "tells the network's file size: the study's rows come without its networks" in app.info[0].value
    (back,) = [button for button in app.button if button.label == "Back to sparsity"]
    back.click()
    fine(app.run())
    assert app.selectbox(key="axis").value == "sparsity" and len(app.get("plotly_chart")) == 2


def test_an_axis_of_sizes_shows_the_networks_that_have_one(open_page: Callable[..., AppTest], home: Path) -> None:
    for method, sparsity, accuracy in (("Dense", 0, 0.7), ("AC/DC", 0.9, 0.6)):
        measure(home, method, sparsity, [accuracy] * 2, architecture="resnet50", dataset="dtd")
    app = open_page(axis="Nonzero parameters", view="Pareto front")
    assert legend(app) == ["AC/DC, your runs"]
    assert legend(app, 1) == ["Pareto front, your runs", "Dense, your runs", "AC/DC, your runs"]
    for number, title in enumerate(("How many more errors", "Which networks give the most accuracy for their size?")):
        said = words(app, number)
        assert title in said and "Nonzero parameters in million" in said
        assert "1,923 paper results left out" in said and "4 runs" in said
        assert figure(app, number)["layout"]["xaxis"]["title"]["text"] == "Nonzero parameters (million)"
    assert figure(app)["data"][0]["x"] == pytest.approx([np.log10(0.4)])
    assert "up and to the left is better" in words(app, 1)
    assert set(table(app)["nonzero_parameters"]) == {4_000_000, 400_000}
    elsewhere = open_page(axis="File size", architecture="MobileNetV1")
    assert "There are some of ResNet50: choose it above" in elsewhere.info[0].value


def test_measured_runs_appear_at_once_and_apart(open_page: Callable[..., AppTest], home: Path) -> None:
    app = open_page()
    measure(home, "Dense", 0, [0.7, 0.7], architecture="resnet50", dataset="dtd")
    measure(home, "AC/DC", 0.9, [0.6, 0.6], architecture="resnet50", dataset="dtd")
    fine(app.run())
    (mine,) = [trace for trace in figure(app)["data"] if trace["name"] == "AC/DC, your runs"]
    assert mine["y"] == pytest.approx([100 / 3]) and mine["line"]["dash"] == "dash"
    (published,) = [trace for trace in figure(app)["data"] if trace["name"] == "AC/DC" and trace["xaxis"] == "x"]
    assert published["y"] == pytest.approx([-3.19, -2.00, 1.66], abs=0.01)
    assert "One task only, so no error bar: AC/DC" in words(app)
    app.segmented_control(key="source").set_value("published")
    fine(app.run())
    assert "AC/DC, your runs" not in legend(app)


def test_an_architecture_with_measured_rows_only(open_page: Callable[..., AppTest], home: Path) -> None:
    measure(home, "Dense", 0, [0.98, 0.97])
    measure(home, "Magnitude", 0.5, [0.96, 0.95])
    app = open_page(architecture="EfficientNet-Lite0")
    assert legend(app) == ["Magnitude, your runs"]
    said = words(app)
    assert "No published rows for EfficientNet-Lite0" in said and "dense run of the same backbone" in said
    assert PROTOCOL in said and "Full transfer: no rows" in said


def test_no_baseline_is_said_and_never_guessed(open_page: Callable[..., AppTest], home: Path) -> None:
    measure(home, "Magnitude", 0.5, [0.96, 0.95])
    app = open_page(architecture="EfficientNet-Lite0")
    assert len(app.get("plotly_chart")) == 0
    assert "No baseline for Linear: Magnitude 50 %, your runs" in app.warning[0].value
    assert table(app)["mean_relative_error_increase"].isna().all()
    tasks = open_page("tasks", architecture="EfficientNet-Lite0", value="Difference to dense")
    assert tasks.warning[0].value.startswith("No baseline")


def test_last_epoch_counts_measured_runs_only(open_page: Callable[..., AppTest], home: Path) -> None:
    app = open_page(accuracy="Last epoch")
    assert "no last-epoch accuracy" in app.info[0].value
    measure(home, "Dense", 0, [0.9, 0.9], architecture="resnet50")
    measure(home, "Magnitude", 0.5, [0.8, 0.8], architecture="resnet50")
    fine(app.run())
    (line,) = [trace for trace in figure(app)["data"] if "y" in trace and trace["y"][0] is not None]
    assert line["y"] == pytest.approx([100 * (0.21 - 0.11) / 0.11])


def test_an_empty_view_offers_the_way_back(open_page: Callable[..., AppTest]) -> None:
    app = open_page(methods=["GMP"])
    assert len(app.get("plotly_chart")) == 0
    assert "No published rows for GMP" in app.info[0].value
    (again,) = [button for button in app.button if button.label == "Show everything again"]
    again.click()
    fine(app.run())
    assert len(legend(app)) == 10


def test_an_architecture_without_rows_says_so(open_page: Callable[..., AppTest]) -> None:
    for page in ("tradeoffs", "tasks"):
        app = open_page(page, architecture="ResNet18")
        assert "No published rows for ResNet18" in app.info[0].value
        (again,) = [button for button in app.button if button.label == "Show everything again"]
        again.click()
        fine(app.run())
        assert len(app.get("plotly_chart")) == 1


def test_lottery_tickets_alone_are_offered_not_missing(open_page: Callable[..., AppTest]) -> None:
    app = open_page(methods=["LTH-T"], transfer="Linear")
    assert "left out unless asked for" in app.info[0].value
    (show,) = [button for button in app.button if button.label == "Show LTH-T, linear"]
    show.click()
    fine(app.run())
    assert "LTH-T" in legend(app)


def test_a_link_with_an_unknown_name_says_so(open_page: Callable[..., AppTest]) -> None:
    app = open_page(methods=["AC/DD", "STR"], architecture="ResNet5O", points=["Full: STR 91 %"])
    said = [toast.value for toast in app.toast]
    assert len(said) == 3
    assert any("Unknown choice under Methods 'AC/DD'. Did you mean AC/DC" in words for words in said)
    assert any("Unknown choice under Architecture 'ResNet5O'. Did you mean ResNet50" in words for words in said)
    assert any("Unknown choice under Showing only 'Full\\: STR 91 %'" in words for words in said)
    assert len(open_page(methods=["STR"], architecture="ResNet50").toast) == 0
    (image,) = [toast.value for toast in open_page(methods=["![x](http://example.org/x.png)"]).toast]
    assert "![x](" not in image  # it would be fetched


@pytest.mark.parametrize(
    "query",
    [
        {"transfer": "Full", "source": "Published"},
        {"transfer": "Linear", "methods": ["AC/DC", "WoodFisher"], "tasks": ["CIFAR-10", "Oxford-IIIT Pets"]},
        {"transfer": "Linear", "sparsity": ["85", "95"]},
    ],
)
def test_command_gives_what_the_chart_shows(open_page: Callable[..., AppTest], query: dict) -> None:
    app = open_page(**query)
    (command,) = [code.value for code in app.code]
    run = subprocess.run([sys.executable, *shlex.split(command)[1:]], capture_output=True, cwd=REPOSITORY, check=True)
    given = {(row["method"], row["sparsity"]): row["mean_relative_error_increase"] for row in json.loads(run.stdout)}
    shown = {
        (line["name"], round(sparsity / 100, 4)): height / 100
        for line in figure(app)["data"]
        if "xaxis" in line
        for sparsity, height in zip(line["x"], line["y"], strict=True)
    }
    assert shown == pytest.approx(given)


def test_command_of_tasks_gives_the_cells(open_page: Callable[..., AppTest]) -> None:
    app = open_page("tasks", level="90 %")
    (command,) = [code.value for code in app.code]
    run = subprocess.run([sys.executable, *shlex.split(command)[1:]], capture_output=True, cwd=REPOSITORY, check=True)
    given = sorted(f"{100 * row['accuracy_mean']:.1f}" for row in json.loads(run.stdout))
    written = [text for numbers in figure(app)["data"][1:] for text in numbers["text"]]
    assert sorted(written) == given and len(given) > 12


def test_tasks_heat_map_and_table(open_page: Callable[..., AppTest]) -> None:
    app = open_page("tasks")
    heat = figure(app)["data"][0]
    assert heat["type"] == "heatmap"
    ticks = figure(app)["layout"]["xaxis"]["ticktext"]
    assert ticks[0] == "Oxford-IIIT Pets" and ticks[-1] == "Stanford Cars"
    wide = table(app).set_index("Network")
    assert wide.loc["Dense", "CIFAR-10"] == "91.2 ± 0.0 (5)"
    assert wide.shape == (20, 12)
    app.segmented_control(key="value").set_value("difference")
    fine(app.run())
    assert "Dense" not in figure(app)["layout"]["yaxis"]["ticktext"]
    assert "above 0 beats the dense network" in words(app)


def test_tasks_of_single_runs_say_so(open_page: Callable[..., AppTest]) -> None:
    app = open_page("tasks", architecture="MobileNetV1", task_transfer="Full")
    assert "108 of 120 numbers are from a single run" in words(app)
    assert table(app).set_index("Network").loc["AC/DC 90 %", "CIFAR-10"].endswith(" (1)")
    assert "±" not in table(app).set_index("Network").loc["AC/DC 90 %", "CIFAR-10"]


def test_cells_lead_to_their_runs(open_page: Callable[..., AppTest]) -> None:
    app = open_page("tasks", cells=["AC/DC 80 % on FGVC-Aircraft"])
    runs = table(app, 0)
    assert set(runs["method"]) == {"AC/DC", "Dense"} and len(runs) == 10
    assert set(runs["dataset"]) == {"FGVC-Aircraft"}


def test_datasets_of_one_name_and_different_content_stay_apart(open_page: Callable[..., AppTest], home: Path) -> None:
    measure(home, "Dense", 0, [0.9, 0.9])
    measure(home, "Dense", 0, [0.8], dataset_hash="ffffffff")
    app = open_page("tasks", architecture="EfficientNet-Lite0")
    assert list(table(app).columns) == ["Network", "Digits (0a1b2c)", "Digits (ffffff)"]


def test_tables_filter_by_words_and_columns(open_page: Callable[..., AppTest]) -> None:
    app = open_page(averages_filter="acdc", view="Averages")
    assert "No row contains these words" in app.info[0].value
    app = open_page(averages_filter="ac/dc 90 full")
    assert len(table(app)) == 1
    app = open_page(view="Runs", behind_filter="birds wood 95 full")
    assert len(table(app)) == 3 and table(app)["accuracy_final"].isna().all()
    app = open_page(view="Runs", behind_filter="WoodFisher 90")
    known = pd.read_csv(PUBLISHED / "transfer_accuracy.csv").query(
        "architecture == 'resnet50' and method == 'WoodFisher'"
    )
    assert set(table(app)["sparsity"]) == {90}  # not those with a 90 in their accuracy
    assert len(table(app)) == (known["sparsity"] == 0.9).sum()
    app = open_page(averages_columns=["Method", "Tasks"])
    assert list(table(app).columns) == ["method", "tasks"]


def test_pages_that_show_results_leave_torch_alone(home: Path) -> None:
    script = (
        "import sys; from streamlit.testing.v1 import AppTest\n"
        f"app = AppTest.from_file({APP!r}, default_timeout=60).run()\n"
        "app.switch_page('pages/tasks.py').run()\n"
        "assert not app.exception and len(app.get('plotly_chart')) == 1\n"
        "heavy = {'torch', 'torchvision', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=REPOSITORY)
