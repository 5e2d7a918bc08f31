"""Test of an experiment: one pass over a split, one results file per (views, crops) pair."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode
from torch import nn

from nightcrawler.config.identity import test_hash
from nightcrawler.data.build import EvalSet, build_eval_set, view_crop_pairs_of
from nightcrawler.data.build_cameras import camera_metadata_of
from nightcrawler.data.lowlight.enhance.build import (
    denoise_window_of,
    enhancement_name_of,
    gammas_of,
)
from nightcrawler.data.skeleton.reader import pose_sources
from nightcrawler.engine.build import build_device, build_evaluator, build_placed_model
from nightcrawler.engine.evaluator import Evaluator
from nightcrawler.engine.meters import accuracy, wilson_interval
from nightcrawler.engine.resume import weights_to_test_from_cfg
from nightcrawler.engine.run_metadata import run_metadata_of, video_fingerprints_of
from nightcrawler.models.pretrained import LoadReport
from nightcrawler.pseudo.predictions import STATUS_OK, Predictions
from nightcrawler.pseudo.results_metadata import ORACLE, RESULTS_FORMAT, results_name
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import NO_PERSON, UserError
from nightcrawler.utils.io import sha256_file, write_spreadsheet_rows
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)


@dataclass
class Tester:
    """Test of a model on a split.

    Attributes:
        model: model with its weights, on its device.
        eval_set: the split and the (views, crops) pairs.
        evaluator: runs the model.
        output_dir: folder of the results.
        num_classes: K.
        max_bad_fraction: part of unreadable videos, in [0, 1], above which the test fails.
        meta: metadata of every results file. `num_frames`, `crop_size` and `gammas` are part of
            its name.
        results_format: `npz`, or `pkl` for the published form.
        limit_name: name of `max_bad_fraction` in messages, as the user sets it.
    """

    model: nn.Module
    eval_set: EvalSet
    evaluator: Evaluator
    output_dir: Path
    num_classes: int
    max_bad_fraction: float
    meta: dict[str, Any]
    results_format: str = RESULTS_FORMAT
    limit_name: str = "max_bad_fraction"

    def results_path(self, pair: tuple[int, int]) -> Path:
        """Return the path of the results file, named by `results_name`.

        Args:
            pair: numbers of views V and crops C.
        """
        meta = self.meta
        name = results_name(
            self.eval_set.split.name,
            meta["num_frames"],
            meta["crop_size"],
            pair,
            meta["gammas"],
            self.results_format,
        )
        return self.output_dir / name

    def run(self) -> int:
        """Write the results files.

        Returns:
            The number of videos that cannot be read. Those without a person are not among them.

        Raises:
            UserError: if more than `max_bad_fraction` of the videos cannot be read, after the
                results are written.
        """
        name = self.eval_set.split.name
        results = self.evaluator.run(self.model, self.eval_set, self.num_classes, f"test {name}")
        if distributed.is_main():
            for pair, predictions in results.items():
                predictions.meta = {**self.meta, "views": pair[0], "crops": pair[1]}
                path = self.results_path(pair)
                predictions.save(path)
                logger.info("%s: %s (%s)", path, describe(predictions), self.meta["labels"])
        # All pairs come from one decode, so the unreadable videos are the same in each.
        return self._report_bad(next(iter(results.values())))

    def _report_bad(self, predictions: Predictions) -> int:
        """List the videos without a prediction and return the number of unreadable ones."""
        split = self.eval_set.split.name
        rows: list[tuple[str, str, str]] = []
        for name, status in zip(predictions.names, predictions.status, strict=True):
            if status != STATUS_OK:
                rows.append((split, name, status))
        if not rows:
            return 0
        path = self.output_dir / f"bad_{split}.csv"
        if distributed.is_main():
            write_spreadsheet_rows(path, [("split", "video", "status"), *rows])
            _, first, status = rows[0]
            logger.warning(
                "%d videos have no prediction, first '%s': %s; see %s",
                len(rows),
                first,
                status,
                path,
            )
        unread = sum(status != NO_PERSON for _, _, status in rows)
        # One unreadable video is allowed at any limit: in a small split it is a large part.
        if unread > max(self.max_bad_fraction * len(predictions.names), 1):
            raise UserError(
                f"{unread} of {len(predictions.names)} videos of '{split}' cannot be read, more "
                f"than {self.limit_name} {self.max_bad_fraction:g}; results are written, the list "
                f"is in {path}"
            )
        return unread


def describe(predictions: Predictions) -> str:
    """Return one line with the accuracy, its 95 % interval and chance, if there are labels.

    Args:
        predictions: predictions of a split.
    """
    figures = accuracy(predictions)
    total = int(figures["num_videos"])
    if not total:
        return f"{len(predictions.names)} videos, no labels to compare with"
    low, high = wilson_interval(round(figures["top1"] * total / 100), total)
    num_classes = predictions.probs.shape[1]
    # With so few classes it is always 100 %.
    top5 = f"top-5 {figures['top5']:.2f} %, " if num_classes > 5 else ""
    return (
        f"top-1 {figures['top1']:.2f} % (95 % interval {100 * low:.1f} to {100 * high:.1f}), "
        f"{top5}mean class {figures['mean_class']:.2f} % "
        f"of {total} videos, chance {100 / num_classes:.1f} %"
    )


def results_metadata_from_cfg(
    cfg: CfgNode, eval_set: EvalSet, weights: LoadReport
) -> dict[str, Any]:
    """Return the metadata of a results file, except its views and crops.

    Its `labels` are the checkpoint's: a checkpoint without a record of its label use counts as
    `oracle`, not as `label-free`.

    Args:
        cfg: the configuration.
        eval_set: the tested split.
        weights: report of the loaded weights.
    """
    run_metadata = run_metadata_of(cfg)
    name = eval_set.split.name
    dark = eval_set.split.dark
    gammas = gammas_of(cfg, "TEST", dark)
    single_gamma = None
    if len(gammas) == 1:
        single_gamma = gammas[0]
    meta: dict[str, Any] = {
        "split": name,
        "num_frames": cfg.DATA.NUM_FRAMES,
        "crop_size": cfg.DATA.TEST_CROP_SIZE,
        "enhancement": enhancement_name_of(cfg, "TEST", dark),
        "gamma": single_gamma,
        "gammas": [],
        "denoise_frames": denoise_window_of(cfg, "TEST", dark),
        "ensemble_method": cfg.TEST.ENSEMBLE_METHOD,
        "model": cfg.MODEL.NAME,
        "checkpoint_sha256": weights.sha256,
        "labels": weights.labels or ORACLE,
        "list_sha256": sha256_file(eval_set.split.list_file),
        "videos_sha256": video_fingerprints_of(cfg, [name]).get(name, ""),
        "test_hash": test_hash(cfg),
    }
    # Listed, and part of the file's name, only where a list of gammas was asked for.
    if cfg.TEST.GAMMAS:
        meta["gammas"] = gammas
    if cfg.DATA.INPUT == "pose":
        meta["pose_sources"] = pose_sources(item.path for item in eval_set.items)
    for key in ("config_hash", "class_names", "adapter", "seed", "versions"):
        meta[key] = run_metadata[key]
    return {**meta, **camera_metadata_of(cfg, [name])}


def build_tester(cfg: CfgNode) -> Tester:
    """Build the tester of the section `TEST`, with its weights loaded.

    Args:
        cfg: the configuration.

    Raises:
        UserError: if the split or the checkpoint is missing, or the checkpoint is not complete.
    """
    device = build_device(cfg)
    eval_set = build_eval_set(cfg, cfg.TEST.DATA_SELECT, "TEST", view_crop_pairs_of(cfg))
    model = build_placed_model(cfg, device)
    weights = weights_to_test_from_cfg(cfg, model)
    return Tester(
        model=model,
        eval_set=eval_set,
        evaluator=build_evaluator(cfg, device),
        output_dir=Path(cfg.OUTPUT_DIR),
        num_classes=cfg.MODEL.NUM_CLASSES,
        max_bad_fraction=cfg.DATA.MAX_BAD_FRACTION,
        meta=results_metadata_from_cfg(cfg, eval_set, weights),
        results_format=cfg.TEST.RESULTS_FORMAT,
        limit_name="DATA.MAX_BAD_FRACTION",
    )
