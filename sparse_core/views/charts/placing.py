"""Where small texts of a chart stand free of each other and of its points, in pixels from a panel's left and bottom."""

from collections.abc import Sequence
from typing import Any

from sparse_core.views.charts import text as measure
from sparse_core.views.charts.style import LABEL_SIZE

Box = tuple[float, float, float, float]  # left, bottom, right, top

MARKER = 6  # half of a marker's width, and the distance of a label from its point
NEAR = 7  # pixels within which points cover each other
TYPICAL_WIDTH = 400  # of a panel
MOST_POINTS, MOST_NAMED = 600, 6
POSITIONS = (
    "middle right",
    "top center",
    "bottom center",
    "top right",
    "bottom right",
    "middle left",
    "top left",
    "bottom left",
)


def overlaps(first: Box, second: Box) -> bool:
    """Whether two boxes have an area in common."""
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def text_box(x: float, y: float, annotation: dict[str, Any]) -> Box:
    """The box of an annotation without an arrow at (x, y)."""
    size = annotation.get("font", {}).get("size", LABEL_SIZE)
    width = measure.width(annotation["text"], size) + 2
    height = measure.height(annotation["text"].split("<br>"), size) + 2
    x, y = x + annotation.get("xshift", 0), y + annotation.get("yshift", 0)
    left = x - {"left": 0.0, "right": width}.get(annotation.get("xanchor", "center"), width / 2)
    bottom = y - {"bottom": 0.0, "top": height}.get(annotation.get("yanchor", "middle"), height / 2)
    return left, bottom, left + width, bottom + height


def free_position(
    text: str,
    point: tuple[float, float],
    wanted: str,
    points: Sequence[tuple[float, float]],
    boxes: list[Box],
    size: tuple[float, float],
) -> str:
    """The position around ``point`` at which a label covers no other and no point, the ``wanted`` one if possible; empty if there
    is none. ``boxes`` are the labels so far, to which it is added; ``size`` is that of the panel."""
    if not text.strip():
        return wanted
    for position in dict.fromkeys((wanted, *POSITIONS)):
        box = _label_box(text, point, position)
        inside = box[0] >= 0 and box[2] <= size[0] and box[1] >= 3 and box[3] <= size[1]
        free = not any(overlaps(box, (x - 4, y - 4, x + 4, y + 4)) for x, y in points if (x, y) != point)
        if inside and free and not any(overlaps(box, other) for other in boxes):
            boxes.append(box)
            return position
    return ""


def _label_box(text: str, point: tuple[float, float], position: str) -> Box:
    width, height = measure.width(text, LABEL_SIZE) + 2, measure.LINE_HEIGHT * LABEL_SIZE
    vertical, horizontal = position.split()
    x, y = point
    left = {"left": x - width - MARKER, "center": x - width / 2}.get(horizontal, x + MARKER)
    bottom = {"top": y + MARKER - 2, "middle": y - height / 2}.get(vertical, y - MARKER - height + 2)
    return left, bottom, left + width, bottom + height


def crowds(traces: Sequence[dict[str, Any]], x_range: Sequence[float], y_range: Sequence[float], height: float) -> None:
    """Add to what the pointer says of each point the others that it covers or nearly so, with a line for each."""
    across, up = (abs(ends[1] - ends[0]) or 1.0 for ends in (x_range, y_range))
    points = [
        (x / across * TYPICAL_WIDTH, y / up * height, trace, number)
        for trace in traces
        for number, (x, y) in enumerate(zip(trace["x"], trace["y"], strict=True))
    ]
    if len(points) > MOST_POINTS:
        return
    said = [[str(text) for text in trace["hovertext"]] for trace in traces]
    places = {id(trace): number for number, trace in enumerate(traces)}
    for x, y, trace, number in points:
        near = [
            said[places[id(other)]][at]
            for other_x, other_y, other, at in points
            if abs(other_x - x) < NEAR and abs(other_y - y) < NEAR and (other is not trace or at != number)
        ]
        if near:
            here = said[places[id(trace)]][number]
            heads = dict.fromkeys(text.partition("<br>")[0] for text in near if text != here)
            more = [f"+ {len(heads) - MOST_NAMED} more"] if len(heads) > MOST_NAMED else []
            listed = [here, "also here:", *list(heads)[:MOST_NAMED], *more] if heads else [here]
            trace["hovertext"] = [*trace["hovertext"][:number], "<br>".join(listed), *trace["hovertext"][number + 1 :]]
