"""The audit as one page of HTML: tables, histograms, thumbnails; no script, nothing from the network."""

from __future__ import annotations

import base64
import io
import operator
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from nightcrawler.data.lowlight.enhance.gamma import apply_gamma
from nightcrawler.data.video.decode import FileReader, read_frames
from nightcrawler.prepare.audit import Source, duplicates, leakage
from nightcrawler.prepare.folders import printable
from nightcrawler.prepare.measure import TARGET_MEAN, Measurement
from nightcrawler.utils.errors import VideoError

MOST_ROWS = 200
MOST_SOURCES = 6
NUM_THUMBNAILS, THUMBNAIL_PX = 6, 96
MEDIANS = ("num_frames", "fps", "mean", "noise", "gamma")
HISTOGRAMS = {
    "mean": "brightness (mean of RGB values)",
    "gamma": f"suggested gamma (to a mean of {TARGET_MEAN:g})",
    "noise": "noise (standard deviation)",
    "num_frames": "frames",
    "fps": "frames a second",
    "height": "height (pixels)",
}

Thumbnail = tuple[Measurement, str, str]


@dataclass(frozen=True)
class Summary:
    """A source in one line.

    Attributes:
        name: of the source.
        num_files, num_bad: counts.
        medians: of frames, frames a second, brightness, noise and gamma, as text.
        sizes: the most frequent picture sizes.
    """

    name: str
    num_files: int
    num_bad: int
    medians: tuple[str, ...]
    sizes: str


def build_page(sources: Sequence[Source], rows: Sequence[Measurement]) -> str:
    """The page of an audit.

    Args:
        sources: what was audited.
        rows: a measurement a file.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(
        resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    )
    fine = [row for row in rows if row.status == "ok"]
    by_source = _rows_of_sources(sources, rows)
    return template.render(
        rows=rows,
        bad=[row for row in rows if row.status != "ok"],
        groups=duplicates(rows),
        overlaps=leakage(sources, rows),
        summaries=[_summary(name, members) for name, members in by_source.items()],
        histograms=list(_histograms(by_source)) if fine else [],
        galleries=list(
            _galleries(fine, {printable(path): path for source in sources for path in source.paths})
        ),
        target_mean=TARGET_MEAN,
        most=MOST_ROWS,
    )


def _rows_of_sources(
    sources: Sequence[Source], rows: Iterable[Measurement]
) -> dict[str, list[Measurement]]:
    by_path = {row.path: row for row in rows}
    return {
        source.name: [by_path[printable(path)] for path in dict.fromkeys(source.paths)]
        for source in sources
    }


def _summary(name: str, rows: Sequence[Measurement]) -> Summary:
    fine = [row for row in rows if row.status == "ok"]
    medians = tuple(
        f"{np.median([getattr(row, key) for row in fine]):.4g}" if fine else "-" for key in MEDIANS
    )
    sizes = Counter(f"{row.width}x{row.height}" for row in fine).most_common(3)
    shown = ", ".join(f"{size} ({count})" for size, count in sizes)
    return Summary(name, len(rows), len(rows) - len(fine), medians, shown)


def _histograms(by_source: dict[str, list[Measurement]]) -> Iterator[tuple[str, str]]:
    """Title and picture of each figure's distribution, the first six sources beside one another."""
    for key, title in HISTOGRAMS.items():
        values = {
            name: [getattr(row, key) for row in rows if row.status == "ok"]
            for name, rows in list(by_source.items())[:MOST_SOURCES]
        }
        yield title, _histogram(title, {name: found for name, found in values.items() if found})


def _histogram(title: str, values: dict[str, list[float]]) -> str:
    figure = Figure(figsize=(4.4, 2.8), dpi=110, layout="constrained")
    axes = figure.subplots()
    edges = np.histogram_bin_edges(
        np.concatenate([np.asarray(found, float) for found in values.values()]), 30
    ).tolist()
    for name, found in values.items():
        axes.hist(found, edges, histtype="stepfilled", alpha=0.5, label=_short(name))
    axes.set_xlabel(title)
    axes.set_ylabel("files")
    if len(values) > 1:
        axes.legend(fontsize="x-small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return _data_uri(buffer)


def _short(name: str) -> str:
    """The end of a source's name, as plain text: the plotting library takes `$` for formulas, `_` for no entry."""
    return "…/" + (os.path.basename(name.rstrip("/")) or name)[-30:].replace("$", r"\$")


def _data_uri(buffer: io.BytesIO) -> str:
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _galleries(
    rows: Sequence[Measurement], path_of: dict[str, str]
) -> Iterator[tuple[str, list[Thumbnail]]]:
    """A heading and its thumbnails: the ends of brightness and noise, and clips from all over the brightness."""
    ordered = sorted(rows, key=operator.attrgetter("mean"))
    spread = (
        sorted(set(np.linspace(0, len(ordered) - 1, NUM_THUMBNAILS).round().astype(int).tolist()))
        if rows
        else []
    )
    choices = {
        "From dark to bright": [ordered[at] for at in spread],
        "Darkest": ordered[:NUM_THUMBNAILS],
        "Noisiest": sorted(rows, key=lambda row: -row.noise)[:NUM_THUMBNAILS],
    }
    for title, chosen in choices.items():
        thumbnails = [found for row in chosen if (found := _thumbnail(row, path_of[row.path]))]
        if thumbnails:
            yield title, thumbnails


def _thumbnail(row: Measurement, path: str) -> Thumbnail | None:
    """The middle frame, as it is and lit by the suggested gamma; `None` where the file has gone."""
    try:
        reader = FileReader(THUMBNAIL_PX)
        frames = read_frames(reader, path, lambda count: [count // 2]).frames
    except VideoError:
        return None
    return row, _picture(frames[0]), _picture(apply_gamma(frames, row.gamma)[0])


def _picture(frame: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG", optimize=True)
    return _data_uri(buffer)
