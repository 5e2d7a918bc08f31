"""Measure BatchNorm statistics that follow a stream beside fixed ones.

Streams of synthetic clips, one clip a window, are recorded by a camera whose light stays, drifts or
is switched, and predicted by windows. A Markdown table says top-1 in percent, mean and standard
deviation over seeds. Labels measure, and choose nothing. Classes come in random order, and in
blocks of one class, which is the trap of statistics that follow a stream.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nightcrawler.data.lists import VideoItem
from nightcrawler.data.lowlight.camera import PRESETS, DarkCamera, darken, sample_camera
from nightcrawler.predict.adapt import adapt
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.ensemble import Ensemble, build_ensemble
from nightcrawler.predict.long_video import predict_long_video
from nightcrawler.predict.sliding_windows import span_at
from nightcrawler.synthetic.actions import ACTIONS
from nightcrawler.synthetic.scene import render_clip
from nightcrawler.synthetic.video import write_video

STUDIED = ("demo/uniformer_b32_k600", "demo/sf32_k700")
WINDOW_SEC = 2.5
FPS = 10
HEIGHT, WIDTH = 96, 128
# Windows that `first minute` adapts to, once.
FIRST_WINDOWS = 24
LIGHTS = ("day", "night", "drift", "lamps")
ORDERS = ("random", "blocks")
WAYS = ("fixed", "first minute", "online")


class Stream(NamedTuple):
    """A recorded stream: its file, and the class of each window."""

    path: Path
    labels: list[int]


def cameras(light: str, seed: int, count: int) -> list[DarkCamera] | None:
    """Return the camera of each window, None for daylight.

    Args:
        light: `day`, `night` (one camera), `drift` (from dusk into deep night and back in some
            minutes, noise and colours with it), or `lamps` (switched every 30 to 80 seconds).
        seed: of the draws.
        count: number of windows.
    """
    rng = np.random.default_rng([seed, LIGHTS.index(light)])
    base = sample_camera(rng, PRESETS["night"])
    if light == "day":
        return None
    if light == "night":
        return [base] * count
    if light == "drift":
        return list(_drifting(rng, base, count))
    return list(_switched(rng, base, count))


def _drifting(rng: np.random.Generator, base: DarkCamera, count: int) -> Iterator[DarkCamera]:
    period_sec = rng.uniform(240, 360)
    phase = rng.uniform(0, 2 * np.pi)
    cast = rng.normal(0, 0.25, 3)
    kept = np.exp(-WINDOW_SEC / 120)
    for number in range(count):
        # 1 at dusk, 0 in deep night.
        dusk = 0.5 + 0.5 * np.sin(2 * np.pi * number * WINDOW_SEC / period_sec + phase)
        cast = kept * cast + np.sqrt(1 - kept**2) * rng.normal(0, 0.35, 3)
        red, green, blue = np.exp(cast).tolist()
        yield replace(
            base,
            mean=5.0 * 8.0 ** float(dusk),
            electrons=5.0 * 60.0 ** float(dusk),
            read_noise=4.0 - 3.0 * float(dusk),
            cast=(red, green, blue),
        )


def _switched(rng: np.random.Generator, base: DarkCamera, count: int) -> Iterator[DarkCamera]:
    dark = replace(base, mean=6.0, electrons=8.0, read_noise=3.0, spot=None, spot_floor=1.0)
    red, green, blue = np.exp(rng.normal(0, 0.35, 3)).tolist()
    spot = (0.3, float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.3, 0.8)))
    lit = DarkCamera(45.0, 200.0, 1.5, (red, green, blue), spot, 0.3)
    is_lit = False
    until_sec = rng.uniform(30, 80)
    for number in range(count):
        if number * WINDOW_SEC >= until_sec:
            is_lit = not is_lit
            until_sec += rng.uniform(30, 80)
        yield lit if is_lit else dark


def write_stream(
    folder: Path, clips: np.ndarray, labels: np.ndarray, light: str, order: str, seed: int
) -> Stream:
    """Record clips one after another.

    Args:
        folder: of the file.
        clips: uint8 `[N, T, H, W, 3]`, in normal light.
        labels: their classes, `[N]`, sorted.
        light: see `cameras`.
        order: `random` or `blocks`.
        seed: of the order, the cameras and their noise.
    """
    rng = np.random.default_rng([seed, 100 + ORDERS.index(order)])
    if order == "random":
        places = rng.permutation(len(labels))
    else:
        blocks = [np.flatnonzero(labels == label) for label in rng.permutation(len(ACTIONS))]
        places = np.concatenate(blocks)
    chosen = cameras(light, seed, len(labels))

    def frames() -> Iterator[np.ndarray]:
        for number, place in enumerate(places):
            clip = clips[place]
            if chosen is not None:
                noise = np.random.default_rng([seed, 200, number])
                clip = darken(clip, chosen[number], noise)
            yield from clip

    path = folder / f"{light}-{order}.mp4"
    write_video(path, frames(), FPS)
    return Stream(path, labels[places].tolist())


def build(model: str, light: str, way: str) -> Ensemble:
    """Build a model that predicts in one of the `WAYS`."""
    adapter = {"fixed": "none", "first minute": "batchnorm", "online": "online"}[way]
    options = PredictOptions(dark=light != "day", device="cpu", adapter=adapter)
    return build_ensemble([model], None, Path(), options)


def _first_windows(folder: Path, stream: Stream, clips: Sequence[np.ndarray]) -> list[VideoItem]:
    items = []
    for number, clip in enumerate(clips):
        path = folder / f"first{number}.mp4"
        write_video(path, clip, FPS)
        items.append(VideoItem(path.name, -1, path, number + 1))
    return items


def accuracy(ensemble: Ensemble, stream: Stream) -> float:
    """Return the share of windows in percent whose class is right."""
    item = VideoItem(stream.path.name, -1, stream.path, 1)
    _, spans = predict_long_video(ensemble, item, WINDOW_SEC, WINDOW_SEC)
    right = []
    for number, label in enumerate(stream.labels):
        middle_sec = (number + 0.5) * WINDOW_SEC
        right.append(span_at(spans, middle_sec).top[0][0] == label)
    return 100.0 * float(np.mean(right))


def read_windows(stream: Stream, count: int) -> list[np.ndarray]:
    """Return the first windows of a stream as clips uint8 `[T, H, W, 3]`."""
    import av

    num_frames = round(WINDOW_SEC * FPS)
    frames: list[np.ndarray] = []
    with av.open(str(stream.path)) as container:
        for frame in container.decode(video=0):
            frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == count * num_frames:
                break
    return [np.stack(frames[n : n + num_frames]) for n in range(0, len(frames), num_frames)]


def measure_stream(folder: Path, stream: Stream, model: str, light: str) -> list[float]:
    """Return the accuracy of each of the `WAYS`."""
    found = []
    for way in WAYS:
        ensemble = build(model, light, way)
        if way == "first minute":
            clips = read_windows(stream, FIRST_WINDOWS)
            ensemble, _ = adapt(ensemble, _first_windows(folder, stream, clips))
        found.append(accuracy(ensemble, stream))
    return found


def render(seed: int, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """Render clips in normal light, uint8 `[N, T, H, W, 3]`, and their classes, sorted, `[N]`."""
    labels = np.repeat(np.arange(len(ACTIONS)), per_class)
    actions = list(ACTIONS)
    clips = []
    for number, label in enumerate(labels):
        rng = np.random.default_rng([3000 + seed, number])
        num_frames = round(WINDOW_SEC * FPS)
        clips.append(render_clip(rng, actions[label], num_frames, FPS, HEIGHT, WIDTH))
    return np.stack(clips), labels


def study(models: Sequence[str], seeds: Sequence[int], per_class: int) -> Iterator[str]:
    """Measure all models on all streams.

    Args:
        models: names or paths of checkpoints.
        seeds: of clips, orders and cameras.
        per_class: windows of each class in a stream.

    Yields:
        One line for each measured stream, the table, and what all took.
    """
    began = time.process_time()
    rows: dict[tuple[str, str, str], list[list[float]]] = {}
    for seed in seeds:
        clips, labels = render(seed, per_class)
        for light in LIGHTS:
            for order in ORDERS:
                with tempfile.TemporaryDirectory() as name:
                    stream = write_stream(Path(name), clips, labels, light, order, seed)
                    for model in models:
                        found = measure_stream(Path(name), stream, model, light)
                        rows.setdefault((model, light, order), []).append(found)
                        yield f"seed {seed} {model} {light} {order}: {found}"
    yield f"| model | light | classes | {' | '.join(WAYS)} | online - fixed |"
    yield f"|{'---|' * (len(WAYS) + 4)}"
    for (model, light, order), values in rows.items():
        table = np.array(values)
        gains = table[:, WAYS.index("online")] - table[:, 0]
        columns = [*table.T, gains]
        cells = " | ".join(map(_cell, columns))
        yield f"| {model} | {light} | {order} | {cells} |"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    yield f"{time.process_time() - began:.0f} s of a processor, at most {peak:.0f} MiB"


def _cell(values: np.ndarray) -> str:
    """Return mean and standard deviation over seeds, the mean alone of one seed."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"
