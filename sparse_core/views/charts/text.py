"""How wide a text is, and how it is broken into lines: Plotly tells neither before it draws."""

import functools
import html
import re
from collections.abc import Sequence

# Widths of the characters from space to ~ in thousandths of the font size, of Helvetica and Arial (Adobe's font metrics).
_WIDTHS = (
    *(278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278),
    *(556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556),
    *(1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778),
    *(667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556),
    *(333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556),
    *(556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584),
)
_OTHER = 620  # accented letters, dashes and signs, on average
_SPARE = 1.14  # a Linux without Arial takes DejaVu Sans, which is wider; the page's own font is narrower
LINE_HEIGHT = 1.3


@functools.lru_cache(maxsize=1 << 14)  # a chart is laid out again for its export, with the same texts
def width(text: str, size: float) -> float:
    """The width in pixels of the longest line of a text, which may be HTML as Plotly has it, at this font size."""
    lines = re.split("<br>", text)
    plain = [html.unescape(re.sub("<[^>]*>", "", line)) for line in lines]
    bold = 1.12 * _SPARE if "<b>" in text else _SPARE
    return bold * size / 1000 * max(sum(map(_character, line)) for line in plain)


def wrapped(text: str, size: float, room: float) -> list[str]:
    """The lines of a plain text, none wider than ``room`` pixels unless a word is, escaped as HTML."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and width(html.escape(longer), size) > room:
                lines.append(line)
                longer = word
            line = longer
        lines += [line] if line else []
    return [html.escape(line, quote=False) for line in lines]


def shortened(text: str, size: float, room: float) -> str:
    """A plain text cut to ``room`` pixels, with an ellipsis, escaped as HTML."""
    kept = text
    while kept and width(html.escape(kept), size) > room:
        kept = f"{kept.removesuffix('…')[:-1].rstrip()}…" if len(kept) > 2 else ""
    return html.escape(kept, quote=False)


def name_lines(name: str, size: float, room: float, most: int = 3) -> list[str]:
    """A name in lines of ``room`` pixels, at most ``most`` of them; what is longer is cut."""
    lines = [html.unescape(line) for line in wrapped(name, size, room)]
    if len(lines) > most:
        lines = [*lines[: most - 1], " ".join(lines[most - 1 :])]
    return [shortened(line, size, room) for line in lines]


def height(lines: Sequence[str], size: float) -> float:
    """The height of so many lines in pixels."""
    return LINE_HEIGHT * size * len(lines)


def _character(character: str) -> int:
    place = ord(character) - 32
    return _WIDTHS[place] if 0 <= place < len(_WIDTHS) else _OTHER
