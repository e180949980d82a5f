"""A figure in two forms: SVG that takes a page's colours, light or dark, and PNG for elsewhere. The one use of pyplot's
parts; what is drawn is in report_plots.
"""

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tusz_cache.errors import MissingPackage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What a page's style sheet must define, and what a PNG shows instead.
COLOURS = {
    "ink": "#1b2430",
    "muted": "#5c6877",
    "grid": "#d9dee5",
    "paper": "#ffffff",
    "one": "#0b62b8",
    "two": "#c2570c",
    "three": "#2f7d4f",
    "reference": "#2f7d4f",
    "detected": "#c2570c",
}
_PLACEHOLDERS = {name: f"#0a0b{number:02x}" for number, name in enumerate(COLOURS, 1)}

Colours = dict[str, str]
Draw = Callable[["Figure", Colours], None]


@dataclass(frozen=True, slots=True)
class Drawing:
    """One figure, drawn."""

    name: str  # of the file, and within the page
    svg: str  # an <svg> element whose colours are var(--ink) and the like
    png: bytes


def draw(name: str, size: tuple[float, float], drawing: Draw) -> Drawing:
    """Return a figure of `size` inches in both forms. Raises MissingPackage without matplotlib."""
    png, svg = io.BytesIO(), io.BytesIO()
    with _figure(name, size, COLOURS) as figure:
        drawing(figure, COLOURS)
        figure.savefig(png, format="png", dpi=144, metadata={"Software": None})
    with _figure(name, size, _PLACEHOLDERS) as figure:
        drawing(figure, _PLACEHOLDERS)
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
    return Drawing(name, _for_page(svg.getvalue().decode(), name), png.getvalue())


@contextlib.contextmanager
def _figure(name: str, size: tuple[float, float], colours: Colours) -> "Iterator[Figure]":
    try:
        import matplotlib as mpl  # noqa: PLC0415 - a second, which only reports wait for
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise MissingPackage("figures need the package matplotlib", hint="pip install 'tusz-cache[train]'") from error
    ink, muted = colours["ink"], colours["muted"]
    style: dict[Any, Any] = {
        "font.family": ["sans-serif"],
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9,
        "svg.fonttype": "none",  # text stays text: it can be searched, and takes the page's font
        "text.parse_math": False,  # a $ is a $
        "svg.hashsalt": name,  # the same figure has the same bytes
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": muted,
        "axes.facecolor": "none",
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": colours["grid"],
        "grid.linewidth": 0.7,
        "xtick.color": muted,
        "ytick.color": muted,
        "legend.facecolor": colours["paper"],
        "legend.edgecolor": "none",
        "legend.framealpha": 0.85,
        "lines.linewidth": 1.6,
        "path.simplify_threshold": 0.2,
    }
    with mpl.rc_context(style):
        yield Figure(size, layout="constrained", facecolor=colours["paper"])


def _for_page(svg: str, name: str) -> str:
    """Return the element alone: colours from the page, ids of its own, no metadata, no size but the page's."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="([^"]+)"', rf' id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*" ', r"<svg \1", svg, count=1)
    svg = re.sub(r'<svg ([^>]*?)height="[^"]*" ', r"<svg \1", svg, count=1)
    svg = svg.replace("'DejaVu Sans'", "var(--font)")
    for colour, placeholder in _PLACEHOLDERS.items():
        svg = svg.replace(placeholder, f"var(--{colour})")
    return svg.replace("<svg ", '<svg aria-hidden="true" ', 1)
