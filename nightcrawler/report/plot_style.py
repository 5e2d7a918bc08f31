"""Style of a report's plots: inline SVG that takes the page's text colour, dark or light."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

# Okabe and Ito (2008), without black and yellow, which are invisible on one of the backgrounds.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
MARKERS = "osD^vPX*"
# Placeholder of the page's text colour, which `svg` replaces by `currentColor`.
INK = "#010203"
# The hash salt makes SVG ids, and with them the page, reproducible.
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
}
WIDTH_IN = 4.7
# Columns of a matrix up to which its cells show numbers.
MAX_NUMBERS = 15
# Share of a cell's colour above which white text is easier to read.
DARK_CELL = 0.55

Figures = Mapping[str, Any]


def pluck(rows: Iterable[Figures], key: str) -> list[Any]:
    """Return the values of a key.

    Args:
        rows: with the key.
        key: name.
    """
    return [row[key] for row in rows]


def svg(paint: Callable[[Figure], None], height: float = 3.0, width: float = WIDTH_IN) -> str:
    """Return a plot as an SVG element for use inside HTML.

    Args:
        paint: draws on an empty figure.
        height: in inches.
        width: in inches.
    """
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # The SVG holds text, and the reader's browser has fonts that are missing here.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    # HTML wants the element alone, and the page's style sets its size.
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)


def with_ids(text: str, prefix: str) -> str:
    """Return an SVG with a prefix before all ids, so that plots can share a page.

    Args:
        text: the SVG element.
        prefix: of the ids.
    """
    return re.sub(r'( id="|url\(#|href="#)', rf"\1{prefix}", text)


def model_style(name: str, names: Sequence[str]) -> dict[str, Any]:
    """Return colour and marker of a model, the same in all plots.

    Args:
        name: of the model.
        names: of all models of the run.
    """
    place = list(names).index(name)
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}


def draw_stage_axis(axes: Any, stages: Sequence[str]) -> None:
    """Label the x axis with stages, slanted if there are many."""
    slanted: dict[str, Any] = {}
    if len(stages) > 2:
        slanted = {"rotation": 20, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(stages)), stages, **slanted)
    axes.set_xlim(-0.3, len(stages) - 0.7)


def draw_legend(figure: Figure, axes: Any, columns: int = 2) -> None:
    """Draw a legend above the plot."""
    # Above, because a legend inside could cover points.
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=columns)


def draw_shares(axes: Any, at: Sequence[float], rows: Sequence[Figures], **style: Any) -> None:
    """Draw percentages with their 95 % intervals.

    Args:
        axes: to draw on.
        at: positions on the x axis.
        rows: results of `measures.share`, one per position.
        style: options of matplotlib.
    """
    percents = np.array(pluck(rows, "percent"), float)
    lows = np.array(pluck(rows, "low"), float)
    highs = np.array(pluck(rows, "high"), float)
    # Rounding can put a percentage of 0 or 100 just outside its interval.
    spread = np.maximum([percents - lows, highs - percents], 0)
    axes.errorbar(at, percents, yerr=spread, capsize=2.5, elinewidth=0.9, **style)


def draw_matrix(
    figure: Figure,
    values: np.ndarray,
    names: Sequence[str],
    number_format: str,
    shades: np.ndarray,
) -> Any:
    """Draw a square matrix of shaded cells, with numbers while they fit.

    Args:
        figure: to draw on.
        values: `[n, n]`.
        names: of the n rows and columns.
        number_format: of a value, such as `{:d}`.
        shades: `[n, n]` in 0..1.

    Returns:
        The axes.
    """
    axes = figure.subplots()
    red, green, blue = matplotlib.colors.to_rgb(COLOURS[0])
    # Patches instead of an image, which would be a raster within the SVG.
    for row, column in np.ndindex(values.shape):
        shade = shades[row, column]
        if shade > 0:
            corner = (column - 0.48, row - 0.48)
            colour = (red, green, blue, shade)
            axes.add_patch(matplotlib.patches.Rectangle(corner, 0.96, 0.96, color=colour, lw=0))
        if len(names) <= MAX_NUMBERS and values[row, column]:
            ink = "white" if shade > DARK_CELL else INK
            text = number_format.format(values[row, column])
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
    places = range(len(names))
    axes.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, names)
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5), aspect="equal")
    # Lines and ticks would clutter the cells.
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return axes
