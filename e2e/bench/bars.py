"""Bars as SVG, by hand: a title, one bar a row, its parts side by side, and a legend where there are several."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LABEL, _VALUE = 800, 230, 70
_ROW, _BAR, _TOP, _LEGEND = 26, 18, 40, 22
# Okabe and Ito (2008): told apart by people who see few colours, too.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
_FONT = "system-ui, sans-serif"
_LEGEND_COLUMNS = 4


@dataclass(frozen=True)
class Bar:
    """One row."""

    label: str
    parts: Sequence[tuple[str, float]]
    """What each part stands for, and how long it is. One that is negative or not there has no length."""
    note: str = ""
    """What stands behind the bar; its length, if nothing is said."""

    @property
    def length(self) -> float:
        """Of all parts."""
        return sum(max(0.0, value) for _, value in self.parts)


def svg(title: str, bars: Sequence[Bar], *, unit: str = "", line: float | None = None) -> str:
    """Return the picture; `line` marks a value on the axis, which begins at 0."""
    names = list(dict.fromkeys(name for bar in bars for name, _ in bar.parts))
    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)}
    longest = max([bar.length for bar in bars] + ([line] if line is not None else []), default=0.0) or 1.0
    scale = (_WIDTH - _LABEL - _VALUE) / longest
    rows = len(names) // _LEGEND_COLUMNS + bool(len(names) % _LEGEND_COLUMNS) if len(names) > 1 else 0
    bottom = _TOP + _ROW * len(bars)
    shapes = [_text(12, 24, title, size=15, weight="bold")]
    for index, bar in enumerate(bars):
        shapes += _bar(bar, _TOP + _ROW * index, scale, colours, unit)
    if line is not None:
        shapes.append(_mark(_LABEL + line * scale, bottom))
    if rows:
        shapes += _legend(colours, bottom + 8)
    height = bottom + rows * _LEGEND + 16
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" font-family="{_FONT}">'
    # A page may be dark; the text is not.
    ground = f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", ground, *shapes, "</svg>", ""])


def _bar(bar: Bar, top: float, scale: float, colours: dict[str, str], unit: str) -> list[str]:
    shapes, left = [_text(_LABEL - 8, top + 14, bar.label, anchor="end")], float(_LABEL)
    for name, value in bar.parts:
        width = max(0.0, value) * scale
        if width > 0:
            shapes.append(_rectangle(left, top, width, _BAR, colours[name]))
        left += width
    shapes.append(_text(left + 6, top + 14, bar.note or f"{bar.length:.3g}{unit}"))
    return shapes


def _legend(colours: dict[str, str], top: float) -> list[str]:
    shapes, width = [], (_WIDTH - 24) / _LEGEND_COLUMNS
    for index, (name, colour) in enumerate(colours.items()):
        left, line = 12 + width * (index % _LEGEND_COLUMNS), top + _LEGEND * (index // _LEGEND_COLUMNS)
        shapes += [_rectangle(left, line, 12, 12, colour), _text(left + 18, line + 11, name)]
    return shapes


def _mark(x: float, bottom: float) -> str:
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{bottom}" stroke="#333333" stroke-dasharray="4 3"/>'


def _rectangle(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def _text(x: float, y: float, words: str, *, size: int = 12, anchor: str = "start", weight: str = "normal") -> str:
    style = f'font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" fill="#222222"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'
