"""The model card: what a written model is, wants, gives and is worth, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2

from nightcrawler.engine.tester import describe
from nightcrawler.export.formats import BATCH, INPUT, INT8_OPS, OPSET, OUTPUT
from nightcrawler.export.trained import Trained
from nightcrawler.pseudo.predictions import Predictions
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write


@dataclass(frozen=True)
class Figure:
    """A line of the card's accuracy.

    Attributes:
        what: what was tested, and how.
        result: its accuracy, with interval, chance and number of videos.
    """

    what: str
    result: str


def results_figure(path: Path, predictions: Predictions, checkpoint_sha256: str) -> Figure:
    """The line of a results file.

    Raises:
        UserError: if it is of another checkpoint, or its videos have no labels.
    """
    meta = predictions.meta
    if meta.get("checkpoint_sha256") != checkpoint_sha256:
        raise UserError(
            f"{path}: results of another checkpoint: test this one (its folder's test.sh)"
        )
    if (predictions.labels < 0).all():
        raise UserError(f"{path}: no video has a label: give --truth CSV, or leave --results out")
    what = f"PyTorch, split {meta['split']}, {meta['views']} views x {meta['crops']} crops"
    return Figure(what, describe(predictions))


def write_card(
    path: Path, trained: Trained, files: Sequence[Path], figures: Sequence[Figure]
) -> None:
    """Write the card of a trained model.

    Args:
        path: of the card.
        trained: the model.
        files: what was written beside it.
        figures: measured accuracy; none where nothing was measured.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        resources.files(__package__).joinpath("card.md").read_text(encoding="utf-8")
    )
    frames, height, width, _ = trained.frame_shape
    text = template.render(
        trained=trained,
        facts=trained.facts,
        files=[file.name for file in files],
        figures=figures,
        shape=f"[{BATCH}, {frames}, {height}, {width}, 3]",
        resizes=(height, width) != (trained.facts["crop_size"],) * 2,
        names={"input": INPUT, "output": OUTPUT, "opset": OPSET, "int8": " and ".join(INT8_OPS)},
    )
    with atomic_write(path, "w") as file:
        file.write(text)
