"""Write the model card: contents, input, output, training and accuracy of a model, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2

from nightcrawler.engine.tester import describe
from nightcrawler.export.formats import BATCH, HEIGHT, INT8_OPS, OPSET, WIDTH
from nightcrawler.export.trained import Trained
from nightcrawler.predict.graph_input import INPUT, OUTPUT
from nightcrawler.pseudo.predictions import Predictions
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write
from nightcrawler.utils.outputs import refuse_other_file

CARD = "MODEL_CARD.md"
# A card is known by these words.
MARK = "trained with nightcrawler"


@dataclass(frozen=True)
class CardAccuracy:
    """One row of the card's accuracy.

    Attributes:
        tested: name of the model or file, split, views and crops.
        result: accuracy with interval, chance and number of videos.
    """

    tested: str
    result: str


def accuracy_of_results(
    path: Path, predictions: Predictions, checkpoint_sha256: str
) -> CardAccuracy:
    """Return the card's row of a results file.

    Args:
        path: results file, for messages.
        predictions: its content.
        checkpoint_sha256: SHA-256 of the exported checkpoint.

    Raises:
        UserError: if the file is of another checkpoint, or its videos have no labels.
    """
    meta = predictions.meta
    if meta.get("checkpoint_sha256") != checkpoint_sha256:
        raise UserError(
            f"{path}: results of another checkpoint: test this one (its folder's test.sh)"
        )
    if (predictions.labels < 0).all():
        raise UserError(f"{path}: no video has a label: give --truth CSV, or leave --results out")
    tested = f"PyTorch, split {meta['split']}, {meta['views']} views x {meta['crops']} crops"
    return CardAccuracy(tested, describe(predictions))


def refuse_other_card(path: Path) -> None:
    """Refuse to replace a card that `write_card` did not write.

    Args:
        path: the file, which need not exist.

    Raises:
        UserError: naming the file.
    """
    refuse_other_file(path, MARK, "an export")


def write_card(
    path: Path, trained: Trained, files: Sequence[Path], rows: Sequence[CardAccuracy]
) -> None:
    """Write the card of a trained model.

    Args:
        path: file to write.
        trained: the model.
        files: files written beside it.
        rows: measured accuracy, empty where nothing was measured.
    """
    # The card is Markdown: escaping for HTML would show `&lt;` to its readers.
    environment = jinja2.Environment(  # noqa: S701
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        resources.files(__package__).joinpath("card.md").read_text(encoding="utf-8")
    )
    sizes = [BATCH, *trained.frame_shape]
    for at, name in ((2, HEIGHT), (3, WIDTH)):
        sizes[at] = sizes[at] or name
    text = template.render(
        trained=trained,
        facts=trained.facts,
        files=[file.name for file in files],
        rows=rows,
        judges=_describe_judges(trained.facts["judges"]),
        shape=f"[{', '.join(map(str, sizes))}]",
        takes_any=None in trained.frame_shape,
        names={"input": INPUT, "output": OUTPUT, "opset": OPSET, "int8": " and ".join(INT8_OPS)},
        mark=MARK,
    )
    with atomic_write(path, "w") as file:
        file.write(f"---\n{_hub_metadata(trained)}\n---\n\n{text}")


def _describe_judges(text: str) -> list[str]:
    """Return from which probability an answer is sure, one line for each number of views."""
    lines = []
    for pair, told in json.loads(text or "{}").items():
        least = "no answer" if told["sure_from"] is None else f"{told['sure_from']:.3g}"
        lines.append(f"{pair} (views x crops): {least} ({told['basis']})")
    return lines


def _hub_metadata(trained: Trained) -> str:
    """Return the YAML that the Hugging Face hub reads at the head of a card."""
    # Imported here: nothing else of an export waits for it.
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        # Nobody but its owner knows the terms of the clips and weights that it comes from.
        license="unknown",
        library_name="nightcrawler-video",
        pipeline_tag="video-classification",
        tags=["action-recognition", "low-light", trained.facts["model"]],
    )
    return data.to_yaml()
