"""The form of Sparsify: methods, sparsities, what to start from, upstream data, seeds and training settings."""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from pages.parts import box_data, choices, frame
from pages.parts.frame import home
from sparse_core.catalog import DISTRIBUTIONS, METHODS, PRECISIONS
from sparse_core.datasets import catalogue
from sparse_core.errors import InputError
from sparse_core.networks import library
from sparse_core.networks.library import DENSE_ZEROS, BackboneCard
from sparse_core.sparsify import schedules
from sparse_core.specs import options, sweep
from sparse_core.specs.identity import network_id
from sparse_core.specs.sparsify import (
    DETECTOR_SETTINGS,
    FROM_NEW_WEIGHTS,
    RATE_SCHEDULES,
    SparsifySpec,
    has_option,
    require_for_detector,
)
from sparse_core.specs.sweep import Plan, Task
from sparse_core.views import labels

KIND = "sparsify"
FIRST_METHOD = "AC/DC"
METHOD_HELP = "\n".join(f"- **{method.name}** {method.summary}" for method in METHODS.values())
SPARSITY_HELP = (
    "Share of zero weights over all convolutions, in percent; several with spaces between them, such as 80 90 95. The first "
    "convolution and the classifier stay dense."
)
PARENT_HELP = (
    f"{', '.join(FROM_NEW_WEIGHTS[:-2])} and RigL take its architecture and draw new weights from the seed. All other methods "
    "start from its weights, which have to be dense. "
)
BOX_KEYS = ("upstream_box_data", "upstream_boxes")  # of the controls for a detector's upstream data and for its path
BOXES_HELP = (
    "What the detector is trained and pruned on. Your own: VOC, COCO or YOLO layout. Magnitude prunes a trained detector without "
    "data, too."
)
RATE_NAMES = {"cosine": "Cosine, with warm-up", "one-cycle": "One cycle", "step": "Tenth after 50 and 75 %"}
AUGMENTATIONS = {
    False: "Small shifts and flips; crops and flips of images above 64 pixels.",
    True: "Zooming out, crops that keep boxes, flips and colours.",
}
OWN = "own"
RESOLVED = ("name", "backbone_hash", "dataset_hash", "precision")  # of a spec: filled in when it runs


@dataclass(frozen=True)
class Field:
    """A number in the settings: its name in the spec and in the link, label, smallest and largest value, and help. An empty
    field is the method's own value; ``own`` says which that is."""

    name: str
    key: str
    label: str
    smallest: float
    largest: float
    help: str | None = None
    own: str = ""


TRAINING = (
    Field(
        "length_factor",
        "length",
        "Length factor",
        0.01,
        100.0,
        "Multiplies the epochs: 1, 3 or 5.",
        "5 for RigL 5x, else 1",
    ),
    Field("learning_rate", "rate", "Learning rate", 1e-6, 100.0, "The highest.", "0.1 new weights, 0.02 trained"),
    Field("batch_size", "images", "Batch size", 1, 4096),
    Field("weight_decay", "decay", "Weight decay", 0.0, 1.0),
    Field("momentum", "momentum", "Momentum", 0.0, 0.999),
    Field("label_smoothing", "smoothing", "Label smoothing", 0.0, 0.99),
)
OF_METHODS = (
    Field(
        "pruning_steps", "steps", "Pruning steps", 1, 1000, "Between 5 % sparsity and the target, on a cubic schedule."
    ),
    Field("updates", "updates", "Mask updates", 10, 100_000, "Of RigL's mask.", "every 100 steps, at least 10"),
    Field("strength", "strength", "STR strength", 1e-9, 1e9, "Weight decay of the thresholds.", "found by pilots"),
    Field("gradients", "gradients", "Gradients", 1, 100_000, "In the estimate of the Fisher matrix."),
    Field("gradient_batch", "per_gradient", "Images per gradient", 1, 4096, None, "1, or 16 in large networks"),
    Field("damping", "damping", "Damping", 1e-12, 1.0, "Added to the Fisher matrix's diagonal."),
    Field("block_size", "block", "Block size", 1, 10_000, "Weights per block of WoodFisher's Fisher matrix."),
)


@dataclass(frozen=True)
class Request:
    """What one press asks for: a spec for each method and sparsity, and the number of seeds. Each seed is one network.

    ``dense`` is the dense network that is made first, one for each seed, where methods need weights that ``parent`` lacks.
    """

    specs: tuple[SparsifySpec, ...]
    seeds: int
    parent: BackboneCard
    dense: SparsifySpec | None = None

    @property
    def plan(self) -> Plan:
        """The networks as a sweep, seed by seed, each after its parent."""
        return Plan("sparsify", tuple(task for seed in range(self.seeds) for task in self._of_seed(seed)))

    @property
    def command(self) -> str:
        """The command lines for the same networks, one each; there, a dense network has a name."""
        names: dict[str, str] = {}
        lines = []
        for task in self.plan.tasks:
            spec, (seed,) = task.spec, task.seeds
            assert isinstance(spec, SparsifySpec)
            if spec == self.dense:
                names[task.key] = _dense_name(spec, self.parent.architecture, seed)
                spec = dataclasses.replace(spec, name=names[task.key])
            spec = dataclasses.replace(spec, backbone=names.get(spec.backbone, spec.backbone))
            lines.append(options.command("sparsify", spec, *(["--seed", str(seed)] if seed else [])))
        return "\n".join(lines)

    def _of_seed(self, seed: int) -> Iterator[Task]:
        dense = sweep.task(KIND, self.dense, (seed,)) if self.dense else None
        if dense:
            yield dense
        for spec in self.specs:
            named = self._named(spec, seed)
            if dense is None or spec.has_new_weights:
                yield sweep.task(KIND, named, (seed,))
            else:
                yield sweep.task(KIND, dataclasses.replace(named, backbone=dense.key), (seed,), (dense.key,))

    def _named(self, spec: SparsifySpec, seed: int) -> SparsifySpec:
        """A name of the user's is numbered by seed where there are several."""
        numbered = spec.name and self.seeds > 1
        return dataclasses.replace(spec, name=f"{spec.name}-seed{seed}") if numbered else spec


def controls() -> Request | None:
    """The form; None, with a message where it is wrong, while it asks for nothing that can be made."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        methods = choices.multiselect(
            "Methods", list(METHODS), default=[FIRST_METHOD], key="method", width=330, help=METHOD_HELP
        )
        asked = st.text_input(
            "Sparsities (%)", "90", key="sparsities", bind="query-params", width=150, help=SPARSITY_HELP
        )
        epochs = st.number_input("Epochs", 1, 10_000, 30, key="epochs", bind="query-params", width=110)
        seeds = st.number_input(
            "Seeds",
            1,
            50,
            1,
            key="seeds",
            bind="query-params",
            width=110,
            help="One network for each seed and sparsity.",
        )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        parent = _parent()
        about = "What the network is trained and pruned on. "
        chosen = "" if parent.is_detector else choices.dataset_choice("Upstream data", "upstream", about)
    if not parent.ready and set(methods) - set(FROM_NEW_WEIGHTS):
        st.caption(f"{labels.backbone_label(parent)}: {frame.plain(parent.note)}.")
    untrained = parent.kind == "architecture"
    dataset = _boxes(methods, untrained) if parent.is_detector else choices.resolve_dataset(chosen, "upstream_path")
    settings = _settings(methods, parent.is_detector, untrained)
    if not methods:
        st.info("Choose a method.")
        return None
    if dataset is None:
        return None
    try:
        specs = tuple(
            SparsifySpec(method, parent.name, dataset, sparsity, epochs=int(epochs), **_of(method, settings))
            for method in methods
            for sparsity in ((0.0,) if method == "Dense" else parse_sparsities(asked or ""))
        )
        _check(specs, parent, _training_images(dataset, parent.is_detector))
    except InputError as error:
        st.error(frame.plain(str(error)))
        return None
    return _request(specs, int(seeds), parent, _of("Dense", settings))


def parse_sparsities(text: str) -> list[float]:
    """Percentages, separated by spaces or commas, as fractions in ascending order. Raises InputError."""
    expected = "Expected sparsities in percent, from 1 to below 100, such as 80 90 95"
    words = text.replace("%", " ").replace(",", " ").split()
    try:
        percents = {float(word) for word in words}
    except ValueError:
        raise InputError(f"{expected}; got “{text[:80]}”.") from None
    if not percents:
        raise InputError(f"{expected}; got none.")
    wrong = [percent for percent in sorted(percents) if not 1 <= percent < 100]
    if wrong or not all(map(math.isfinite, percents)):
        hint = f" {wrong[0]:g} as a fraction is {100 * wrong[0]:g}." if wrong and 0 < wrong[0] < 1 else ""
        raise InputError(f"{expected}; got {', '.join(f'{percent:g}' for percent in wrong)}.{hint}")
    return sorted(round(percent / 100, 6) for percent in percents)


def _request(specs: tuple[SparsifySpec, ...], seeds: int, parent: BackboneCard, settings: dict[str, Any]) -> Request:
    """The request, with a dense network to be made first where methods need weights and the parent is an architecture."""
    from_weights = [spec for spec in specs if not spec.has_new_weights]
    if parent.kind != "architecture" or not from_weights:
        return Request(specs, seeds, parent)
    one = from_weights[0]
    dense = SparsifySpec("Dense", parent.name, one.dataset, epochs=one.epochs, **{**settings, "name": ""})
    methods = " and ".join(dict.fromkeys(spec.method for spec in from_weights))
    st.caption(
        f"{methods} start{'' if ' and ' in methods else 's'} from dense weights: a Dense network is trained first."
    )
    return Request(tuple(spec for spec in specs if spec.method != "Dense"), seeds, parent, dense)


def _dense_name(spec: SparsifySpec, architecture: str, seed: int) -> str:
    """The name of a dense network: that of the library if it is there, else one that the same request always gives."""

    def asked(values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name not in RESOLVED}

    for card in library.cards(home()):
        made = card.provenance
        if made and made.seed == seed and asked(made.options) == asked(dataclasses.asdict(spec)):
            return card.name
    return f"{architecture}-Dense-seed{seed}-{network_id(spec, seed)[-6:]}"


def _parent() -> BackboneCard:
    """The control for what to start from: architectures without weights first, which need nothing else on this machine."""
    architectures = [library.architecture_card(name) for name in library.WITHOUT_WEIGHTS]
    architectures.sort(key=lambda card: card.architecture != "resnet20")
    cards = [*architectures, *library.available(home())]
    help_text = PARENT_HELP + choices.IMPORT_HELP
    return choices.backbone_choice(cards, "Start from", "parent", width=330, help=help_text)


def _boxes(methods: list[str], untrained: bool) -> str | None:
    """The control for a detector's upstream data, "" where there is none to prune with; None, with a message, where it is wrong
    or missing."""
    dataset = box_data.dataset_choice("Upstream data", BOXES_HELP, *BOX_KEYS, needed=False)
    if dataset:
        return dataset if box_data.look(dataset) else None
    if untrained or not set(methods) <= {"Magnitude"}:
        st.info("Enter the path of images with boxes. Only Magnitude prunes a detector without, where it has weights.")
        return None
    st.caption("Without data, the smallest weights are set to 0 and nothing else changes. No mAP is measured.")
    return ""


def settings_fields(detector: bool) -> list[Field]:
    """The numbers of the training; a detector's own have keys of their own in the link."""
    own = {name: f"{value:g}" for name, value in DETECTOR_SETTINGS.items()} | {"length_factor": "1"}
    fields = [field for field in TRAINING if not (detector and field.name == "label_smoothing")]
    return [
        replace(field, key=f"box_{field.key}", own=own[field.name], help=None)
        if detector and field.name in own
        else field
        for field in fields
    ]


def _settings(methods: list[str], detector: bool, untrained: bool) -> dict[str, Any]:
    """The training settings that differ from the defaults, by field of the spec."""
    with st.expander("Training settings (default: the methods' own)"):
        chosen = _numbers(settings_fields(detector))
        if detector and (untrained or set(methods) != {"Magnitude"}):
            usual = {name: SparsifySpec.__dataclass_fields__[name].default for name in DETECTOR_SETTINGS}
            chosen |= {name: DETECTOR_SETTINGS[name] for name in usual if chosen[name] == usual[name]}
        columns = iter(st.columns(4))
        if not detector:  # theirs is a cosine
            chosen["rate_schedule"] = next(columns).selectbox(
                "LR schedule", RATE_SCHEDULES, format_func=RATE_NAMES.__getitem__, key="schedule", bind="query-params"
            )
        names = {OWN: "The method's own", **DISTRIBUTIONS}
        distribution = next(columns).selectbox(
            "Sparsity over the layers",
            list(names),
            format_func=names.__getitem__,
            key="distribution",
            bind="query-params",
            help="Own: Erdős–Rényi-Kernel for RigL, uniform for Structured, global magnitude for the others. STR learns it.",
        )
        precisions = {"auto": "bf16 where native", **{name: name for name in PRECISIONS}}
        chosen["precision"] = next(columns).selectbox(
            "Training precision",
            list(precisions),
            format_func=precisions.__getitem__,
            key="precision",
            bind="query-params",
        )
        help_text = "Of the new backbone in the library. Left empty, or for several networks, it says method, sparsity and seed."
        name = next(columns).text_input(
            "Name", key="name", bind="query-params", placeholder="made from the method", help=help_text
        )
        chosen |= _toggles(detector)
        used = [field for field in OF_METHODS if any(has_option(method, field.name) for method in methods)]
        if used:
            st.markdown("**Of these methods**")
            chosen |= _numbers(used)
    chosen |= {"distribution": "" if distribution == OWN else distribution, "name": (name or "").strip()}
    return chosen


def _toggles(detector: bool) -> dict[str, bool]:
    chosen = {}
    with st.container(horizontal=True):
        help_text = AUGMENTATIONS[detector]
        chosen["augment"] = st.toggle("Augmentation", True, key="augment", bind="query-params", help=help_text)
        if not detector:
            chosen["nesterov"] = st.toggle("Nesterov momentum", key="nesterov", bind="query-params")
        help_text = "Some papers prune it; by default it stays dense for all methods alike."
        chosen["prune_first"] = st.toggle(
            "Prune the first convolution", key="prune_first", bind="query-params", help=help_text
        )
    return chosen


def _numbers(fields: Any) -> dict[str, Any]:
    columns = st.columns(4)
    chosen: dict[str, Any] = {}
    for number, field in enumerate(fields):
        default = getattr(SparsifySpec, field.name)
        empty = bool(field.own)
        value = columns[number % len(columns)].number_input(
            field.label,
            field.smallest,
            field.largest,
            None if empty else default,
            format="%d" if isinstance(field.smallest, int) else "%g",
            key=field.key,
            bind="query-params",
            placeholder=field.own or None,
            help=field.help,
        )
        chosen[field.name] = default if value is None else value
    return chosen


def _of(method: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Those of the settings that the method has."""
    return {name: value for name, value in settings.items() if has_option(method, name)}


def _check(specs: tuple[SparsifySpec, ...], parent: BackboneCard, images: int | None) -> None:
    """Raise InputError for what can be known before the work starts."""
    if specs[0].name:
        _require_name(specs[0].name, len(specs))
    from_weights = list(dict.fromkeys(spec.method for spec in specs if not spec.has_new_weights))
    for spec in specs if parent.is_detector else ():
        require_for_detector(spec)
    if from_weights:
        _require_dense(parent, from_weights)
    for spec in specs if images else ():
        try:
            schedules.require_fits(spec, images or 0)
        except InputError as error:
            raise InputError(f"{labels.method_label(spec.method, spec.sparsity)}: {error}") from None


def _require_name(name: str, networks: int) -> None:
    if networks > 1:
        raise InputError(
            f"One name cannot be that of {networks} networks. Leave the name empty, or ask for one network."
        )
    known = next((card for card in library.cards(home()) if card.name == name), None)
    if known is None or known.provenance is None:  # else it may be the very network that is asked for
        library.require_free_name(home(), name)


def _require_dense(parent: BackboneCard, methods: list[str]) -> None:
    names = f"{' and '.join(methods)} start{'s' if len(methods) == 1 else ''} from the weights of a dense network"
    sparsity = max(parent.sparsity, parent.measured_sparsity or 0.0)
    if sparsity > DENSE_ZEROS:
        raise InputError(
            f"{names}; {parent.name} is {labels.sparsity_label(sparsity)} sparse. Start from a dense backbone, or choose "
            f"{', '.join(name for name in FROM_NEW_WEIGHTS if name != 'Dense')}, which draw new weights."
        )


def _training_images(dataset: str, detector: bool) -> int | None:
    """The number of training images; None where there is no dataset, or where it is not on this machine yet."""
    if detector:
        if not dataset or box_data.awaited(dataset):
            return None
        return len(box_data.opened(home(), dataset).train.labels)
    card = next((card for card in catalogue.available(home()) if card.id == dataset), None)
    return None if card and not card.ready else _counted(str(home()), dataset)


@st.cache_data(ttl=60, show_spinner=False, max_entries=20)
def _counted(folder: str, dataset: str) -> int:
    return catalogue.describe(home(), dataset).train
