"""Compare in Streamlit's test harness: the answer, pairs and ranks, and the command that gives the same."""

import pytest

from sparse_core.cli import main
from tests.pages.support import (
    chart_text,
    choose,
    command_output,
    import_results,
    messages,
    open_app,
    table,
    write_runs,
)

NAMES = ("AC/DC 90 %", "STR 90 %", "WoodFisher 90 %")


def test_the_page_opens_on_an_answer_and_the_command_gives_the_same():
    app = open_app("compare")
    assert app.header[0].value == "AC/DC 90 % makes the fewest errors on 12 shared tasks"
    assert "−2.00 % over dense" in messages(app) and "not told apart from RigL ERK 5x 90 %, STR 90 %" in messages(app)
    assert "lower is better" in chart_text(app)
    assert "power of 80 %" in messages(app)
    printed = command_output(app)
    assert printed["means"][0]["name"] == "AC/DC 90 %" and printed["tasks"] == 12
    assert len(printed["pairs"]) == 10 and printed["ranks"]["p"] < 0.001


@pytest.mark.parametrize("tab", ["All pairs", "Ranks", "Means", "By task", "Runs"])
def test_each_tab(tab):
    app = open_app("compare", compared=tab, compare_networks=list(NAMES))
    shown = table(app)
    if tab == "All pairs":
        assert shown["p_holm"].notna().all() and len(shown) == 3
    elif tab == "Ranks":
        assert "Friedman" in chart_text(app, 1) and "critical difference" in chart_text(app, 1)
    elif tab == "By task":
        assert list(shown) == ["task", *NAMES] and len(shown) == 12
    elif tab == "Means":
        assert shown["runs"].tolist() == [60, 60, 60]


def test_the_population_of_the_interval_is_named():
    app = open_app("compare", compare_interval="Bootstrap over seeds")
    assert "these very tasks" in chart_text(app)
    choose(app, compare_interval="t")
    assert "new tasks like these" in chart_text(app)


def test_one_task_and_one_seed(home):
    write_runs(home, "Dense", 0, [0.9])
    write_runs(home, "A", 0.9, [0.8])
    write_runs(home, "B", 0.9, [0.7])
    app = open_app("compare", compare_source="Your runs", architecture="EfficientNet-Lite0")
    assert "1 shared task" in app.header[0].value and "no interval" in messages(app)
    assert "says nothing about other tasks" in messages(app)
    assert "unknown number" in messages(app)
    app = open_app("compare", compare_source="Your runs", architecture="EfficientNet-Lite0", compared="Ranks")
    assert "nothing to rank" in messages(app)


def test_ties_everywhere(home):
    for dataset in ("a", "b"):
        for method, sparsity in (("Dense", 0), ("A", 0.9), ("B", 0.9), ("C", 0.9)):
            write_runs(home, method, sparsity, [0.8, 0.8, 0.8], dataset=dataset, dataset_hash=dataset)
    app = open_app("compare", compare_source="Your runs", architecture="EfficientNet-Lite0", compared="Ranks")
    assert "nothing to rank" in messages(app)
    assert app.header[0].value == "All 3 networks make equally few errors on 2 shared tasks"
    choose(app, compare_networks=app.multiselect(key="compare_networks").value[:2])
    assert app.header[0].value == "Both networks make equally few errors on 2 shared tasks"


def test_fewer_than_two_networks_or_no_baseline_is_said(home, capsys):
    write_runs(home, "A", 0.9, [0.8])
    app = open_app("compare", compare_source="Your runs", architecture="EfficientNet-Lite0")
    assert "fewer than two networks" in app.info[0].value
    assert main(["compare", "--source", "measured", "--architecture", "efficientnet_lite0"]) == 2
    assert "No sparse efficientnet_lite0 of these results has a dense baseline" in capsys.readouterr().err
    app = open_app("compare", compare_networks=["STR 90 %"])
    assert "Choose two or more networks" in app.info[0].value


def test_imported_results_without_a_baseline_are_offered_and_it_is_said(home):
    import_results(home, "Smith 2024")
    import_results(home, "No dense", dense=False)
    app = open_app("compare", compare_source="No dense")
    assert not app.toast and "fewer than two networks" in app.info[0].value and "dense baseline" in app.info[0].value


def test_the_command_names_the_settings_and_networks_that_are_seen(home):
    usual, other = "SGD lr 0.1 ×0.1 every 3 epochs, 9 epochs", "SGD lr 0.01 ×0.1 every 3 epochs, 9 epochs"
    for protocol, accuracies in ((usual, [0.8, 0.8, 0.8]), (other, [0.7, 0.7])):
        for method, sparsity, network in (("Dense", 0, "d"), ("A", 0.9, "one"), ("A", 0.9, "two"), ("B", 0.9, "b")):
            write_runs(home, method, sparsity, accuracies, protocol=protocol, network=network)
    view = {"compare_source": "Your runs", "architecture": "EfficientNet-Lite0", "compare_series": "your runs, lr 0.01"}
    app = open_app("compare", **view)
    printed = command_output(app)
    assert len(printed["means"]) == 3 and all(
        line["runs"] == 2 for line in printed["means"]
    )  # not those with most runs


def test_the_same_networks_under_the_other_transfer_are_compared_anew():
    chosen = {"compare_networks": ["AC/DC 90 %", "WoodFisher 90 %"], "compared": "All pairs"}
    app = open_app("compare", **chosen)
    linear = table(app)
    choose(app, compare_transfer="full")
    assert app.header[0].value.startswith("WoodFisher 90 % makes the fewest errors")
    assert table(app)["difference"].iloc[0] != linear["difference"].iloc[0]


def test_imported_results_are_compared_among_themselves(home):
    import_results(home, "Smith 2024")
    app = open_app("compare", compare_source="Smith 2024")
    assert app.header[0].value.startswith("STR 90 % makes the fewest errors on 2 shared tasks")
    assert command_output(app)["tasks"] == 2
