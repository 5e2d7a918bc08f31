"""Folder of a model for the Hugging Face hub: weights, configuration, classes, card and stamp.

Weights are safetensors. No file is a pickle.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import simplejson
from fvcore.common.config import CfgNode

from nightcrawler.config.portable import portable_text
from nightcrawler.engine.meters import accuracy, wilson_interval
from nightcrawler.engine.tester import describe
from nightcrawler.export.card import accuracy_of_results
from nightcrawler.export.trained import build_facts, changed_settings_of
from nightcrawler.models.formats import WeightsFile
from nightcrawler.predict.calibrate import judges_to_carry
from nightcrawler.predict.checkpoints import (
    PredictOptions,
    build_trained_config,
    read_checkpoint,
)
from nightcrawler.pseudo.labels import read_labels
from nightcrawler.pseudo.predictions import Predictions, add_labels, read_results
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write, sha256_file
from nightcrawler.utils.safetensors_files import read_metadata, safetensors_bytes

WEIGHTS = "model.safetensors"
CONFIG = "config.yaml"
CLASSES = "classes.json"
STAMP = "stamp.json"
CARD = "README.md"
# Other exported files that are sent: ONNX holds no code. A `torch.export` program is a pickle.
EXPORTED = ("model.onnx", "model.int8.onnx")
# Facts of a run's `run.json` that the stamp repeats.
RUN_FACTS = ("lists", "start_sha256", "camera", "world_size")


@dataclass(frozen=True)
class Measured:
    """Accuracy of the model on one split.

    Attributes:
        split: name of the split.
        text: accuracy with interval, chance and number of videos, for people.
        value: top-1 accuracy in %.
        args: plain values that the accuracy is worth nothing without: seeds, clips, ...
    """

    split: str
    text: str
    value: float
    args: dict[str, Any]


@dataclass(frozen=True)
class PushedModel:
    """A trained model, ready to be written for the hub.

    Attributes:
        file: its weights.
        extra: other exported files beside it.
        facts: plain values for the card.
        settings: key to value, as text, of the settings that are not default.
        class_names: names of the K classes.
        config_text: the whole configuration, as YAML.
        about: metadata for the weights.
        run: facts of the run's `run.json`.
    """

    file: WeightsFile
    extra: tuple[Path, ...]
    facts: dict[str, Any]
    settings: dict[str, str]
    class_names: tuple[str, ...]
    config_text: str
    about: dict[str, str]
    run: dict[str, Any]


def build_pushed(given: str, options: PredictOptions) -> PushedModel:
    """Build a model to send from a run, a checkpoint, or the folder of an export.

    Args:
        given: experiment folder, checkpoint, name of weights, or folder of `nightcrawler export`.
        options: options of prediction.

    Raises:
        UserError: if there are no whole weights with a configuration.
    """
    folder = Path(given)
    exported = folder / WEIGHTS
    extra: tuple[Path, ...] = ()
    if exported.is_file():
        given = os.fspath(exported)
        extra = tuple(folder / name for name in EXPORTED if (folder / name).is_file())
    file = read_checkpoint(given)
    cfg = build_trained_config(file, options)
    metadata = read_metadata(file.path) if file.path.suffix == ".safetensors" else {}
    # An exported file names the checkpoint that it was made of, which results files name, too.
    facts = build_facts(cfg, file, dark=True)
    facts["checkpoint_sha256"] = metadata.get("checkpoint_sha256", file.sha256)
    facts["judges"] = judges_to_carry(given, file, tuple(cfg.MODEL.CLASS_NAMES))
    config_text = portable_text(file.config_text, file.path)
    return PushedModel(
        file=file,
        extra=extra,
        facts=facts,
        settings=changed_settings_of(cfg),
        class_names=tuple(cfg.MODEL.CLASS_NAMES),
        config_text=config_text,
        about=_metadata_of(cfg, facts, config_text),
        run=_read_run(file.path.parent),
    )


def _metadata_of(cfg: CfgNode, facts: Mapping[str, Any], config_text: str) -> dict[str, str]:
    """Return the texts inside the weights, with which nightcrawler predicts by the file alone."""
    texts = {"class_names": json.dumps(list(cfg.MODEL.CLASS_NAMES)), "cfg": config_text}
    for key in ("labels", "config_hash", "checkpoint_sha256", "enhancement", "judges"):
        if facts[key]:
            texts[key] = facts[key]
    return texts


def _read_run(folder: Path) -> dict[str, Any]:
    """Return facts of the run that wrote a checkpoint, empty where they are not beside it."""
    try:
        found = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: found[key] for key in RUN_FACTS if key in found}


def read_measured(
    model: PushedModel, results: Sequence[Path], truth_file: Path | None
) -> list[Measured]:
    """Return the accuracies of results files, by default of those beside the checkpoint.

    Args:
        model: the model.
        results: results files. Empty takes all of this checkpoint that have labels.
        truth_file: `path,label` rows for videos without a label.

    Raises:
        UserError: if a given file is of another checkpoint, or has no labels.
    """
    truth = read_labels(truth_file) if truth_file else {}
    found = []
    for path in results:
        predictions = read_results(path)
        add_labels(predictions, truth)
        accuracy_of_results(path, predictions, model.facts["checkpoint_sha256"])
        found.append(_measured(predictions))
    if results:
        return found
    folder = model.file.path.parent
    for path in sorted([*folder.glob("*.npz"), *folder.glob("*.pkl")]):
        try:
            predictions = read_results(path)
        except UserError:
            # Somebody else's file: nobody asked for it.
            continue
        add_labels(predictions, truth)
        is_own = predictions.meta.get("checkpoint_sha256") == model.facts["checkpoint_sha256"]
        if is_own and (predictions.labels >= 0).any():
            found.append(_measured(predictions))
    return found


def _measured(predictions: Predictions) -> Measured:
    meta = predictions.meta
    figures = accuracy(predictions)
    total = int(figures["num_videos"])
    low, high = wilson_interval(round(figures["top1"] * total / 100), total)
    args = {
        "clips": total,
        "seeds": [meta.get("seed")],
        "views": meta.get("views"),
        "crops": meta.get("crops"),
        "interval_95": [round(100 * low, 2), round(100 * high, 2)],
        "chance": round(100 / predictions.probs.shape[1], 2),
        "dark_labels": meta.get("labels") or "unknown",
    }
    return Measured(str(meta["split"]), describe(predictions), round(figures["top1"], 2), args)


def write_folder(
    out: Path, model: PushedModel, repository: str, licence: str, measured: Sequence[Measured]
) -> list[Path]:
    """Write the files that are sent.

    Args:
        out: folder, which may hold files of an earlier call.
        model: the model.
        repository: `OWNER/NAME`.
        licence: of the weights, as the hub names it.
        measured: accuracies for the card.

    Returns:
        The files.

    Raises:
        UserError: if a file would be replaced in a folder without the stamp of an earlier call.
    """
    weights = out / WEIGHTS
    _refuse_foreign(out, [WEIGHTS, CONFIG, CLASSES, CARD, *(path.name for path in model.extra)])
    with atomic_write(weights) as file:
        file.write(safetensors_bytes(model.file.state, model.about))
    texts = {
        CONFIG: model.config_text,
        CLASSES: simplejson.dumps(list(model.class_names), indent=1) + "\n",
        STAMP: simplejson.dumps(_stamp(model, weights), indent=1) + "\n",
        CARD: _card(model, repository, licence, measured),
    }
    for name, text in texts.items():
        with atomic_write(out / name, "w") as file:
            file.write(text)
    for path in model.extra:
        with atomic_write(out / path.name) as file:
            file.write(path.read_bytes())
    return [weights, *(out / name for name in texts), *(out / path.name for path in model.extra)]


def _refuse_foreign(out: Path, names: Sequence[str]) -> None:
    if (out / STAMP).is_file():
        return
    for name in names:
        if (out / name).exists():
            raise UserError(
                f"{out / name}: is there already, and {out} holds no {STAMP} of an earlier call: "
                "give --out another folder"
            )


def _stamp(model: PushedModel, weights: Path) -> dict[str, Any]:
    """Return hashes, label use, seed and versions of the weights."""
    facts = model.facts
    return {
        "weights_sha256": sha256_file(weights),
        "checkpoint_sha256": facts["checkpoint_sha256"],
        "config_hash": facts["config_hash"],
        "labels": facts["labels"] or "unknown",
        "seed": facts["seed"],
        "adapter": facts["adapter"],
        "versions": facts["versions"],
        **model.run,
    }


def _card(model: PushedModel, repository: str, licence: str, measured: Sequence[Measured]) -> str:
    # The card is Markdown: escaping for HTML would show `&lt;` to its readers.
    environment = jinja2.Environment(  # noqa: S701
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        resources.files(__package__).joinpath("push_card.md").read_text(encoding="utf-8")
    )
    text = template.render(
        repository=repository,
        facts=model.facts,
        settings=model.settings,
        class_names=model.class_names,
        extra=[path.name for path in model.extra],
        measured=measured,
        licence=licence,
        weights=WEIGHTS,
    )
    return f"---\n{_head(model, repository, licence, measured)}\n---\n\n{text}"


def _head(model: PushedModel, repository: str, licence: str, measured: Sequence[Measured]) -> str:
    """Return the YAML that the hub reads at the head of a card."""
    # Imported here: nothing else of a push waits for it.
    from huggingface_hub import EvalResult, ModelCardData

    results = []
    for one in measured:
        result = EvalResult(
            task_type="video-classification",
            dataset_type="video",
            dataset_name=one.split,
            dataset_split=one.split,
            metric_type="accuracy",
            metric_name="top-1 accuracy, %",
            metric_value=one.value,
            metric_args=one.args,
        )
        results.append(result)
    data = ModelCardData(
        license=licence,
        library_name="nightcrawler-video",
        pipeline_tag="video-classification",
        tags=["action-recognition", "low-light", model.facts["model"].replace("/", "-")],
        metrics=["accuracy"],
        model_name=repository.partition("/")[2] if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()
