"""Structure: what pruning left of a network, layer by layer, beside other networks, and what accuracy came of it."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import frame, parts, transfer_controls
from pages.parts.frame import home
from sparse_core.catalog import METRICS, architecture_label
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import library, packed_masks, structure
from sparse_core.networks.cards import BackboneCard
from sparse_core.networks.structure import Structure
from sparse_core.results.store import Store
from sparse_core.specs.checkpoints import StructureSpec
from sparse_core.views import labels, structure_tables
from sparse_core.views.charts import captions
from sparse_core.views.charts import structure as structure_charts

TABS = ["Layers", "Mask of a layer", "Side by side", "Overlap of masks", "Against accuracy"]
LAYER_COLUMNS = ["layer", "name", "shape", "sparsity", "filters", "filters_pruned", "filters_removable"]
LAYER_COLUMNS += ["channels", "channels_pruned", "channels_removable", "nonzero", "multiply_adds_sparse"]
SIDE_COLUMNS = ["network", "measured_sparsity", *structure_tables.SHARES, "nonzero_parameters", "multiply_adds_sparse"]
SIDE_COLUMNS += ["file_size"]
ACCURACY_COLUMNS = ["method", "sparsity", "nonzero_parameters", "multiply_adds", "file_size", "accuracy_mean"]
ACCURACY_COLUMNS += ["accuracy_std", "runs"]
AT_FIRST = 6

CONSTANTS = (
    "A filter or channel can be removed when the network computes the same without it: nothing depends on it, or all it "
    "gives is 0. A filter whose weights are all 0 still gives a constant if the BatchNorm behind it has a bias. Such a "
    "constant is followed exactly: where ReLU cuts it to 0 it counts as nothing; where the next convolution has no padding "
    "it moves into that convolution's bias, so the filter can go; where that convolution pads its input with zeros no "
    "bias can stand for it, so the filter stays."
)


def main() -> None:
    """One backbone in depth; below it its layers, a mask, other backbones, and measured accuracy."""
    store = parts.store()
    cards = {card.name: card for card in library.available(home())}
    name = parts.selectbox(
        "Backbone",
        list(cards),
        format_func=lambda name: labels.backbone_label(cards[name]),
        key="backbone",
        persist_state="session",
        width=420,
        help="Networks of yours come in on the Library page.",
    )
    card = cards[name]
    found = _structure(card)
    if found is None:
        return
    _totals(found)
    _bars(card, found)
    layers, image, side, overlap, accuracy = st.tabs(TABS, key="part", on_change="rerun", bind="query-params")
    if layers.open:
        with layers:
            table = structure_tables.layer_table(found)
            parts.show_table(
                table, key="layer_table", name=f"structure-{name}", columns=LAYER_COLUMNS, column_config=_counts(table)
            )
    if image.open:
        with image:
            _mask(card, found)
    if side.open:
        with side:
            _side_by_side(card, cards)
    if overlap.open:
        with overlap:
            _overlap(card, found, cards)
    if accuracy.open:
        with accuracy:
            _against_accuracy(store, card)


def _structure(card: BackboneCard) -> Structure | None:
    """The structure of a backbone; None while it is computed, waits for a click or failed, which is said."""
    known = structure.recall_card(home(), card)
    if known:
        return known
    asked = st.session_state.setdefault("structure_jobs", {})
    if card not in asked:
        if not card.ready and not _wants_download(card):
            return None
        asked[card] = queue.submit(home(), Job("structure", StructureSpec(card.name)))
    status = queue.status(home(), asked[card])
    if not status.ended:
        st.caption(f"Looking into {labels.backbone_label(card)}. This is done once for each network.")
        transfer_controls.wait_for(status.job_id)
        return None
    known = structure.recall_card(home(), card)
    if known is None:
        st.error(frame.plain(status.message or "What was found of this network is no longer there."))
        if st.button("Try again", key=f"again_{card.name}", icon=":material/refresh:"):
            del asked[card]
            st.rerun()
    return known


def _wants_download(card: BackboneCard) -> bool:
    st.info(f"The weights of {architecture_label(card.architecture)} are not on this machine yet.")
    return st.button("Download them and look inside", key=f"fetch_{card.name}", icon=":material/download:")


def _totals(found: Structure) -> None:
    metrics = (
        ("Sparsity", f"{labels.percent(found.sparsity)} %", "Share of the convolutions' weights that are 0."),
        (
            "Nonzero parameters",
            labels.part_of(found.nonzero, found.parameters),
            "Of all that train, BatchNorm's and biases included; without the classifier.",
        ),
        (
            "Multiply-adds",
            labels.part_of(found.multiply_adds_sparse, found.multiply_adds),
            f"For one image of {found.input_size} × {found.input_size}: those of nonzero weights, of those of all.",
        ),
        (
            "File size",
            f"{found.bytes_sparse / 1e6:.3g} of {found.bytes_dense / 1e6:.3g} MB",
            f"Stored sparse, of stored dense: {structure.FILE_SIZE_FORMULA}.",
        ),
        (
            "Filters pruned",
            f"{labels.percent(found.filters_pruned_share)} %",
            f"Of all filters: those with every weight 0. Averaged over layers, as the study's table 4 does: "
            f"{labels.percent(found.mean_layer_filters_pruned_share)} %.",
        ),
        ("Filters that can be removed", f"{labels.percent(found.filters_dead_share)} %", CONSTANTS),
    )
    with st.container(horizontal=True):
        for label, value, words in metrics:
            st.metric(label, value, help=words, width="content")
    st.caption(
        "Removing the filters and channels that can go would save "
        f"{labels.percent(found.parameters_removable / found.parameters)} % of all parameters and "
        f"{labels.percent(found.multiply_adds_removable / found.multiply_adds)} % of all multiply-adds, and change nothing "
        "that the network computes. The other zeros save time only with software that makes use of them."
    )


def _bars(card: BackboneCard, found: Structure) -> None:
    table = structure_tables.layer_table(found)
    parts.show_chart(
        captions.with_caption(
            structure_charts.layer_sparsity(table),
            "Where is it sparse?",
            f"{labels.backbone_label(card)} · {labels.counted(len(table), 'convolution')} from the input on · "
            f"filters pruned: {labels.percent(found.mean_layer_filters_pruned_share)} % on average over layers, "
            f"{labels.percent(found.filters_pruned_share)} % of all",
            "Wide bars: weights that are 0. Narrow bars: filters whose weights are all 0. Measured on its weights.",
        ),
        key="layers",
        name=f"layers-{card.name}",
        alt="Share of zero weights and of wholly pruned filters in each layer",
        table=table[["layer", "name", "shape", "sparsity", "filters", "filters_pruned"]],
        beside=parts.share,
    )


def _mask(card: BackboneCard, found: Structure) -> None:
    names = [layer.name for layer in found.layers]
    sparsest = max(range(len(names)), key=lambda at: (found.layers[at].filters_pruned, found.layers[at].sparsity))
    chosen = st.selectbox(
        "Layer",
        names,
        index=sparsest,
        format_func=lambda name: f"{names.index(name) + 1}. {name}",
        key="layer",
        bind="query-params",
        width=420,
        help="At first the one with the most filters pruned.",
    )
    layer = found.layers[names.index(chosen)]
    packed, shapes = packed_masks.load_packed(structure.mask_file(home(), found.hash))
    weight = f"{chosen}.weight"
    kept = packed_masks.unpack(packed[weight], shapes[weight])
    width = kept[0].size
    cells = structure.image(kept, structure_charts.IMAGE_HEIGHT, structure_charts.IMAGE_WIDTH)
    places = layer.shape[2] * layer.shape[3]
    stripe = "A dark column" if places == 1 else f"A dark stripe of {places} columns"
    unused = f" {stripe} is an input channel that nothing looks at." if layer.groups == 1 else ""
    pruned, zero = labels.percent(1 - kept.mean()), labels.percent(layer.sparsity)
    zeros = f", {zero} % are 0" if zero != pruned else ""  # a mask that its file states may keep weights that are 0
    coarse = "" if cells.shape == (len(kept), width) else " Each cell stands for several weights."
    parts.show_chart(
        captions.with_caption(
            structure_charts.mask(cells, len(kept), width),
            "Which of its weights are kept?",
            f"{labels.backbone_label(card)} · {chosen}, {' × '.join(map(str, layer.shape))} · "
            f"{pruned} % of the weights are pruned{zeros}",
            "A row is a filter. Its weights go from left to right: input channel by input channel, each row by row. "
            f"A dark row is a pruned filter.{unused}{coarse}",
        ),
        key="mask",
        name=f"mask-{card.name}-{chosen}",
        alt=f"The mask of {chosen}: a row a filter, a column a weight, light where kept",
    )
    st.caption(
        f"{layer.filters_pruned:,} of {layer.filters:,} filters and {layer.channels_pruned:,} of {layer.channels:,} input "
        f"channels are pruned; {layer.filters_dead:,} filters and {layer.channels_dead:,} input channels can be removed."
    )


def _side_by_side(card: BackboneCard, cards: dict[str, BackboneCard]) -> None:
    alike = [other for other in cards.values() if other.architecture == card.architecture and other.ready]
    chosen = st.multiselect(
        "Backbones",
        list(cards),
        placeholder=f"Those of {architecture_label(card.architecture)}: choose others here",
        format_func=lambda name: labels.backbone_label(cards[name]),
        key="side",
        bind="query-params",
        help="Share of filters wholly pruned, as in the study's table 4, for the networks on this machine. "
        f"Left empty: those of the backbone's architecture, {AT_FIRST} at most.",
    )
    wanted = [cards[name] for name in chosen] or [card, *(other for other in alike if other != card)][:AT_FIRST]
    found = _structures(wanted)
    if found is None:
        return
    table = structure_tables.comparison_table(found)
    left_out = len(alike) - len(wanted)
    more = f" {left_out} more on this machine: choose them above." if not chosen and left_out > 0 else ""
    parts.show_chart(
        captions.with_caption(
            structure_charts.filters_pruned(table),
            "How many whole filters did pruning remove?",
            f"{labels.counted(len(table), 'network')} · share of filters with every weight 0 · more filters pruned, "
            "easier to speed up without a special engine",
            "Mean over layers: each convolution counts alike, as in the study's table 4. Of all: each filter counts "
            f"alike. Can be removed: without any change to what the network computes.{more}",
        ),
        key="side_chart",
        name="filters-pruned",
        alt="Share of wholly pruned filters of each network",
    )
    parts.show_table(table, key="side_table", name="structure", columns=SIDE_COLUMNS, column_config=_counts(table))


def _structures(cards: Sequence[BackboneCard]) -> list[tuple[BackboneCard, Structure]] | None:
    """The structures of several backbones; None at the first that is not there yet, which is said."""
    found = []
    for card in cards:
        known = _structure(card)
        if known is None:
            return None
        found.append((card, known))
    return found


def _overlap(card: BackboneCard, found: Structure, cards: dict[str, BackboneCard]) -> None:
    others = [name for name, other in cards.items() if other.architecture == card.architecture and name != card.name]
    if not others:
        st.info(
            f"There is no other {architecture_label(card.architecture)} here to compare it with. "
            "Bring one in on the Library page, or choose another backbone above."
        )
        return
    sparse = (number for number, name in enumerate(others) if cards[name].sparsity)
    name = st.selectbox(
        "Compared with",
        others,
        index=next(sparse, 0),
        format_func=lambda name: labels.backbone_label(cards[name]),
        key="other",
        bind="query-params",
        width=420,
        help="Only networks of the same architecture have weights that correspond.",
    )
    other = _structure(cards[name])
    if other is None:
        return
    (first, shapes), (second, other_shapes) = (
        packed_masks.load_packed(structure.mask_file(home(), each.hash)) for each in (found, other)
    )
    if shapes != other_shapes:
        st.info("The layers of these two networks differ, so their masks do not compare. Choose another.")
        return
    table = structure_tables.overlap_table(first, second, shapes)
    total = packed_masks.iou(zip(table["kept_in_both"], table["kept_in_either"], strict=True))
    parts.show_chart(
        captions.with_caption(
            structure_charts.overlap(table),
            "Do they keep the same weights?",
            f"{labels.backbone_label(card)} and {labels.backbone_label(cards[name])} · {labels.percent(total)} % in common "
            "over all layers · 100 %: the same weights",
            "In common: weights kept in both, of those kept in either (intersection over union). By chance: what two "
            "masks as dense as these would have in common if each chose its weights of a layer at random.",
        ),
        key="overlap_chart",
        name=f"overlap-{card.name}-{name}",
        alt="How much the masks of two networks have in common in each layer",
        table=table,
    )


def _against_accuracy(store: Store, card: BackboneCard) -> None:
    runs = store.results(source="measured", architecture=card.architecture)
    runs = runs.dropna(subset=["accuracy_best", *labels.SIZES])
    if runs.empty:
        st.info(
            f"No {architecture_label(card.architecture)} was transferred on this machine yet, and the study's rows do not "
            "come with its networks, so their sizes are unknown. Measure one:"
        )
        parts.backbone_links(card.name)
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        picked, chosen = parts.measured_task(runs)
        size = parts.choice(
            "Against",
            "size",
            {name: size.label for name, size in labels.SIZES.items()},
            "Each counts what is not 0: parameters, multiply-adds for one image, and a file that stores sparse.",
        )
    table = structure_tables.accuracy_table(picked)
    single = " n = 1 where no interval is drawn." if (table["runs"] == 1).any() else ""
    metric = METRICS.get(picked["metric"].iloc[0], "accuracy")
    parts.show_chart(
        captions.with_caption(
            structure_charts.accuracy(table, size),
            "What accuracy came of which size?",
            f"{architecture_label(card.architecture)} on {chosen} · {metric}, mean ± standard deviation over "
            f"{labels.counted(int(table['runs'].sum()), 'run')} · up and to the left is better",
            f"Measured on this machine. Best over a run's epochs on test data (optimistic). {_protocols(table)}{single}",
        ),
        key="accuracy_chart",
        name=f"accuracy-{card.architecture}",
        alt="Accuracy of each measured network against its size",
    )
    parts.show_table(
        table, key="accuracy_table", name="structure-accuracy", columns=ACCURACY_COLUMNS, column_config=_counts(table)
    )


def _counts(table: pd.DataFrame) -> dict[str, Any]:
    """How whole numbers are shown: with their thousands apart."""
    names = table.select_dtypes("integer").columns
    return {name: st.column_config.NumberColumn(parts.heading(name), format="localized") for name in names}


def _protocols(table: pd.DataFrame) -> str:
    protocols = labels.distinct(table["protocol"])
    return f"{protocols[0]}." if len(protocols) == 1 else f"{len(protocols)} protocols, never averaged together."


main()
