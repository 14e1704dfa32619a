"""The paper's statements, each a query and the range in which its figure lies if the statement holds.

Source: Iofinova et al., "How Well Do Sparse ImageNet Models Transfer?", CVPR 2022, sections 3.2 to 3.6, 4 and the appendix.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

from sparse_core.catalog import MAP, TASKS, architecture_label
from sparse_core.results.finding_queries import (
    Query,
    accuracy_on,
    best_of_all,
    between,
    fall,
    first_upstream,
    full_beats_linear,
    maps_go_together,
    more_pruned_filters,
    over_dense,
    rho,
    rho_falls,
    specialised_are_harder,
    speedup,
    structured_at_equal_upstream,
    worst_level,
)

UPSTREAM_TAB = "Upstream and downstream"
POINTS, PERCENT, TIMES, NUMBER = "points", "%", "×", ""
LEVEL = 0.05  # of the relative error increase: networks nearer to each other are called level


@dataclass(frozen=True)
class Statement:
    """A statement of the paper: it holds where the figure of ``query`` lies between ``low`` and ``high``.

    The figure is a fraction of 1 where its ``unit`` is "%" or, of differences, "points". ``architecture`` is the one it speaks
    of; rows of another one are checked in its place unless ``only`` is set. ``transfers``, ``methods`` and ``tasks`` are what the
    view that shows it selects, a ``tab`` of Tradeoffs or another ``page``; ``metric``, one of ``RESULT_METRICS``, is that of its
    rows.
    """

    id: str
    text: str
    query: Query
    low: float = -inf
    high: float = inf
    architecture: str = "resnet50"
    only: bool = False
    unit: str = POINTS
    transfers: tuple[str, ...] = ("linear",)
    methods: tuple[str, ...] = ()
    note: str = ""
    metric: str = "accuracy"
    tasks: tuple[str, ...] = ()
    tab: str = ""
    page: str = ""


def _percent(sparsity: float) -> str:
    return f"{100 * sparsity:.3g} %"


def _slug(*parts: object) -> str:
    text = "-".join(str(part) for part in parts).lower().replace("ac/dc", "acdc").replace("erk ", "")
    return text.replace("m-fac", "mfac").replace("lth-t", "ltht").replace(" ", "-").replace(".", "")


def _against_dense(
    transfer: str, method: str, figures: dict[float, str], *, ahead: bool = False, architecture: str = "resnet50"
) -> Iterator[Statement]:
    """A statement for each sparsity: fewer errors than dense (``ahead``), or more. ``figures`` are those of the paper's rows."""
    for sparsity, figure in figures.items():
        words = "fewer" if ahead else "more"
        where = f"{architecture_label(architecture)}, {transfer} transfer"
        prefix = "" if architecture == "resnet50" else f"{architecture}-"
        low, high = (-inf, 0.0) if ahead else (0.0, inf)
        yield Statement(
            _slug(f"{prefix}{transfer}", method, round(100 * sparsity), "ahead" if ahead else "behind", "dense"),
            f"{where}: {method} at {_percent(sparsity)} makes {words} errors than dense ({figure} %).",
            over_dense(transfer, method, sparsity),
            low=low,
            high=high,
            unit=PERCENT,
            architecture=architecture,
            only=architecture != "resnet50",
            transfers=(transfer,),
            methods=(method,),
        )


def _order(transfer: str, better: str, worse: str, sparsities: Sequence[float]) -> Iterator[Statement]:
    """At each sparsity the first method makes fewer errors than the second."""
    for sparsity in sparsities:
        yield Statement(
            _slug(transfer, better, "before", worse, round(100 * sparsity)),
            f"ResNet50, {transfer} transfer: {better} makes fewer errors than {worse} at {_percent(sparsity)}.",
            between(transfer, better, worse, sparsity),
            high=0.0,
            transfers=(transfer,),
            methods=(better, worse),
        )


def _aircraft() -> Iterator[Statement]:
    for method, figure in (("AC/DC", "0.551"), ("RigL ERK 5x", "0.552")):
        yield Statement(
            _slug("linear-aircraft", method, "before-woodfisher-80"),
            f"Linear transfer to Aircraft at 80 %: {method} ({figure}) is more accurate than WoodFisher (0.400).",
            accuracy_on("aircraft", "linear", method, "WoodFisher", 0.8),
            low=0.0,
            methods=(method, "WoodFisher"),
            tasks=("aircraft",),
        )


def _difficulties() -> Iterator[Statement]:
    signs = {"AC/DC": -1, "STR": -1, "RigL ERK 1x": -1, "RigL ERK 5x": -1, "WoodFisher": 1}
    for method, sign in signs.items():
        for sparsity in (0.8, 0.9):
            words = "more" if sign > 0 else "less"
            low, high = (0.0, inf) if sign > 0 else (-inf, 0.0)
            yield Statement(
                _slug("linear-difficulty", method, round(100 * sparsity)),
                f"Linear transfer: the harder the task, the {words} {method} at {_percent(sparsity)} loses to dense "
                "(Spearman's rho).",
                rho(method, sparsity),
                low=low,
                high=high,
                unit=NUMBER,
                transfers=("linear",),
                methods=(method,),
                tab="Difficulty",
            )
    yield Statement(
        "linear-difficulty-falls",
        "Linear transfer: Spearman's rho of error and difficulty is lower at 90 % than at 80 % (mean over methods).",
        rho_falls(0.8, 0.9),
        high=0.0,
        unit=NUMBER,
        tab="Difficulty",
    )


def _rigl() -> Iterator[Statement]:
    note = "The paper's text and its public rows disagree on RigL under full transfer, for unknown reasons."
    for method, other in (("RigL ERK 1x", "AC/DC"), ("RigL ERK 5x", "WoodFisher")):
        for sparsity in (0.8, 0.9, 0.95):
            yield Statement(
                _slug("full", method, "level-with", other, round(100 * sparsity)),
                f"Full transfer: {method} is level with {other} at {_percent(sparsity)} "
                "(relative error increases at most 5 % apart).",
                between("full", method, other, sparsity),
                low=-LEVEL,
                high=LEVEL,
                transfers=("full",),
                methods=(method, other),
                note=note,
            )


def _little_change() -> Iterator[Statement]:
    for method in ("AC/DC", "RigL ERK 1x", "RigL ERK 5x"):
        yield Statement(
            _slug("linear", method, "sparsity-says-little"),
            f"Linear transfer: from 80 to 95 % sparsity {method} changes by less than 5 % of dense's errors.",
            between("linear", method, method, 0.95, 0.8),
            low=-LEVEL,
            high=LEVEL,
            methods=(method,),
        )


def _mobilenet() -> Iterator[Statement]:
    name = "mobilenet_v1"
    for sparsity in (0.3, 0.4, 0.5, 0.75):
        yield Statement(
            f"mobilenet_v1-linear-acdc-{round(100 * sparsity)}-within-3",
            f"MobileNetV1, linear transfer: AC/DC at {_percent(sparsity)} is within +3 % of dense's errors.",
            over_dense("linear", "AC/DC", sparsity),
            high=0.03,
            unit=PERCENT,
            architecture=name,
            only=True,
            methods=("AC/DC",),
        )
    yield from _against_dense("linear", "M-FAC", {0.75: "+4"}, architecture=name)
    yield from _against_dense("linear", "STR", {0.75: "+11"}, architecture=name)
    for method, figure in (("AC/DC", "+11"), ("M-FAC", "+20"), ("STR", "+33")):
        yield from _against_dense("full", method, {0.75: figure}, architecture=name)


def _tasks() -> Iterator[Statement]:
    both = ("linear", "full")
    harder = "Specialised tasks are harder than general ones (difficulty 0.174 against 0.046)."
    yield Statement(
        "specialised-tasks-harder", harder, specialised_are_harder, low=0.0, transfers=both, tab="Difficulty"
    )
    better = "Full transfer is more accurate than linear transfer (206 of 240 ResNet50 cells)."
    yield Statement("full-beats-linear", better, full_beats_linear, low=0.5, unit=PERCENT, transfers=both)
    for transfer, figure in (("linear", "+38"), ("full", "+81")):
        yield Statement(
            f"{transfer}-str-98-worst",
            f"{transfer.capitalize()} transfer: STR makes most errors at 98 % ({figure} %).",
            worst_level(transfer, "STR", 0.98),
            low=0.0,
            transfers=(transfer,),
            methods=("STR",),
        )
    names = ("caltech101", "flowers", "caltech256", "sun397", "birds", "pets", "dtd")
    listed = ", ".join(TASKS[name].name for name in names)
    text = f"Full transfer: LTH-T loses 8 to 27 points of accuracy from 80 to 95 % on {listed}."
    query = fall("full", "LTH-T", 0.8, 0.95, names)
    yield Statement("full-ltht-falls", text, query, low=0.0, transfers=("full",), methods=("LTH-T",), tasks=names)


def _by_network_facts() -> Iterator[Statement]:
    """What the paper's public rows cannot show, but measured speeds, structures and upstream accuracies can."""
    note = "Not in the paper's public rows."
    yield Statement(
        "online-training-2-to-4",
        "Sparse backbones at 80 to 95 % cut the time of online linear training 2 to 4 times.",
        speedup("training", "resnet50", 0.8, 0.95),
        low=2.0,
        high=4.0,
        unit=TIMES,
        page="speedup",
        note=note,
    )
    yield Statement(
        "inference-90-over-3",
        "ResNet50 at 90 % infers more than 3 times faster than dense.",
        speedup("inference", "resnet50", 0.9, 0.9),
        low=3.0,
        unit=TIMES,
        page="speedup",
        note=note,
    )
    yield Statement(
        "acdc-most-pruned-filters",
        "AC/DC has clearly more fully pruned filters than the others at 80 and 90 %.",
        more_pruned_filters("AC/DC", (0.8, 0.9)),
        low=0.0,
        tab="Why",
        note=note,
    )
    yield Statement(
        "structured-below-unstructured",
        "Structured pruning transfers worse than unstructured at equal upstream accuracy.",
        structured_at_equal_upstream("linear"),
        high=0.0,
        tab=UPSTREAM_TAB,
        note=note,
    )


def _upstream() -> Iterator[Statement]:
    """What the paper says of upstream figures, which are not in its public rows."""
    yield Statement(
        "upstream-woodfisher-first",
        "Upstream, WoodFisher is first at 80 and 90 % on ReaL and V2 labels, RigL 5x at 95 %.",
        first_upstream({0.8: "WoodFisher", 0.9: "WoodFisher", 0.95: "RigL ERK 5x"}, ("imagenet-real", "imagenetv2")),
        low=0.0,
        only=True,
        methods=("WoodFisher", "RigL ERK 5x"),
        tab=UPSTREAM_TAB,
        note="Not in the paper's public rows. Evaluate fills it: ResNet50 of several methods on ReaL and ImageNetV2.",
    )
    yield Statement(
        "detection-map-together",
        "Detection: upstream and downstream mAP go together (slope within an architecture).",
        maps_go_together,
        low=0.0,
        architecture="yolov3_spp",
        unit=NUMBER,
        transfers=("full",),
        tab=UPSTREAM_TAB,
        note="Not in the paper's public rows: Paper results has SparseML's own YOLOv3-SPP and YOLOv5.",
        metric=MAP,
    )


_SPARSITIES = (0.8, 0.9, 0.95)
_ACDC_FIRST = ("sun397", "caltech256", "dtd")
STATEMENTS: tuple[Statement, ...] = (
    *_against_dense("linear", "AC/DC", {0.8: "−3.2", 0.9: "−2.0"}, ahead=True),
    *_against_dense("linear", "WoodFisher", {0.8: "+15", 0.9: "+14", 0.95: "+17"}),
    *_aircraft(),
    *_order("linear", "AC/DC", "WoodFisher", _SPARSITIES),
    *_order("full", "WoodFisher", "AC/DC", _SPARSITIES),
    *_against_dense("full", "WoodFisher", {0.8: "+0.7", 0.9: "+4.0", 0.95: "+13.4"}),
    *_against_dense("full", "AC/DC", {0.8: "+7.7", 0.9: "+12.0", 0.95: "+21.3"}),
    Statement(
        "full-acdc-best-on-three",
        "Full transfer: AC/DC is the most accurate of all methods on SUN397, Caltech-256 and DTD at 80, 90 and 95 %.",
        best_of_all("full", "AC/DC", _SPARSITIES, _ACDC_FIRST),
        low=0.0,
        transfers=("full",),
        tasks=_ACDC_FIRST,
    ),
    *_against_dense("full", "LTH-T", {0.8: "+9", 0.9: "+37", 0.95: "+110"}),
    *_against_dense("linear", "LTH-T", {0.8: "+79", 0.9: "+221", 0.95: "+402"}),
    *_difficulties(),
    *_little_change(),
    *_mobilenet(),
    *_tasks(),
    *_rigl(),
    *_by_network_facts(),
    *_upstream(),
)
