"""Structure in Streamlit's test harness, and its tables and charts: shares computed by hand, states, refusals."""

import dataclasses

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest
from torch import nn

from sparse_core.jobs import queue
from sparse_core.networks import backbones, library, masks, packed_masks, structure, structure_analysis
from sparse_core.views import labels, tables
from sparse_core.views.charts import structure as structure_charts
from tests.pages.support import chart_text, choose, figure, metrics, open_page, submitted, table
from tests.support.records import measured, record, row, write, write_probes

DENSE, SPARSE = "efficientnet_lite0", "efficientnet_lite0_magnitude_50"


def network(pruned: int) -> nn.Module:
    """Two convolutions of 4 and 2 filters, the first ``pruned`` of the first one zero."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Conv2d(4, 2, 1, bias=False)).eval()
    for parameter in module.parameters():
        nn.init.ones_(parameter)
    with torch.no_grad():
        module[0].weight[:pruned] = 0
    return module


def keep(home, name: str, pruned: int, module: nn.Module | None = None, mask: masks.Mask | None = None) -> None:
    """Store the structure of a small network as that of the backbone ``name``."""
    module = module or network(pruned)
    mask = mask or masks.from_zeros(module)
    found = dataclasses.replace(structure_analysis.analyse(module, 8), hash=f"{name}-{pruned}")
    masks.save(mask, structure.mask_file(home, found.hash))
    structure.store(home, found)
    structure.store_card(home, card(home, name), found.hash)


def opened(home, *pruned: int, **query: str | list[str]) -> AppTest:
    """The page once the structures of DENSE and, with a second number, SPARSE are known, with so many filters pruned."""
    for name, number in zip((DENSE, SPARSE), pruned, strict=False):
        keep(home, name, number)
    return open_page("structure", **query)


def card(home, name: str) -> backbones.BackboneCard:
    return next(card for card in library.available(home) if card.name == name)


def label(home, name: str) -> str:
    """A backbone as links name it."""
    return labels.backbone_label(card(home, name))


def test_a_new_backbone_is_analysed_once(home):
    app = open_page("structure")
    app.run()
    assert [(job.kind, job.spec.backbone) for job in submitted(home)] == [("structure", DENSE)]
    assert not app.metric


def test_a_download_waits_for_a_click(home):
    app = open_page("structure")
    queue.end(home, queue.queued(home)[0], "failed", "Stopped.")
    choose(app, backbone="resnet18")
    assert "not on this machine yet" in app.info[0].value
    assert not submitted(home)
    app.button(key="fetch_resnet18").click().run()
    assert [job.spec.backbone for job in submitted(home)] == ["resnet18"]


def test_a_failed_analysis_can_be_repeated(home):
    app = open_page("structure")
    queue.end(home, queue.queued(home)[0], "failed", "The disk is full.")
    app.run()
    assert app.error[0].value == "The disk is full."
    app.button(key=f"again_{DENSE}").click().run()
    assert not app.error
    assert len(submitted(home)) == 1


def test_totals_of_a_small_network(home):
    # 108 + 8 weights of which 27 are 0; both convolutions have 6 × 6 outputs; one of 6 filters is pruned and removable.
    app = opened(home, 1)
    shown = metrics(app)
    assert (shown["Backbone sparsity"], shown["Nonzero parameters"]) == ("23.3 %", "89 of 116")
    assert shown["Multiply-adds"] == "3.2 of 4.18 thousand"
    assert shown["Fully pruned filters"] == shown["Removable filters"] == "16.7 %"
    # Removing the filter removes its 27 weights and the 2 of the next convolution that read its output.
    assert "would save 25.0 % of all parameters and 25.0 % of all multiply-adds" in app.caption[0].value
    assert not submitted(home)


def test_constants_are_explained(home):
    helps = " ".join(metric.help for metric in opened(home, 1).metric)
    assert "a constant if the BatchNorm after it has a bias" in helps
    assert "table 4 of the paper: 12.5 %" in helps


def test_the_bars_name_layers_and_shares(home):
    app = opened(home, 1)
    sparse, pruned = figure(app, 0)["data"]
    assert (sparse["y"], pruned["y"]) == ([25.0, 0.0], [25.0, 0.0])
    assert "12.5 % on average over layers, 16.7 % of all" in chart_text(app, 0)


def test_the_mask_of_a_layer(home):
    app = opened(home, 1, part="Layer mask")
    assert app.selectbox(key="layer").value == "0"
    assert "4 × 3 × 3 × 3" in chart_text(app, 1)
    assert "2 × 4 × 1 × 1" in chart_text(choose(app, layer="2"), 1)


def test_fully_pruned_filters_by_method_as_in_table_4(home):
    keep(home, SPARSE, 1)  # a quarter of the first layer's filters, none of the second's
    keep(home, "efficientnet_lite0_magnitude_70", 4, network(4))
    app = open_page("structure", part="By method", backbone=label(home, SPARSE))
    (drawn,) = figure(app, 1)["data"]
    assert (drawn["name"], drawn["x"], drawn["y"]) == ("Magnitude", [50.0, 70.0], [12.5, 50.0])
    assert table(app).to_dict("records") == [{"Method": "Magnitude", "50 %": "12.5 % (1)", "70 %": "50.0 % (1)"}]
    assert "1 more were not analysed" in chart_text(app, 1)
    assert not submitted(home)


def test_networks_of_one_method_and_sparsity_are_averaged(home):
    found = [
        (card(home, SPARSE), dataclasses.replace(structure_analysis.analyse(network(pruned), 8))) for pruned in (0, 2)
    ]
    (row,) = tables.filters_by_method(found).to_dict("records")
    assert (row["share"], row["networks"]) == (0.125, 2)
    assert row["share_std"] == pytest.approx(0.25 / 2**0.5)


def whole_mask(kept: bool) -> masks.Mask:
    return masks.Mask({name: torch.full(weight.shape, kept) for name, weight in network(0).state_dict().items()})


def test_a_stored_mask_that_keeps_zeros_is_shown_unchanged(home):
    keep(home, DENSE, 1, mask=whole_mask(True))
    app = open_page("structure", part="Layer mask")
    assert "0 % of the weights are pruned, 25.0 % are 0" in chart_text(app, 1)


def test_a_layer_that_the_next_backbone_lacks_is_replaced(home):
    keep(home, DENSE, 1)
    keep(home, SPARSE, 2, nn.Sequential(nn.Conv2d(3, 4, 1, bias=False)).eval())
    app = open_page("structure", part="Layer mask", layer="2. 2")
    assert choose(app, backbone=SPARSE).selectbox(key="layer").value == "0"


def test_several_side_by_side(home):
    app = opened(home, 0, 2, part="Side by side", side=[label(home, DENSE), label(home, SPARSE)])
    mean, total, removable = figure(app, 2)["data"]
    assert (mean["x"], removable["x"]) == ([0.0, 25.0], [0.0, pytest.approx(100 / 3)])
    assert total["x"] == [0.0, pytest.approx(100 / 3)]
    assert not submitted(home)


def test_side_by_side_analyses_the_backbones_of_the_architecture_one_by_one(home):
    opened(home, 0, part="Side by side")
    assert [job.spec.backbone for job in submitted(home)] == ["efficientnet_lite0_magnitude_30"]


def test_overlap_of_two_masks(home):
    app = opened(home, 1, 3, part="Mask overlap", other=label(home, SPARSE))
    bars, random = figure(app, 1)["data"]
    # 27 weights in both of 81 in either, and all 8 of the second layer; at random 81 · 27 / 108 would be in both.
    assert bars["y"] == [pytest.approx(100 / 3), 100.0]
    assert random["y"] == [pytest.approx(100 * 20.25 / (81 + 27 - 20.25)), 100.0]
    assert "IoU 39.3 %" in chart_text(app, 1)


def test_two_empty_masks_overlap_completely(home):
    for name in (DENSE, SPARSE):
        keep(home, name, 4, mask=whole_mask(False))
    assert "IoU 100 %" in chart_text(open_page("structure", part="Mask overlap", other=label(home, SPARSE)), 1)


def test_masks_of_different_layers_are_not_compared(home):
    keep(home, DENSE, 0)
    keep(home, SPARSE, 0, nn.Sequential(nn.Conv2d(3, 4, 1, bias=False)).eval())
    app = open_page("structure", part="Mask overlap", other=label(home, SPARSE))
    assert "cannot be compared" in app.info[0].value


def test_accuracy_without_runs_shows_the_next_step(home):
    assert "Measure one" in opened(home, 0, part="Accuracy and size").info[0].value


def test_accuracy_against_each_size(home):
    write_probes(home)
    app = opened(home, 0, part="Accuracy and size")
    dense, sparse = figure(app, 1)["data"]
    assert (dense["x"], dense["y"]) == ([4.0], [pytest.approx(85.0)])
    assert (sparse["x"], sparse["y"], sparse["text"][0].strip()) == ([2.0], [70.0], "50 %")
    assert "n = 1" in chart_text(app, 1)
    assert figure(choose(app, size="multiply_adds"), 1)["data"][0]["x"] == [400.0]


def test_networks_trained_alike_are_one_point_beside_their_size_and_their_source_is_named(home):
    for network, accuracy in (("a", 0.7), ("b", 0.8)):
        made = record(sparsity=0.5, best=accuracy)
        spec = {**made.spec, "backbone": network, "backbone_hash": network}
        result = {**made.result, "recipe": "12 epochs"}
        write(home, dataclasses.replace(made, run_id=f"linear-0-{network}", spec=spec, result=result))
    app = opened(home, 0, part="Accuracy and size")
    (point,) = figure(app, 1)["data"]
    assert point["y"] == [pytest.approx(75.0)] and "from different upstream seeds are one point" in chart_text(app, 1)
    assert "Your runs: measured on the user's own machine" in chart_text(app, 1)


def test_runs_of_different_protocols_are_never_averaged():
    sizes = dict.fromkeys(labels.SIZES, 1e6)
    runs = measured(*(row("STR", 0.9, best, protocol=name, **sizes) for name, best in (("A", 0.5), ("B", 0.7))))
    table = tables.accuracy_table(runs)
    assert sorted(table["accuracy_mean"]) == [0.5, 0.7]
    assert len(structure_charts.accuracy(table, "file_size").data) == 2


def test_overlap_table_agrees_with_the_masks(tmp_path):
    torch.manual_seed(0)
    a, b = (masks.top_k(nn.Sequential(nn.Conv2d(8, 16, 3), nn.Conv2d(16, 8, 3)), 0.8) for _ in range(2))
    for mask, name in ((a, "a"), (b, "b")):
        masks.save(mask, tmp_path / name)
    (first, shapes), (second, _) = (packed_masks.load_packed(tmp_path / name) for name in "ab")
    table = tables.overlap_table(first, second, shapes)
    both = [(kept & b.tensors[name]).sum().item() for name, kept in a.tensors.items()]
    either = [(kept | b.tensors[name]).sum().item() for name, kept in a.tensors.items()]
    assert table["kept_in_both"].tolist() == both
    assert table["kept_in_either"].tolist() == either
    assert table["overlap"].tolist() == [each / all_ for each, all_ in zip(both, either, strict=True)]


def test_mask_image_keeps_shares_and_scale():
    kept = np.zeros((600, 4, 3, 3), bool)
    kept[:300] = True
    cells = structure.image(kept, structure_charts.IMAGE_HEIGHT, structure_charts.IMAGE_WIDTH)
    drawn = structure_charts.mask(cells, 600, 36)
    (heat,) = drawn.data
    assert heat.z.shape == (256, 36)
    assert (heat.z.min(), heat.z.max()) == (0, 100)
    assert (drawn.layout.yaxis.range, drawn.layout.xaxis.range) == ((600, 0), (0, 36))


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(89, 116, "89 of 116"), (1_690_000, 3_370_000, "1.69 of 3.37 million"), (4e8, 4.1e9, "0.4 of 4.1 billion")],
)
def test_part_and_whole_have_one_unit(part, whole, text):
    assert labels.part_of(part, whole) == text


def test_several_networks_layer_by_layer(home):
    app = opened(home, 1, 2, part="Side by side", side=[label(home, DENSE), label(home, SPARSE)])
    dense, sparse = figure(app, 1)["data"]
    assert (dense["name"], sparse["name"]) == ("Dense", "Magnitude 50 %")
    assert (dense["y"], sparse["y"]) == (
        [25.0, 0.0],
        [50.0, 0.0],
    )  # one and two of the first layer's four filters are 0
    assert figure(app, 1)["layout"]["xaxis"]["ticktext"] == ["0", "2"]
    for share, expected in (("filters_pruned_share", [50.0, 0.0]), ("channels_removable_share", [0.0, 50.0])):
        assert figure(choose(app, by_layer=share), 1)["data"][1]["y"] == expected
    # 54 of the first layer's weights are kept in both masks, 81 in either; all of the second's.
    (overlap,) = figure(choose(app, by_layer="overlap"), 1)["data"]
    assert overlap["y"] == [pytest.approx(100 * 54 / 81), 100.0]


def test_no_overlap_is_offered_for_other_layers(home):
    keep(home, DENSE, 0)
    keep(home, SPARSE, 0, nn.Sequential(nn.Conv2d(3, 4, 1, bias=False)).eval())
    app = open_page("structure", part="Side by side", side=[label(home, DENSE), label(home, SPARSE)])
    control = app.selectbox(key="by_layer")
    assert "Mask overlap (IoU)" not in control.options and "another one with the same layers" in control.help
    assert figure(app, 1)["layout"]["xaxis"]["ticktext"] == ["1", "2"]  # their names differ


def test_networks_of_one_method_differ_in_the_style_of_their_line(home):
    found = [(card(home, SPARSE), structure_analysis.analyse(network(pruned), 8)) for pruned in (0, 2)]
    lines = structure_charts.by_layer(tables.layers_by_network(found[:1]), "sparsity", "Zero weights (%)").data
    assert [line.line.dash for line in lines] == ["solid"]
    other = dataclasses.replace(card(home, SPARSE), name="other")
    both = [found[0], (other, found[1][1])]
    drawn = structure_charts.by_layer(tables.layers_by_network(both), "sparsity", "Zero weights (%)").data
    assert [(line.name, line.line.dash) for line in drawn] == [
        (f"Magnitude 50 % ({SPARSE})", "solid"),
        ("Magnitude 50 % (other)", "dash"),
    ]
