"""Tasks in Streamlit's test harness: heat map, table and the runs of a cell."""

from tests.pages.support import chart_text, command_output, figure, open_app, table, write_runs


def test_the_command_gives_the_numbers_of_the_heat_map() -> None:
    app = open_app("tasks", level="90 %", value="Accuracy")
    given = sorted(f"{100 * row['accuracy_mean']:.1f}" for row in command_output(app))
    written = [text for numbers in figure(app)["data"][1:] for text in numbers["text"]]
    assert sorted(written) == given and len(given) > 12


def test_the_command_gives_the_selected_cells_within_the_filters_of_all_pages() -> None:
    cells = ["STR 90 % on Describable Textures", "STR 80 % on CIFAR-10"]
    app = open_app("tasks", cells=cells, filter_everywhere="true", filter_method=["STR"])
    given = [(row["method"], row["sparsity"], row["dataset"]) for row in command_output(app)]
    assert sorted(given) == [("STR", 0.8, "cifar10"), ("STR", 0.9, "dtd")]


def test_heat_map_and_table_of_accuracy_and_difference() -> None:
    app = open_app("tasks", value="Accuracy")
    heat = figure(app)["data"][0]
    assert heat["type"] == "heatmap"
    ticks = figure(app)["layout"]["xaxis"]["ticktext"]
    assert ticks[0] == "Oxford-IIIT Pets" and ticks[-1] == "Stanford Cars"
    wide = table(app).set_index("Network")
    assert wide.loc["Dense", "CIFAR-10"] == "91.2 ± 0.0 (5)"
    assert wide.shape == (20, 12)
    app = open_app("tasks")  # opens on the difference
    assert "Dense" not in figure(app)["layout"]["yaxis"]["ticktext"]
    assert "above 0 beats the dense network" in chart_text(app)


def test_the_caption_counts_single_seeds() -> None:
    app = open_app("tasks", architecture="MobileNetV1", task_transfer="Full")
    assert "All numbers are from a single seed" in chart_text(app)
    assert "12 runs are published under a seed that has another row (STR 75 %)" in chart_text(app)
    assert table(app).set_index("Network").loc["AC/DC 90 %", "CIFAR-10"].endswith(" (1)")
    assert "±" not in table(app).set_index("Network").loc["AC/DC 90 %", "CIFAR-10"]


def test_selected_cells_list_their_runs() -> None:
    app = open_app("tasks", cells=["AC/DC 80 % on FGVC-Aircraft"])
    runs = table(app, 0)
    assert set(runs["method"]) == {"AC/DC", "Dense"} and len(runs) == 10
    assert set(runs["dataset"]) == {"FGVC-Aircraft"}


def test_datasets_with_one_name_and_different_content_have_a_column_each(home) -> None:
    write_runs(home, "Dense", 0, [0.9, 0.9])
    write_runs(home, "Dense", 0, [0.8], dataset_hash="ffffffff")
    app = open_app("tasks", architecture="EfficientNet-Lite0")
    assert list(table(app).columns) == ["Network", "Digits (0a1b2c)", "Digits (ffffff)"]


def test_nothing_is_offered_that_would_empty_the_view(home) -> None:
    write_runs(home, "Dense", 0, [0.9, 0.9])
    app = open_app("tasks", architecture="EfficientNet-Lite0")
    assert "Only dense networks match" in app.info[0].value and not app.warning
    offered = {group.key: group for group in app.get("button_group")}
    assert offered["task_transfer"].options == ["Linear"]
    assert "Not offered, for there are no such results of this architecture: full transfer" in (
        offered["task_transfer"].help
    )
    assert offered["source"].options == ["All", "Your runs"]
    assert "Paper results" in offered["source"].help.partition("Not offered")[2]
