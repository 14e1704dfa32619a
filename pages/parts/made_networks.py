"""Networks that this product made, on a page: their table, the course of their trainings, provenance, files, and where to use
them."""

from collections.abc import Sequence

import streamlit as st

from pages.parts import choices, exported_files, frame, links
from pages.parts.frame import home
from pages.parts.results import show_chart, show_table
from sparse_core.catalog import architecture_label
from sparse_core.datasets.boxes import METRIC
from sparse_core.networks import library
from sparse_core.networks.library import BackboneCard
from sparse_core.views import labels, sparsified
from sparse_core.views.charts import sparsify as charts

OVERVIEW = ["network_name", "architecture", "method", "sparsity", "measured_sparsity", "upstream_data"]
OVERVIEW += ["upstream_accuracy", "own_upstream_map", "seed", "seconds", "seconds_with_parents"]
TICKET_NOTE = (
    " LTH-T ends with its mask on the dense weights that it started from, not trained since: transfer begins there."
)
RESULTS = [name for name in OVERVIEW if name not in ("architecture", "upstream_data")]


def results(names: Sequence[str], found: int, drawn: bool) -> str:
    """The networks of one request: table, courses of the trainings unless they are ``drawn`` already, and one of them with its
    provenance, links and files; returns that one's name."""
    by_name = {card.name: card for card in library.cards(home())}
    cards = [by_name[name] for name in dict.fromkeys(names) if name in by_name and by_name[name].provenance]
    if found:
        st.info(
            f"{labels.counted(found, 'network')} existed already and {'was' if found == 1 else 'were'} not made again."
        )
    if not cards:
        st.info("The networks of this request were deleted from the library. Restore them on the Library page.")
        return ""
    if len(cards) > 1:
        _table(cards, "made", RESULTS)
        links.batch_links([card.name for card in cards])
    card = _chosen(cards, "network")
    _metrics(card)
    links.backbone_links(card.name)
    if not drawn:
        _course(cards)
    _details(card)
    return card.name


def overview(made: Sequence[BackboneCard], above: str) -> None:
    """All networks made here, and one of them in detail; that of the name ``above`` already is."""
    if not made:
        st.info(
            "Nothing was made here yet. Press Start sparsifying above: with the defaults, a ResNet20 is trained and pruned on "
            "Digits within a few minutes, offline."
        )
        _example()
        return
    _table(made, "all_made", OVERVIEW)
    names = {card.name: labels.backbone_label(card) for card in made}
    chosen = choices.selectbox(
        "Selected network",
        list(names),
        format_func=names.__getitem__,
        key="made_network",
        index=None,
        placeholder="Choose a network to see how it was made",
        width=520,
    )
    if chosen is not None and chosen == above:
        st.caption("This network is shown above.")
    elif chosen is not None:
        card = next(card for card in made if card.name == chosen)
        with st.container(border=True):
            _metrics(card)
            links.backbone_links(card.name)
            _details(card)


def _example() -> None:
    """What there is to see of networks that were made, until there are own ones: those of the zoo at the example's sparsity that
    were trained as it was, one of each method."""
    zoo = {card.name: card for card in library.zoo_cards() if card.provenance}
    if choices.EXAMPLE not in zoo:
        return
    first = zoo[choices.EXAMPLE]
    alike = [card for card in zoo.values() if _training(card) == _training(first)]
    level = labels.sparsity_label(first.sparsity)
    st.header(f"An example: {architecture_label(first.architecture)} at {level}, by {len(alike)} methods", anchor=False)
    st.caption(
        frame.plain(f"Shipped with this version, trained on {first.upstream}. Your own networks take this place.")
    )
    _course(alike, shipped=True)
    _table(alike, "example", RESULTS)


def _training(card: BackboneCard) -> tuple[object, ...]:
    made = card.provenance
    return (card.sparsity, made.seed, made.recipe) if made else ()


def _table(cards: Sequence[BackboneCard], key: str, shown: Sequence[str]) -> None:
    """Accuracies and mAP have columns of their own, shown at first where there are networks that have them."""
    detect = {card.is_detector for card in cards}
    others = {"own_upstream_map"} if True not in detect else {"upstream_accuracy"} if False not in detect else set()
    columns = [name for name in shown if name not in others]
    show_table(sparsified.table(cards), key=key, name="made-networks", shown_columns=columns)


def _chosen(cards: Sequence[BackboneCard], key: str) -> BackboneCard:
    if len(cards) == 1:
        return cards[0]
    names = {card.name: labels.backbone_label(card) for card in cards}
    chosen = choices.selectbox("Network", list(names), format_func=names.__getitem__, key=key, width=520)
    return next(card for card in cards if card.name == chosen)


def _metrics(card: BackboneCard) -> None:
    made = card.provenance
    assert made is not None
    got = card.measured_sparsity or 0.0
    with st.container(horizontal=True):
        help_text = f"Zero weights over all convolution weights. Asked for: {labels.sparsity_label(card.sparsity)}."
        if card.method == "Structured":
            help_text += " Asked for relative to the parent's weights."
        st.metric("Backbone sparsity", f"{100 * got:.4g} %", help=help_text)
        data = sparsified.upstream_data(made)
        if made.upstream_accuracy is not None:
            metric = METRIC if card.is_detector else "Top-1"
            help_text = f"{metric} on the test images of {frame.plain(data)}, after the last epoch. One network: n = 1."
            label = f"Upstream {METRIC}" if card.is_detector else "Upstream accuracy"
            st.metric(label, f"{labels.percent(made.upstream_accuracy)} %", help=help_text)
        st.metric("Time", labels.duration(made.seconds), help="Of its own training and pruning.")
        help_text = "Including the networks that it started from, where they were made here."
        st.metric("Time with parents", labels.duration(made.seconds_with_parents), help=help_text)
    for note in made.details.get("notes", ()):
        st.warning(frame.plain(str(note)))


def _course(cards: Sequence[BackboneCard], shipped: bool = False) -> None:
    """Sparsity, loss and accuracy by epoch of the trainings; nothing for methods that do not train."""
    curves = sparsified.curves(cards)
    if curves.empty or curves["epoch"].max() < 2:
        return
    first = cards[0]
    made = first.provenance
    assert made is not None
    data = first.upstream if shipped else sparsified.upstream_data(made)
    where = f"Shipped: made on {made.details.get('machine')}" if shipped else "Your runs: made on this machine"
    metric = METRIC if first.is_detector else ""
    ticket = TICKET_NOTE if any(card.method == "LTH-T" for card in cards) else ""
    show_chart(
        charts.course(curves, [card.sparsity for card in cards], int(curves["epoch"].max()), metric),
        "Sparsity, loss and accuracy by epoch",
        f"{architecture_label(first.architecture)} on {data} · {labels.counted(len(cards), 'network')} · dashed: target sparsity",
        f"{where}, {first.imported_at[:10]}. Accuracy on the test images, once per network and epoch.{ticket}",
        key="course",
        name=f"course-{first.architecture}",
        alt="Sparsity, training loss and test accuracy by epoch, one line per network",
        table=curves,
    )


def _details(card: BackboneCard) -> None:
    """Provenance, and the files to download."""
    with st.expander("Provenance: how it was made"):
        rows = sparsified.provenance(card, library.available(home()))
        shown = rows.rename(columns={"what": "What", "value": "Value"})
        st.dataframe(shown, hide_index=True, column_config={"Value": st.column_config.TextColumn(width="large")})
    exported_files.show(card)
