"""The few shapes that the pictures are made of, as SVG text, in light and in dark colours.

Alternatives considered: graphviz places boxes itself, and so differently with each change of the table and each release
of its own; svgwrite is no longer kept, and these shapes are a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

Point = tuple[float, float]

# By name: the colour on a light page, the colour on a dark one. Both are those of GitHub's own pages.
COLOURS: Mapping[str, tuple[str, str]] = {
    "page": ("#ffffff", "#0d1117"),
    "text": ("#1f2328", "#e6edf3"),
    "faint": ("#59636e", "#9198a1"),
    "line": ("#818b98", "#656c76"),
    "rule": ("#d1d9e0", "#3d444d"),
    "band": ("#f6f8fa", "#151b23"),
    "old": ("#0969da", "#4493f8"),
    "old-soft": ("#ddf4ff", "#12263f"),
    "new": ("#1a7f37", "#3fb950"),
    "new-soft": ("#dafbe1", "#12291a"),
    "back": ("#bc4c00", "#db6d28"),
    "back-soft": ("#fff1e5", "#2b1a0c"),
    "line-soft": ("#eff2f5", "#212830"),
}
THEMES = ("light", "dark")

_STYLE = """\
text { font-family: system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; fill: TEXT }
.code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace }
"""


class Picture:
    """A picture under construction; what is drawn later lies above what was drawn before."""

    def __init__(self, width: float, height: float, title: str, theme: str) -> None:
        self._width, self._height, self._title = width, height, title
        self._theme = THEMES.index(theme)
        self._parts: list[str] = []
        self._markers: set[str] = set()

    def colour(self, name: str) -> str:
        """This colour in the theme of the picture."""
        return COLOURS[name][self._theme]

    def box(
        self, place: Box, *, fill: str, stroke: str = "", radius: float = 6, dashed: bool = False, width: float = 1.2
    ) -> None:
        """A rectangle with round corners."""
        line = f' stroke="{self.colour(stroke)}" stroke-width="{width:g}"' if stroke else ""
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self._parts.append(
            f'<rect x="{place.x:g}" y="{place.y:g}" width="{place.width:g}" height="{place.height:g}" '
            f'rx="{radius:g}" fill="{self.colour(fill)}"{line}{dash}/>'
        )

    def text(
        self,
        at: Point,
        text: str,
        *,
        size: float = 11,
        colour: str = "text",
        anchor: str = "start",
        bold: bool = False,
        code: bool = False,
        halo: str = "",
    ) -> None:
        """A line of text; `halo` keeps lines that it crosses off it. The point is on its baseline."""
        more = ' font-weight="600"' * bold + ' class="code"' * code
        if halo:
            more += f' stroke="{self.colour(halo)}" stroke-width="4" stroke-linejoin="round" paint-order="stroke"'
        self._parts.append(
            f'<text x="{at[0]:g}" y="{at[1]:g}" font-size="{size:g}" text-anchor="{anchor}" '
            f'style="fill: {self.colour(colour)}"{more}>{escape(text)}</text>'
        )

    def line(
        self, *points: Point, colour: str = "line", width: float = 1.4, arrow: bool = False, dashed: bool = False
    ) -> None:
        """A line through these points, with round corners."""
        dash = ' stroke-dasharray="3 3"' if dashed else ""
        head = ""
        if arrow:
            self._markers.add(colour)
            head = f' marker-end="url(#arrow-{colour})"'
        stroke = f'fill="none" stroke="{self.colour(colour)}" stroke-width="{width:g}"{dash}'
        self._parts.append(f'<path d="{_path(points)}" {stroke}{head}/>')

    def __str__(self) -> str:
        markers = "".join(
            f'<marker id="arrow-{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0 0.5 8 4 0 7.5z" fill="{self.colour(name)}"/></marker>\n'
            for name in sorted(self._markers)
        )
        size = f"{self._width:g} {self._height:g}"
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img" width="{self._width:g}">',
                f"<title>{escape(self._title)}</title>",
                f"<style>\n{_STYLE.replace('TEXT', self.colour('text'))}</style>",
                f"<defs>\n{markers}</defs>",
                f'<rect width="100%" height="100%" rx="8" fill="{self.colour("page")}"/>',
                *self._parts,
                "</svg>\n",
            ]
        )


class Box(NamedTuple):
    """A rectangle's place."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right side."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Its lower side."""
        return self.y + self.height

    @property
    def middle(self) -> Point:
        """Its middle."""
        return self.x + self.width / 2, self.y + self.height / 2


def _path(points: Sequence[Point], radius: float = 6) -> str:
    """A path through the points; each corner but the ends is rounded."""
    parts = [f"M{points[0][0]:g} {points[0][1]:g}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        (ax, ay), (bx, by) = _towards(corner, before, radius), _towards(corner, after, radius)
        parts.append(f"L{ax:g} {ay:g}Q{corner[0]:g} {corner[1]:g} {bx:g} {by:g}")
    return "".join([*parts, f"L{points[-1][0]:g} {points[-1][1]:g}"])


def _towards(start: Point, end: Point, most: float) -> Point:
    """The point on the way from the start to the end, so far from the start or half the way."""
    length = max(abs(end[0] - start[0]) + abs(end[1] - start[1]), 1e-9)
    share = min(most, length / 2) / length
    return round(start[0] + (end[0] - start[0]) * share, 1), round(start[1] + (end[1] - start[1]) * share, 1)
