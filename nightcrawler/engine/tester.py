"""Testing an experiment: one pass over a split, a results file for each (views, crops) pair."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode
from torch import nn

from nightcrawler.data.build import EvalSet, build_eval_set, build_pairs
from nightcrawler.data.build_video import build_camera_meta
from nightcrawler.data.lowlight.enhance.build import (
    denoise_window_of,
    enhancement_name_of,
    gammas_of,
)
from nightcrawler.engine.build import (
    build_device,
    build_evaluator,
    build_placed_model,
    build_stamp,
    build_tested_weights,
)
from nightcrawler.engine.evaluator import Evaluator
from nightcrawler.engine.meters import accuracy, wilson_interval
from nightcrawler.models.pretrained import LoadReport
from nightcrawler.pseudo.predictions import STATUS_OK, Predictions
from nightcrawler.pseudo.results_files import ORACLE, results_name
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import sha256_file, write_csv_rows
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)


@dataclass
class Tester:
    """Tests a model on a split.

    Attributes:
        model: with its weights, on its device.
        eval_set: the split and the (views, crops) pairs.
        evaluator: runs the model.
        output_dir: where results go.
        num_classes: K.
        max_bad_fraction: share of unreadable videos that is an error.
        meta: what every results file says of itself (`num_frames`, `crop_size`, `gammas` are part of its name).
    """

    model: nn.Module
    eval_set: EvalSet
    evaluator: Evaluator
    output_dir: Path
    num_classes: int
    max_bad_fraction: float
    meta: dict[str, Any]

    def results_path(self, pair: tuple[int, int]) -> Path:
        """Return the path of the results file in the experiment's folder."""
        meta = self.meta
        name = results_name(
            self.eval_set.split.name, meta["num_frames"], meta["crop_size"], pair, meta["gammas"]
        )
        return self.output_dir / name

    def run(self) -> int:
        """Write the results files; returns the number of videos without a prediction.

        Raises:
            UserError: if more than `max_bad_fraction` of the videos cannot be read (results are written first).
        """
        name = self.eval_set.split.name
        found = self.evaluator.run(self.model, self.eval_set, self.num_classes, f"test {name}")
        for pair, predictions in found.items() if distributed.is_main() else ():
            predictions.meta = {**self.meta, "views": pair[0], "crops": pair[1]}
            predictions.save(self.results_path(pair))
            logger.info(
                "%s: %s (%s)", self.results_path(pair), describe(predictions), self.meta["labels"]
            )
        return self._report_bad(next(iter(found.values())))

    def _report_bad(self, predictions: Predictions) -> int:
        split = self.eval_set.split.name
        status = zip(predictions.names, predictions.status, strict=True)
        rows = [(split, name, why) for name, why in status if why != STATUS_OK]
        if not rows:
            return 0
        path = self.output_dir / f"bad_{split}.csv"
        if distributed.is_main():
            write_csv_rows(path, [("split", "video", "status"), *rows])
            logger.warning(
                "%d videos have no prediction, first '%s': %s; see %s",
                len(rows),
                *rows[0][1:],
                path,
            )
        if len(rows) > max(self.max_bad_fraction * len(predictions.names), 1):
            raise UserError(
                f"{len(rows)} of {len(predictions.names)} videos of '{split}' cannot be read, more than "
                f"DATA.MAX_BAD_FRACTION {self.max_bad_fraction:g}; results are written, the list is in {path}"
            )
        return len(rows)


def describe(predictions: Predictions) -> str:
    """One line: accuracy with its 95 % interval and chance, where the split has labels."""
    figures = accuracy(predictions)
    total = int(figures["num_videos"])
    if not total:
        return f"{len(predictions.names)} videos, no labels to count against"
    low, high = wilson_interval(round(figures["top1"] * total / 100), total)
    return (
        f"top-1 {figures['top1']:.2f} % (95 % interval {100 * low:.1f} to {100 * high:.1f}), "
        f"top-5 {figures['top5']:.2f} %, mean class {figures['mean_class']:.2f} % of {total} videos, "
        f"chance {100 / predictions.probs.shape[1]:.1f} %"
    )


def build_meta(cfg: CfgNode, eval_set: EvalSet, weights: LoadReport) -> dict[str, Any]:
    """What a results file says of itself, but for its views and crops.

    Its `labels` are the checkpoint's: one that does not say how it was chosen is not taken for label-free.
    """
    stamp = build_stamp(cfg)
    dark = eval_set.split.dark
    gammas = gammas_of(cfg, "TEST", dark)
    return {
        "split": eval_set.split.name,
        "num_frames": cfg.DATA.NUM_FRAMES,
        "crop_size": cfg.DATA.TEST_CROP_SIZE,
        "enhancement": enhancement_name_of(cfg, "TEST", dark),
        "gamma": gammas[0] if len(gammas) == 1 else None,
        "gammas": gammas if cfg.TEST.GAMMAS else [],
        "denoise_frames": denoise_window_of(cfg, "TEST", dark),
        "ensemble_method": cfg.TEST.ENSEMBLE_METHOD,
        "model": cfg.MODEL.NAME,
        "checkpoint_sha256": weights.sha256,
        "labels": weights.labels or ORACLE,
        "list_sha256": sha256_file(eval_set.split.list_file),
        **{
            key: stamp[key] for key in ("config_hash", "class_names", "adapter", "seed", "versions")
        },
        **build_camera_meta(cfg, [eval_set.split.name]),
    }


def build_tester(cfg: CfgNode) -> Tester:
    """The tester of `TEST`, its weights loaded."""
    device = build_device(cfg)
    eval_set = build_eval_set(cfg, cfg.TEST.DATA_SELECT, "TEST", build_pairs(cfg))
    model = build_placed_model(cfg, device)
    weights = build_tested_weights(cfg, model)
    return Tester(
        model=model,
        eval_set=eval_set,
        evaluator=build_evaluator(cfg, device),
        output_dir=Path(cfg.OUTPUT_DIR),
        num_classes=cfg.MODEL.NUM_CLASSES,
        max_bad_fraction=cfg.DATA.MAX_BAD_FRACTION,
        meta=build_meta(cfg, eval_set, weights),
    )
