"""HTML page of an audit: tables, histograms and thumbnails, without scripts or network access."""

from __future__ import annotations

import base64
import io
import operator
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from nightcrawler.data.lowlight.enhance.gamma import apply_gamma
from nightcrawler.data.video.decode import FileReader, read_frames
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.prepare.duplicates import find_leakage, group_duplicates
from nightcrawler.prepare.folders import printable
from nightcrawler.prepare.measure import TARGET_MEAN, Measurement, usable
from nightcrawler.prepare.sources import AuditSource
from nightcrawler.utils.errors import VideoError, unexpected_as_video_error
from nightcrawler.utils.fonts import families_for, readable

# Rows of a table on the page; audit.csv has all.
MAX_ROWS = 200
# Sources in one histogram; more would hide one another.
MAX_SOURCES = 6
NUM_THUMBNAILS = 6
THUMBNAIL_PX = 96
NUM_BINS = 30
MEDIANS = ("num_frames", "fps", "mean", "noise", "gamma")
HISTOGRAMS = {
    "mean": "brightness (mean of RGB values)",
    "gamma": f"suggested gamma (to a mean of {TARGET_MEAN:g})",
    "noise": "noise (standard deviation)",
    "num_frames": "frames",
    "fps": "frames per second",
    "height": "height (pixels)",
}

# A video, its middle frame, and the frame after gamma, both as data URIs.
Thumbnail = tuple[Measurement, str, str]


@dataclass(frozen=True)
class SourceSummary:
    """Figures of a source in one line.

    Attributes:
        name: of the source.
        num_files, num_bad: counts.
        medians: of frames, frames per second, brightness, noise and gamma, as text.
        sizes: the most frequent picture sizes.
    """

    name: str
    num_files: int
    num_bad: int
    medians: tuple[str, ...]
    sizes: str


def build_page(
    sources: Sequence[AuditSource], rows: Sequence[Measurement], limits: Limits | None = None
) -> str:
    """Return the HTML page of an audit.

    Args:
        sources: folders and lists that were audited.
        rows: one measurement per file.
        limits: largest video that is shown.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(
        resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    )
    measured = usable(rows)
    by_source = _rows_of_sources(sources, rows)
    path_of = {}
    for source in sources:
        for path in source.paths:
            path_of[printable(path)] = path
    return template.render(
        rows=rows,
        bad=[row for row in rows if row.status != "ok"],
        groups=group_duplicates(rows),
        overlaps=find_leakage(sources, rows),
        summaries=[_summarise(name, found) for name, found in by_source.items()],
        # A histogram without values has no bins.
        histograms=list(_histograms(by_source)) if measured else [],
        galleries=list(_galleries(measured, path_of, limits or Limits())),
        target_mean=TARGET_MEAN,
        max_rows=MAX_ROWS,
    )


def _rows_of_sources(
    sources: Sequence[AuditSource], rows: Iterable[Measurement]
) -> dict[str, list[Measurement]]:
    by_path = {row.path: row for row in rows}
    by_source: dict[str, list[Measurement]] = {}
    for source in sources:
        by_source[source.name] = [by_path[name] for name in source.names]
    return by_source


def _summarise(name: str, rows: Sequence[Measurement]) -> SourceSummary:
    measured = usable(rows)
    medians = ["-"] * len(MEDIANS)
    if measured:
        for place, key in enumerate(MEDIANS):
            medians[place] = f"{np.median([getattr(row, key) for row in measured]):.4g}"
    sizes = Counter(f"{row.width}x{row.height}" for row in measured).most_common(3)
    text = ", ".join(f"{size} ({count})" for size, count in sizes)
    return SourceSummary(name, len(rows), len(rows) - len(measured), tuple(medians), text)


def _histograms(by_source: Mapping[str, Sequence[Measurement]]) -> Iterator[tuple[str, str]]:
    """Yield title and picture of each figure's distribution, sources beside one another."""
    for key, title in HISTOGRAMS.items():
        values: dict[str, list[float]] = {}
        for name, rows in list(by_source.items())[:MAX_SOURCES]:
            found = [getattr(row, key) for row in usable(rows)]
            if found:
                values[name] = found
        yield title, _histogram(title, values)


def _histogram(title: str, values: Mapping[str, Sequence[float]]) -> str:
    figure = Figure(figsize=(4.4, 2.8), dpi=110, layout="constrained")
    axes = figure.subplots()
    # All sources share the bins, so that their bars can be compared.
    joined = np.concatenate(list(values.values()), dtype=float)
    edges = np.histogram_bin_edges(joined, NUM_BINS).tolist()
    for name, found in values.items():
        axes.hist(found, edges, histtype="stepfilled", alpha=0.5, label=_legend_label(name))
    axes.set_xlabel(title)
    axes.set_ylabel("files")
    if len(values) > 1:
        families = families_for(map(_legend_label, values))
        axes.legend(prop={"family": families, "size": "x-small"})
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return _data_uri(buffer)


def _legend_label(name: str) -> str:
    """Return the end of a source's name, safe for matplotlib.

    matplotlib reads `$` as the start of a formula, and leaves labels out that begin with `_`.
    """
    text = (os.path.basename(name.rstrip("/")) or name)[-30:]
    return "…/" + readable(text, ascii(text)[1:-1]).replace("$", r"\$")


def _data_uri(buffer: io.BytesIO) -> str:
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _galleries(
    rows: Sequence[Measurement], path_of: Mapping[str, str], limits: Limits
) -> Iterator[tuple[str, list[Thumbnail]]]:
    """Yield a heading and thumbnails: a spread over brightness, the darkest and the noisiest."""
    ordered = sorted(rows, key=operator.attrgetter("mean"))
    spread: list[Measurement] = []
    if rows:
        # Few clips give the same place several times.
        places = np.linspace(0, len(ordered) - 1, NUM_THUMBNAILS).round().astype(int)
        spread = [ordered[place] for place in sorted(set(places.tolist()))]
    choices = {
        "From dark to bright": spread,
        "Darkest": ordered[:NUM_THUMBNAILS],
        "Noisiest": sorted(rows, key=lambda row: -row.noise)[:NUM_THUMBNAILS],
    }
    for title, chosen in choices.items():
        thumbnails = []
        for row in chosen:
            thumbnail = _thumbnail(row, path_of[row.path], limits)
            if thumbnail is not None:
                thumbnails.append(thumbnail)
        if thumbnails:
            yield title, thumbnails


def _thumbnail(row: Measurement, path: str, limits: Limits) -> Thumbnail | None:
    """Return the middle frame before and after gamma, or `None` if the file is gone by now."""
    try:
        with unexpected_as_video_error(path, "load"):
            reader = FileReader(THUMBNAIL_PX, limits)
            frames = read_frames(reader, path, lambda count: [count // 2]).frames
            return row, _picture(frames[0]), _picture(apply_gamma(frames, row.gamma)[0])
    except VideoError:
        return None


def _picture(frame: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG", optimize=True)
    return _data_uri(buffer)
