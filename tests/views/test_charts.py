"""Charts: what they show, captions, labels without overlap, distinct colours."""

import html
import itertools
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plotly import graph_objects as go
from plotly.colors import hex_to_rgb, sample_colorscale, unlabel_rgb

from sparse_core.catalog import METHODS
from sparse_core.results import measures
from sparse_core.results.records import Records
from sparse_core.results.store import Store
from sparse_core.views import footnotes, labels, tables
from sparse_core.views.charts import captions, fitting, panels, style, text, tradeoffs, training
from sparse_core.views.charts import tasks as task_charts
from tests.support import charts
from tests.support.records import measured, row

TODAY = date(2030, 1, 2)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return Store(Records(tmp_path_factory.mktemp("home"))).results()


@pytest.fixture(scope="module")
def resnet50(results: pd.DataFrame) -> pd.DataFrame:
    return results[results["architecture"] == "resnet50"]


@pytest.fixture(scope="module")
def linear_table(resnet50: pd.DataFrame) -> pd.DataFrame:
    return tables.task_table(resnet50.query("transfer == 'linear'"), "best", measures.ordered_tasks(resnet50))


def tradeoff_of(rows: pd.DataFrame, *transfers: str, **options: object) -> go.Figure:
    return tradeoffs.tradeoff(named_summary(rows), transfers or ["linear"], **options)


def named_summary(rows: pd.DataFrame) -> pd.DataFrame:
    return labels.name_points(measures.summary(rows))


def lines_of(figure: go.Figure) -> dict[tuple[str, str], object]:
    return {(trace.name, trace.xaxis): trace for trace in figure.data if trace.xaxis}


def contrast(*colours: str) -> float:
    """The contrast of two colours in [1, 21], as WCAG 2 defines it."""
    values = np.array([hex_to_rgb(colour) for colour in colours]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    dark, light = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return (light + 0.05) / (dark + 0.05)


def rgb_to_hex(colour: str) -> str:
    return "#" + "".join(f"{round(value):02x}" for value in unlabel_rgb(colour))


def test_every_method_has_its_own_colour_and_marker() -> None:
    styles = {method: style.method_style(method) for method in METHODS}
    assert len(set(styles.values())) == len(METHODS)
    families: dict[str, set[str]] = {}
    for method, (_, marker) in styles.items():
        families.setdefault(METHODS[method].family, set()).add(marker.split("-")[0])
    expected = {"progressive": {"circle"}, "regularisation": {"square", "diamond"}, "lottery ticket": {"triangle"}}
    assert expected.items() <= families.items()
    assert style.method_style("an unknown method")[0] == style.GREY


def test_every_method_can_be_drawn_from_both_sources() -> None:
    levels = [("Dense", 0), *((method, 0.5) for method in METHODS if method != "Dense")]
    rows = measured(*(row(*level, 0.8, source=source) for source in ("published", "measured") for level in levels))
    figure = tradeoff_of(rows)
    symbols = {trace.name: trace.marker.symbol for trace in figure.data}
    assert len(set(symbols.values())) > len(METHODS)
    assert all(symbols[f"{method}, your runs"] == f"{symbols[method]}-open" for method, level in levels if level)


@pytest.mark.parametrize("transfer", ["linear", "full"])
@pytest.mark.parametrize("architecture", ["resnet50", "mobilenet_v1"])
def test_methods_that_share_a_chart_differ_in_colour(results: pd.DataFrame, architecture: str, transfer: str) -> None:
    shown = results.query("architecture == @architecture and transfer == @transfer")
    colours = [style.method_style(method)[0] for method in shown["method"].unique()]
    assert len(set(colours)) == len(colours)


@pytest.mark.parametrize("background", ["#FFFFFF", "#0E1117", "#191917"])
def test_colours_stand_out_on_light_and_dark(background: str) -> None:
    for colour, _ in style.STYLES.values():
        assert contrast(colour, background) > 2.2, (colour, background)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=12), st.floats(0.1, 5))
def test_spread_keeps_distance_order_and_limits(positions: list[float], gap: float) -> None:
    placed = fitting.spread(positions, gap, -60, 60)
    assert placed is not None
    assert min(placed) >= -60 - 1e-6 and max(placed) <= 60 + 1e-6
    order = np.argsort(positions, kind="stable")
    assert (np.diff(np.array(placed)[order]) >= gap - 1e-6).all()


def test_spread_moves_only_what_collides_and_both_sides_alike() -> None:
    assert fitting.spread([0.0, 10.0, 4.0], 3, -20, 20) == [0.0, 10.0, 4.0]
    assert fitting.spread([0.0, 0.0], 3, -20, 20) == pytest.approx([-1.5, 1.5])
    assert fitting.spread([0.0, 1.0, 2.0], 10, 0, 15) is None


def test_tradeoff_reproduces_figure_2_of_the_paper(resnet50: pd.DataFrame) -> None:
    figure = tradeoff_of(resnet50, "linear", "full")
    line = lines_of(figure)["WoodFisher", "x2"]
    assert list(line.x) == pytest.approx([80, 90, 95])
    assert list(line.y) == pytest.approx([0.66, 4.03, 13.4], abs=0.05)
    assert list(line.error_y.array) == pytest.approx([1.54, 2.27, 2.49], abs=0.01)
    assert [round(value, 1) for value in lines_of(figure)["AC/DC", "x"].y] == [-3.2, -2.0, 1.7]
    assert lines_of(figure)["AC/DC", "x"].line.color == style.method_style("AC/DC")[0]
    assert figure.layout.yaxis.range != figure.layout.yaxis2.range
    dense = [shape for shape in figure.layout.shapes if shape.line.dash == "dash"]
    assert len(dense) == 2 and all(shape.y0 == shape.y1 == 0 for shape in dense)
    legend = [trace.name for trace in figure.data if trace.showlegend]
    assert len(legend) == len(set(legend)) and not {"GMP", "M-FAC"} & set(legend)


def test_names_at_the_ends_of_lines_stand_apart_and_replace_the_legend(resnet50: pd.DataFrame) -> None:
    figure = tradeoff_of(resnet50, "linear", "full")
    assert not figure.layout.showlegend
    for axis in ("y", "y2"):
        low, high = figure.layout[f"yaxis{axis[1:]}"].range
        ends = [note for note in figure.layout.annotations if note.yref == axis and note.xshift == 3]
        assert {label.text for label in ends} >= {"dense", "WoodFisher", "STR", "AC/DC"}
        pixels = sorted(label.y / (high - low) * panels.PLOT_HEIGHT for label in ends)
        assert min(np.diff(pixels)) >= fitting.LABEL_GAP - 1e-6


def test_a_legend_replaces_names_that_find_no_room(resnet50: pd.DataFrame) -> None:
    rows = resnet50.assign(protocol=resnet50["protocol"], source="measured", network="n", network_name="", recipe="")
    long = rows.assign(method=rows["method"].replace({"AC/DC": "A method with a name that no panel has the room for"}))
    figure = tradeoff_of(long, "linear", "full")
    assert figure.layout.showlegend
    assert not [note for note in figure.layout.annotations if note.xshift == 3]


def test_panels_share_an_axis_or_each_has_its_own(resnet50: pd.DataFrame) -> None:
    own, same = (tradeoff_of(resnet50, "linear", "full", scale=tradeoffs.Scale(same=each)) for each in (False, True))
    assert own.layout.yaxis.range != own.layout.yaxis2.range
    assert same.layout.yaxis.range == same.layout.yaxis2.range


def test_a_logarithmic_axis_shows_ratios_of_errors(resnet50: pd.DataFrame) -> None:
    figure = tradeoff_of(resnet50, "full", scale=tradeoffs.Scale(log=True, low=-10, high=150))
    line = lines_of(figure)["LTH-T", "x"]
    assert 2 ** np.array(line.y) == pytest.approx([1.093, 1.368, 2.104], abs=0.001)
    assert figure.layout.yaxis.range == pytest.approx((np.log2(0.9), np.log2(2.5)))
    ticks = dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True))
    assert ticks["1"] == 0 and ticks["2"] == 1


def test_points_on_top_of_each_other_are_all_named() -> None:
    levels = [("Dense", 0, 0.9), ("AC/DC", 0.5, 0.8), ("STR", 0.5, 0.8), ("WoodFisher", 0.5, 0.6)]
    figure = tradeoff_of(measured(*(row(*level, source="published") for level in levels)))
    said = {trace.name: trace.hovertext[0] for trace in figure.data}
    assert "also here:<br><b>STR</b>" in said["AC/DC"] and "also here:<br><b>AC/DC</b>" in said["STR"]
    assert "also here" not in said["WoodFisher"]


def test_selected_points_are_larger_and_the_rest_is_dimmed(resnet50: pd.DataFrame) -> None:
    figure = tradeoffs.tradeoff(named_summary(resnet50), ["full"], ["Full: AC/DC 90 %"])
    line = lines_of(figure)["AC/DC", "x"]
    sizes = dict(zip(line.customdata, line.marker.size, strict=True))
    assert sizes["Full: AC/DC 90 %"] > sizes["Full: AC/DC 80 %"]
    opacity = dict(zip(line.customdata, line.marker.opacity, strict=True))
    assert opacity["Full: AC/DC 90 %"] == 1 and opacity["Full: AC/DC 80 %"] == tradeoffs.DIM
    assert lines_of(figure)["STR", "x"].opacity == tradeoffs.DIM


def two_protocols() -> pd.DataFrame:
    """Dense and AC/DC networks of one's own under two learning rates, and of the paper."""
    text = "SGD lr {} ×0.1 every 50 epochs, momentum 0.9, weight decay 0.0005, 20 epochs, batch 64, fp32 features"
    protocols = [text.format(rate) for rate in ("0.1", "0.01")]
    return measured(
        *(row("Dense", 0, 0.9, protocol=protocol) for protocol in protocols),
        *(row("AC/DC", 0.5, 0.8, protocol=protocol) for protocol in protocols),
        *(row(method, level, 0.85, source="published") for method, level in (("Dense", 0), ("AC/DC", 0.5))),
    )


def test_protocols_are_named_by_what_differs_and_each_line_has_its_own_look() -> None:
    looks = {
        trace.name: (trace.line.dash, trace.marker.symbol, list(trace.y)) for trace in tradeoff_of(two_protocols()).data
    }
    assert looks["AC/DC"] == ("solid", "square", pytest.approx([0]))
    own = {name: look for name, look in looks.items() if name != "AC/DC"}
    assert own == {
        "AC/DC, your runs, lr 0.01": ("dash", "square-open", pytest.approx([100])),
        "AC/DC, your runs, lr 0.1": ("dot", "square-open-dot", pytest.approx([100])),
    }


def test_points_of_two_protocols_look_different_where_there_is_no_line() -> None:
    table = measures.with_front(measures.over_same_tasks(measures.per_configuration(two_protocols())), "sparsity")
    figure = tradeoffs.pareto(labels.name_points(table), ["linear"])
    points = {
        trace.name: (trace.marker.symbol, trace.marker.line.width) for trace in figure.data if trace.mode == "markers"
    }
    assert len(set(points.values())) == len(points) == 6


def test_a_single_task_has_the_spread_over_seeds() -> None:
    seeds = [("Dense", 0, 0.9), ("Dense", 0, 0.92), ("AC/DC", 0.5, 0.8), ("AC/DC", 0.5, 0.83)]
    rows = measured(*(row(*each, seed=number % 2) for number, each in enumerate(seeds)))
    summary = named_summary(rows)
    (line,) = tradeoffs.tradeoff(summary, ["linear"]).data
    # Both sides are the user's own runs with the same seeds: the error is that of r = e₁ / e₀ over pairs.
    residuals = np.array([0.2, 0.17]) - 0.185 / 0.09 * np.array([0.1, 0.08])
    assert list(line.error_y.array) == pytest.approx([100 * residuals.std(ddof=1) / np.sqrt(2) / 0.09])
    assert "standard error over seeds" in line.hovertext[0]
    assert footnotes.single_task_notes(summary) == ["One task only, so ± is the standard error over seeds: AC/DC"]


def test_a_single_task_and_seed_has_no_error_bar_and_a_note() -> None:
    summary = named_summary(measured(row("Dense", 0, 0.9), row("AC/DC", 0.5, 0.8)))
    (line,) = tradeoffs.tradeoff(summary, ["linear"]).data
    assert list(line.error_y.array) == [0]
    assert "no standard error" in line.hovertext[0]
    assert footnotes.single_task_notes(summary) == ["One task without a spread over seeds, so no error bar: AC/DC"]


def test_a_caption_makes_the_figure_taller_and_keeps_the_plot(resnet50: pd.DataFrame) -> None:
    plain = tradeoff_of(resnet50)
    caption = footnotes.caption(resnet50, ["Only the tasks CIFAR-10"], footnotes.row_notes(resnet50), "best", TODAY)
    figure = captions.with_caption(plain, "A title", "ResNet50 & friends <b>", caption)
    assert figure.layout.height > plain.layout.height
    assert all(figure.layout.margin[edge] > plain.layout.margin[edge] for edge in ("t", "b"))
    plot = [each.layout.height - each.layout.margin.t - each.layout.margin.b for each in (plain, figure)]
    assert plot[0] == pytest.approx(plot[1])
    words = html.unescape(" ".join(entry.text.replace("<br>", " ") for entry in figure.layout.annotations))
    for part in ("A title", "ResNet50 & friends <b>", "1,923 runs", "CVPR 2022", "RigL, full transfer", "CIFAR-10"):
        assert part in words
    assert "2030-01-02" in words and "optimistic" in words
    assert "&lt;b&gt;" in figure.to_json()
    widest = max(text.width(entry.text, entry.font.size) for entry in figure.layout.annotations)
    assert widest <= fitting.PAGE_FONT * fitting.PAGE.width


def test_heat_map_numbers_are_those_of_their_cells(resnet50: pd.DataFrame, linear_table: pd.DataFrame) -> None:
    tasks, networks = labels.distinct(linear_table["task"]), labels.distinct(linear_table["row"])
    figure = task_charts.heat_map(linear_table, "accuracy_mean", networks, tasks)
    heat, *numbers = figure.data
    grid = np.array(heat.z)
    assert grid.shape == (20, 12)
    written = {(x, y): number for trace in numbers for x, y, number in zip(trace.x, trace.y, trace.text, strict=True)}
    assert len(written) == 240
    for (x, y), number in written.items():
        assert float(number) == pytest.approx(grid[y, x], abs=0.051)
    assert networks[0] == "Dense" and "AC/DC 80 %" in networks
    mine = resnet50.query("transfer == 'linear' and method == 'AC/DC' and sparsity == 0.8 and dataset == 'aircraft'")
    at = grid[networks.index("AC/DC 80 %"), tasks.index("FGVC-Aircraft")]
    assert at == pytest.approx(100 * mine["accuracy_best"].mean())
    assert at == pytest.approx(55.1, abs=0.05)


def test_heat_map_of_differences_is_centred_at_zero_and_readable(linear_table: pd.DataFrame) -> None:
    rows, tasks = labels.distinct(linear_table["row"]), labels.distinct(linear_table["task"])
    figure = task_charts.heat_map(linear_table, "difference", rows, tasks)
    heat, *numbers = figure.data
    assert heat.zmin == -heat.zmax
    assert {trace.textfont.color for trace in numbers} == {"#000000", "#FFFFFF"}
    for trace in numbers:
        shares = [(heat.z[y][x] - heat.zmin) / (heat.zmax - heat.zmin) for x, y in zip(trace.x, trace.y, strict=True)]
        back = sample_colorscale([list(stop) for stop in heat.colorscale], np.clip(shares, 0, 1).tolist())
        assert min(contrast(trace.textfont.color, rgb_to_hex(colour)) for colour in back) >= 4.5
    assert all(trace.unselected.textfont.color == trace.textfont.color for trace in numbers)
    texts = list(itertools.chain.from_iterable(trace.text for trace in numbers))
    assert "0.0" in texts and {text[0] for text in texts} >= {"−", "+"}


def test_pareto_front_joins_the_optimal_networks() -> None:
    levels = [("Dense", 0, 0.9), ("STR", 0.5, 0.8), ("AC/DC", 0.5, 0.85), ("AC/DC", 0.9, 0.7), ("STR", 0.95, 0.6)]
    rows = measured(*(row(*level, seed=seed) for level in levels for seed in range(3)))
    table = measures.with_front(measures.over_same_tasks(measures.per_configuration(rows)), "sparsity")
    front = {(entry.method, entry.sparsity) for entry in table.itertuples() if entry.front}
    assert front == {("Dense", 0), ("AC/DC", 0.5), ("AC/DC", 0.9), ("STR", 0.95)}
    figure = tradeoffs.pareto(labels.name_points(table), ["linear"])
    line = figure.data[0]
    assert line.name == "Pareto front, your runs"
    assert list(line.y) == pytest.approx([90, 85, 70, 60])
    assert list(line.x) == pytest.approx([0, np.log10(2), 1, np.log10(20)])


def sized_pareto(axis: str, *levels: tuple[str, float, float, float]) -> tuple[pd.DataFrame, go.Figure]:
    """The table and the chart of networks given by method, sparsity, accuracy and size."""
    rows = measured(*(row(*level[:3], **dict.fromkeys(labels.SIZES, level[3])) for level in levels))
    table = measures.with_sizes(measures.over_same_tasks(measures.per_configuration(rows)), rows)
    table = labels.name_points(measures.with_front(table, axis))
    return table, tradeoffs.pareto(table, ["linear"], axis=axis)


@pytest.mark.parametrize(
    ("axis", "title"),
    [
        ("nonzero_parameters", "Nonzero parameters (million)"),
        ("multiply_adds", "Multiply-adds of the nonzero weights (million)"),
        ("file_size", "File size (MB)"),
    ],
)
def test_pareto_against_a_size_prefers_the_smaller(axis: str, title: str) -> None:
    # STR is sparser than AC/DC, but larger: other layers, say. So it is on the front of sparsity alone.
    levels = [("Dense", 0, 0.9, 20e6), ("AC/DC", 0.8, 0.85, 2e6), ("STR", 0.9, 0.8, 4e6)]
    table, figure = sized_pareto(axis, *levels)
    assert set(table.loc[table["front"], "method"]) == {"Dense", "AC/DC"}
    assert measures.with_front(table, "sparsity")["front"].all()
    front = figure.data[0]
    assert list(front.x) == pytest.approx([np.log10(2), np.log10(20)])
    assert list(front.y) == pytest.approx([85, 90])
    assert figure.layout.xaxis.title.text == title
    assert list(figure.layout.xaxis.ticktext) == ["2", "5", "10", "20"]
    assert "4 million" in " ".join(figure.data[2].hovertext) or "4 MB" in " ".join(figure.data[2].hovertext)


def test_ticks_of_sizes_close_to_each_other_are_round_and_in_place() -> None:
    _, figure = sized_pareto("nonzero_parameters", ("Dense", 0, 0.9, 3.4e6), ("Magnitude", 0.3, 0.8, 2.4e6))
    sizes = [float(text) for text in figure.layout.xaxis.ticktext]
    assert sizes == [2.4, 2.6, 2.8, 3.0, 3.2, 3.4]
    assert list(figure.layout.xaxis.tickvals) == pytest.approx(np.log10(sizes))
    _, single = sized_pareto("nonzero_parameters", ("Dense", 0, 0.9, 3.37e6))
    assert list(single.layout.xaxis.ticktext) == ["3.37"]


def test_tradeoff_against_a_size_labels_lines_at_their_largest() -> None:
    levels = [("Dense", 0, 0.9, 10e6), ("AC/DC", 0.5, 0.85, 5e6), ("AC/DC", 0.9, 0.8, 1e6)]
    rows = measured(*(row(*level[:3], nonzero_parameters=level[3], multiply_adds=1, file_size=1) for level in levels))
    summary = measures.with_sizes(named_summary(rows), rows)
    figure = tradeoffs.tradeoff(summary, ["linear"], axis="nonzero_parameters")
    (line,) = figure.data
    assert list(line.x) == pytest.approx([np.log10(5), 0])
    assert list(line.y) == pytest.approx([50, 100])
    (lead,) = [shape for shape in figure.layout.shapes if shape.name == "leader" and shape.y0]
    assert (lead.x0, lead.y0) == pytest.approx((np.log10(5), 50), rel=0.02)
    assert "AC/DC, your runs" in {entry.text for entry in figure.layout.annotations}
    assert figure.layout.xaxis.title.text == "Nonzero parameters (million)"
    assert list(line.text) == ["50 %", "90 %"]


def test_accuracy_per_task_has_every_method_on_every_task(resnet50: pd.DataFrame) -> None:
    rows = resnet50[resnet50["sparsity"].isin([0, 0.9])]
    table = tables.task_table(rows, "best", measures.ordered_tasks(resnet50, "name"))
    tasks = labels.distinct(table["task"])
    assert tasks == sorted(tasks)
    figure = task_charts.accuracy_per_task(table, ["linear", "full"], tasks)
    assert {len(trace.x) for trace in figure.data} == {12}
    assert list(figure.layout.yaxis.ticktext) == tasks[::-1]


def test_a_long_name_has_room_in_the_legend() -> None:
    names = ["AC/DC 90 %, a network from the cluster (3f2a1b), CIFAR-10, linear, seed 4", "Dense"]
    events = pd.DataFrame({"run": names, "epoch": 1, "top1": 0.5})
    figure, short = (training.learning_curves(frame) for frame in (events, events.assign(run=["seed 0", "seed 1"])))
    assert figure.layout.legend.entrywidth >= text.width(names[0], style.LABEL_SIZE)
    assert short.layout.legend.entrywidth < 100
    assert figure.layout.height == short.layout.height + fitting.LEGEND_ROW  # one below the other


def test_the_data_of_a_chart_are_its_points(resnet50: pd.DataFrame) -> None:
    points = captions.data(tradeoff_of(resnet50, "linear", "full"))
    mine = points[(points["line"] == "AC/DC") & (points["panel"] == "1")]
    assert mine["x"].tolist() == [80, 90, 95]
    assert mine["y"].tolist() == pytest.approx([-3.2, -2.0, 1.7], abs=0.05)
    assert (mine["y_high"] - mine["y"]).tolist() == pytest.approx((mine["y"] - mine["y_low"]).tolist())
    assert mine["details"].str.contains("12 tasks, 60 runs").all()


def test_titles_of_narrow_panels_are_shortened_alike_and_names_of_tasks_are_whole():
    slide = fitting.Canvas(640, 360, caption=False, fixed=True)
    shown = [each.text for each in captions.fitted(charts.chart("tradeoff"), slide).layout.annotations]
    assert {"<b>Linear transfer</b>", "<b>Full transfer</b>"} <= set(shown)
    tasks = charts.chart("heat map").layout.xaxis.ticktext
    assert {"Describable Textures", "Oxford Flowers-102"} <= set(tasks)
