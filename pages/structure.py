"""Structure: what pruning left of a network by layer, compared with other networks, and the accuracy reached."""

from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import choices, frame, links, progress
from pages.parts.frame import home
from pages.parts.results import open_store, show_chart, show_table, titles
from sparse_core.catalog import METRICS, architecture_label
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import library, packed_masks, structure
from sparse_core.networks.library import BackboneCard
from sparse_core.networks.structure import Structure
from sparse_core.results import measures
from sparse_core.results.store import Store
from sparse_core.specs.checkpoints import StructureSpec
from sparse_core.views import columns, footnotes, labels, tables
from sparse_core.views.charts import structure as structure_charts

LAYER_COLUMNS = ["layer", "name", "shape", "sparsity", "filters", "filters_pruned", "filters_removable"]
LAYER_COLUMNS += ["channels", "channels_pruned", "channels_removable", "nonzero", "multiply_adds_sparse"]
SIDE_COLUMNS = ["network", "measured_sparsity", *tables.SHARES, "nonzero_parameters", "multiply_adds_sparse"]
SIDE_COLUMNS += ["file_size"]
ACCURACY_COLUMNS = ["method", "sparsity", "network_name", "network", "nonzero_parameters", "multiply_adds", "file_size"]
ACCURACY_COLUMNS += ["accuracy_mean", "accuracy_std", "seeds"]
COMPARED_AT_FIRST = 6
BY_LAYER_NOTES = {
    "filters_removable_share": "Removable: without changing the network's output.",
    "channels_removable_share": "Removable: without changing the network's output.",
    "overlap": "IoU (intersection over union): weights kept in both masks, of those kept in either.",
}

REMOVABLE = (
    "A filter or channel is removable if the network computes the same without it: nothing depends on it, or its output "
    "is always 0. A filter whose weights are all 0 still outputs a constant if the BatchNorm after it has a bias. Such a "
    "constant is traced exactly: if ReLU sets it to 0, it has no effect; if the next convolution has no padding, it moves "
    "into that convolution's bias and the filter is removable; if that convolution pads its input with zeros, no bias can "
    "replace it and the filter stays."
)


def main() -> None:
    """One backbone; below, its layers, a mask, other backbones, and measured accuracy."""
    store = open_store("structure")
    every = library.available(home())
    cards = {card.name: card for card in every if store.kept.keeps_network(card.architecture, card.method)}
    if not cards:
        st.info(
            "No network on this machine passes the filters that hold on all pages. Change them beside the page's title."
        )
        return
    index = choices.example(list(cards.values()))
    settings: dict[str, Any] = {"persist_state": "session", "width": 420, "help": choices.IMPORT_HELP}
    card = choices.backbone_choice(cards.values(), index=index, **settings)
    found = _structure(card)
    if found is None:
        return
    _totals(found)
    layers = tables.layer_table(found)
    _bars(card, found, layers)
    name = f"structure-{card.name}"
    tabs = {
        "Layers": lambda: show_table(layers, key="layer_table", name=name, shown_columns=LAYER_COLUMNS),
        "Layer mask": lambda: _mask(card, found),
        "Side by side": lambda: _side_by_side(card, cards),
        "By method": lambda: _by_method(card, cards),
        "Mask overlap": lambda: _overlap(card, found, cards),
        "Accuracy and size": lambda: _accuracy_and_size(store, card),
    }
    choices.tabs("part", tabs)


def _structure(card: BackboneCard) -> Structure | None:
    """The structure of a backbone; None, with a message, while it is computed, waits for a click, or if it failed."""
    known = structure.recall_card(home(), card)
    if known:
        return known
    if st.session_state.get("in_memory"):  # a report computes nothing new
        st.info("This network is not analysed yet. Open this view in the dashboard once, then make the report again.")
        return None
    submitted = st.session_state.setdefault("structure_jobs", {})
    status = queue.find(home(), submitted[card]) if card in submitted else None
    if status is None:
        if not card.ready:
            st.info(f"The weights of {architecture_label(card.architecture)} are not on this machine yet.")
            if not st.button("Download and analyse", key=f"fetch_{card.name}", icon=":material/download:"):
                return None
        job_id = progress.submit_unasked(Job("structure", StructureSpec(card.name)), "This network cannot be analysed")
        if not job_id:
            return None
        submitted[card] = job_id
        status = queue.status(home(), submitted[card])
    if not status.ended:
        st.caption(f"Analysing {frame.plain(labels.backbone_label(card))}. This is done once per network.")
        progress.wait_for(status.job_id)
        return None
    known = structure.recall_card(home(), card)
    if known is None:
        st.error(frame.plain(status.message or "The analysis of this network was deleted."))
        if st.button("Try again", key=f"again_{card.name}", icon=":material/refresh:"):
            del submitted[card]
            st.rerun()
    return known


def _totals(found: Structure) -> None:
    size, percent = found.input_size, labels.percent
    fully_pruned = "Share of filters whose weights are all 0. Averaged over layers, as in table 4 of the paper:"
    parameters = "Of all trainable parameters, including BatchNorm and biases; without the classifier."
    multiply_adds = f"For one image of {size} × {size} pixels: those of nonzero weights, of all."
    stored = f"Stored sparse, compared with stored dense: {structure.FILE_SIZE_FORMULA}."
    by_layer = f"{percent(found.mean_layer_filters_pruned_share)} %."
    metrics = (
        ("Backbone sparsity", f"{percent(found.sparsity)} %", "Share of zero weights over the convolutions."),
        ("Nonzero parameters", labels.part_of(found.nonzero, found.parameters), parameters),
        ("Multiply-adds", labels.part_of(found.multiply_adds_sparse, found.multiply_adds), multiply_adds),
        ("File size", f"{found.bytes_sparse / 1e6:.3g} of {found.bytes_dense / 1e6:.3g} MB", stored),
        ("Fully pruned filters", f"{percent(found.filters_pruned_share)} %", f"{fully_pruned} {by_layer}"),
        ("Removable filters", f"{percent(found.filters_dead_share)} %", REMOVABLE),
    )
    with st.container(horizontal=True):
        for label, value, help_text in metrics:
            st.metric(label, value, help=help_text, width="content")
    st.caption(
        "Removing the removable filters and channels would save "
        f"{labels.percent(found.parameters_removable / found.parameters)} % of all parameters and "
        f"{labels.percent(found.multiply_adds_removable / found.multiply_adds)} % of all multiply-adds without changing "
        "the network's output. The other zeros save time only with software that skips them."
    )


def _bars(card: BackboneCard, found: Structure, table: pd.DataFrame) -> None:
    show_chart(
        structure_charts.layer_sparsity(table),
        "Sparsity by layer",
        f"{labels.backbone_label(card)} · {labels.counted(len(table), 'convolution')} from input to output · "
        f"fully pruned filters: {labels.percent(found.mean_layer_filters_pruned_share)} % on average over layers, "
        f"{labels.percent(found.filters_pruned_share)} % of all",
        "Wide bars: zero weights. Narrow bars: fully pruned filters, whose weights are all 0. Measured on the weights.",
        key="layers",
        name=f"layers-{card.name}",
        alt="Share of zero weights and of fully pruned filters in each layer",
        table=table[["layer", "name", "shape", "sparsity", "filters", "filters_pruned"]],
        beside=links.share,
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
        help="At first the layer with the most fully pruned filters.",
    )
    layer = found.layers[names.index(chosen)]
    packed, shapes = structure.load_mask(home(), found.hash)
    weight = f"{chosen}.weight"
    kept = packed_masks.unpack(packed[weight], shapes[weight])
    width = kept[0].size
    cells = structure.image(kept, structure_charts.IMAGE_HEIGHT, structure_charts.IMAGE_WIDTH)
    places = layer.shape[2] * layer.shape[3]
    stripe = "A dark column" if places == 1 else f"A dark stripe of {places} columns"
    unused = f" {stripe} is an unused input channel." if layer.groups == 1 else ""
    pruned, zero = labels.percent(1 - kept.mean()), labels.percent(layer.sparsity)
    zeros = f", {zero} % are 0" if zero != pruned else ""  # a mask stated in the file may keep weights that are 0
    coarse = "" if cells.shape == (len(kept), width) else " Each cell stands for several weights."
    show_chart(
        structure_charts.mask(cells, len(kept), width),
        "Mask of a layer",
        f"{labels.backbone_label(card)} · {chosen}, {' × '.join(map(str, layer.shape))} · "
        f"{pruned} % of the weights are pruned{zeros}",
        "Each row is a filter. Its weights run from left to right: by input channel, then by kernel row. "
        f"A dark row is a pruned filter.{unused}{coarse}",
        key="mask",
        name=f"mask-{card.name}-{chosen}",
        alt=f"The mask of {chosen}: one row per filter, one column per weight, light where kept",
    )
    st.caption(
        f"{layer.filters_pruned:,} of {layer.filters:,} filters and {layer.channels_pruned:,} of {layer.channels:,} input "
        f"channels are fully pruned; {layer.filters_dead:,} filters and {layer.channels_dead:,} input channels are removable."
    )


def _side_by_side(card: BackboneCard, cards: dict[str, BackboneCard]) -> None:
    same_architecture = [other for other in cards.values() if other.architecture == card.architecture and other.ready]
    firsts = {(other.method, other.sparsity): other.name for other in reversed(same_architecture)}
    same_architecture.sort(  # the backbone itself, then one of each method, by distance in sparsity
        key=lambda other: (
            other != card,
            other.method == card.method or firsts[other.method, other.sparsity] != other.name,
            abs(other.sparsity - card.sparsity),
        )
    )
    chosen = st.multiselect(
        "Backbones",
        list(cards),
        placeholder=f"{architecture_label(card.architecture)} backbones of the nearest sparsity: choose others here",
        format_func=lambda name: labels.backbone_label(cards[name]),
        key="side",
        bind="query-params",
        help="Share of fully pruned filters, as in table 4 of the paper, for the networks on this machine. "
        f"Left empty: those of the backbone's architecture with the nearest sparsity, at most {COMPARED_AT_FIRST}.",
    )
    wanted = [cards[name] for name in chosen] or same_architecture[:COMPARED_AT_FIRST]
    found = []
    for each in wanted:
        known = _structure(each)
        if known is None:
            return
        found.append((each, known))
    _compare_layers(card, found)
    table = tables.comparison_table(found)
    left_out = len(same_architecture) - len(wanted)
    more = f" {left_out} more on this machine: choose them above." if not chosen and left_out > 0 else ""
    show_chart(
        structure_charts.filters_pruned(table),
        "Fully pruned filters by network",
        f"{labels.counted(len(table), 'network')} · share of filters whose weights are all 0 · more fully pruned "
        "filters are easier to speed up without a special engine",
        "Mean over layers: each convolution has the same weight, as in table 4 of the paper. Of all: each filter has the "
        f"same weight. Removable: without changing the network's output.{more}",
        key="side_chart",
        name="filters-pruned",
        alt="Share of fully pruned filters of each network",
    )
    show_table(table, key="side_table", name="structure", shown_columns=SIDE_COLUMNS)


def _compare_layers(card: BackboneCard, found: list[tuple[BackboneCard, Structure]]) -> None:
    """One share of each layer, a line for each network; of overlaps, those with the mask of the page's backbone."""
    overlaps = _overlaps(card, found)
    shares = {name: columns.column(name).heading for name in tables.LAYER_SHARES} | {"sparsity": "Zero weights"}
    shares |= {"overlap": "Mask overlap (IoU)"} if overlaps is not None else {}
    help_text = (
        "Mask overlap needs the backbone above and another one with the same layers." if overlaps is None else None
    )
    share = choices.selectbox(
        "By layer", list(shares), format_func=shares.__getitem__, key="by_layer", width=260, help=help_text
    )
    table = overlaps if overlaps is not None and share == "overlap" else tables.layers_by_network(found)
    title = (
        shares[share] if share != "overlap" else f"Mask overlap with {labels.method_label(card.method, card.sparsity)}"
    )
    show_chart(
        structure_charts.by_layer(table, share, f"{shares[share]} (%)"),
        f"{title} by layer",
        f"{labels.counted(table['series'].nunique(), 'network')} · {labels.counted(table['layer'].max(), 'convolution')} from "
        "input to output · share of each layer",
        BY_LAYER_NOTES.get(share, "Measured on the weights."),
        key="by_layer_chart",
        name=f"by-layer-{share.replace('_', '-')}",
        alt=f"{title} by layer, a line for each network",
        table=table[["series", "layer", "name", share]],
    )


def _overlaps(card: BackboneCard, found: list[tuple[BackboneCard, Structure]]) -> pd.DataFrame | None:
    """The overlap of each network's mask with the backbone's, by layer; None if no other network has the same layers."""
    own = _structure(card)
    if own is None:
        return None
    first, shapes = structure.load_mask(home(), own.hash)
    named = tables.layers_by_network(found)
    parts = []
    for (other, known), (_, rows) in zip(found, named.groupby("series", sort=False), strict=True):
        second, other_shapes = structure.load_mask(home(), known.hash)
        if other.name != card.name and other_shapes == shapes:
            overlap = tables.overlap_table(first, second, shapes).set_index("name")["overlap"]
            parts.append(rows.assign(overlap=rows["name"].map(overlap)))
    return pd.concat(parts, ignore_index=True) if parts else None


def _by_method(card: BackboneCard, cards: dict[str, BackboneCard]) -> None:
    """The paper's table 4 for the networks of this architecture that were analysed already: nothing is computed here."""
    sparse = [other for other in cards.values() if other.architecture == card.architecture and other.sparsity]
    known = [(other, found) for other in sparse if (found := structure.recall_card(home(), other))]
    if not known:
        st.info(
            f"No sparse {architecture_label(card.architecture)} was analysed yet. Choose one above: that takes seconds."
        )
        return
    table = tables.filters_by_method(known)
    left_out = len(sparse) - len(known)
    more = f" {left_out} more were not analysed yet: choose them above." if left_out else ""
    show_chart(
        structure_charts.filters_by_method(table),
        "Fully pruned filters by method",
        f"{architecture_label(card.architecture)}, {labels.counted(len(known), 'network')} · share of filters whose weights are "
        "all 0, mean over the convolutions · mean ± standard deviation over networks of one method and sparsity",
        f"As in table 4 of the paper: each convolution has the same weight. n = 1 where there is no error bar.{more}",
        key="method_chart",
        name=f"filters-by-method-{card.architecture}",
        alt="Share of fully pruned filters against sparsity, a line for each method",
    )
    show_table(tables.filters_layout(table), key="method_table", name=f"filters-by-method-{card.architecture}")


def _overlap(card: BackboneCard, found: Structure, cards: dict[str, BackboneCard]) -> None:
    others = [name for name, other in cards.items() if other.architecture == card.architecture and name != card.name]
    if not others:
        st.info(
            f"There is no other {architecture_label(card.architecture)} here to compare with. "
            "Import one on the Library page, or choose another backbone above."
        )
        return
    sparse = next((number for number, name in enumerate(others) if cards[name].sparsity), 0)
    names = {name: labels.backbone_label(cards[name]) for name in others}
    help_text = "Only networks of the same architecture have weights that correspond."
    name = st.selectbox(
        "Compared with", others, sparse, names.__getitem__, key="other", bind="query-params", width=420, help=help_text
    )
    other = _structure(cards[name])
    if other is None:
        return
    (first, shapes), (second, other_shapes) = (structure.load_mask(home(), each.hash) for each in (found, other))
    if shapes != other_shapes:
        st.info("The layers of these two networks differ, so their masks cannot be compared. Choose another.")
        return
    table = tables.overlap_table(first, second, shapes)
    total = packed_masks.iou(zip(table["kept_in_both"], table["kept_in_either"], strict=True))
    show_chart(
        structure_charts.overlap(table),
        "Mask overlap (IoU) by layer",
        f"{labels.backbone_label(card)} and {labels.backbone_label(cards[name])} · IoU {labels.percent(total)} % "
        "over all layers · 100 %: the same weights",
        "IoU (intersection over union): weights kept in both masks, of those kept in either. IoU expected at random: that of "
        "two masks of these layer densities that keep random weights.",
        key="overlap_chart",
        name=f"overlap-{card.name}-{name}",
        alt="Mask overlap (IoU) of two networks in each layer",
        table=table,
    )


def _accuracy_and_size(store: Store, card: BackboneCard) -> None:
    runs = store.results(architecture=card.architecture)
    runs = runs.dropna(subset=["accuracy_best", *labels.SIZES])
    if runs.empty:
        st.info(
            f"No {architecture_label(card.architecture)} was transferred on this machine yet. The paper's networks are not "
            "published with its results, so their sizes are unknown. Measure one:"
        )
        links.backbone_links(card.name)
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        picked, chosen = choices.measured_task(runs)
        help_text = (
            "Each counts nonzero weights only: parameters, multiply-adds for one image, and the size of a sparse file."
        )
        size = choices.choice("X axis", "size", {name: size.label for name, size in labels.SIZES.items()}, help_text)
    picked = measures.joined(picked)
    table = tables.accuracy_table(picked)
    protocols = labels.distinct(table["protocol"])
    protocol = protocols[0] if len(protocols) == 1 else f"{len(protocols)} protocols, never averaged together"
    single = " n = 1 where there is no error bar." if (table["seeds"] == 1).any() else ""
    metric = METRICS.get(picked["metric"].iloc[0], "accuracy")
    notes = [*footnotes.origins(picked), *footnotes.joined_notes(picked)]
    show_chart(
        structure_charts.accuracy(table, size),
        f"{labels.metric_title(labels.metric_name(picked['metric']))} against size",
        f"{architecture_label(card.architecture)} on {chosen} · {metric}, mean ± standard deviation over "
        f"{labels.counted(int(table['runs'].sum()), 'run')} · up and to the left is better",
        f"{'. '.join(notes)}. Best epoch (selected on test data: optimistic). {protocol}.{single}",
        key="accuracy_chart",
        name=f"accuracy-{card.architecture}",
        alt="Accuracy of each measured network against its size",
    )
    title = titles(labels.metric_name(picked["metric"]))
    show_table(table, key="accuracy_table", name="structure-accuracy", shown_columns=ACCURACY_COLUMNS, title=title)


main()
