"""A trained model that answers: configuration, classes and enhancement come from its checkpoint."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import nn
from torch.utils.data import DataLoader

from nightcrawler.config import node
from nightcrawler.data.batch_sampler import ChunkSampler, SampleKey
from nightcrawler.data.build import build_loader, build_pairs, build_test_clips
from nightcrawler.data.build_video import build_video_reader
from nightcrawler.data.dataset import ClipBuilder, ClipDataset, keep_samples
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.lowlight.enhance.build import (
    Enhance,
    build_phase_enhancements,
    denoise_window_of,
    enhancement_name_of,
    gammas_of,
)
from nightcrawler.data.lowlight.enhance.denoise import DenoisedReader
from nightcrawler.data.video.decode import MemoryReader, VideoReader
from nightcrawler.engine.build import build_evaluator, build_placed_model
from nightcrawler.engine.checkpoint import BEST
from nightcrawler.engine.evaluator import Evaluator, as_predictions
from nightcrawler.engine.resume import weights_to_test_from_cfg
from nightcrawler.models.formats import WeightsFile, read_weights
from nightcrawler.pseudo.predictions import Predictions
from nightcrawler.pseudo.results_files import ORACLE
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import ConfigError, UserError

# Of the training's data folder and machine; what is predicted here is neither.
PREDICT_OVERRIDES = ("DATA.CACHE", "none", "DATA.CHECKSUMS", "", "DEVICE", "auto")


@dataclass(frozen=True)
class PredictOptions:
    """How models answer, where it is not as they were trained.

    Attributes:
        pair: views and crops; `None` takes those of the recipe, else the first of the checkpoint's `TEST`.
        dark: light the videos as dark ones; False leaves them as they are.
        workers: processes that decode, for each model.
        root: the project, for files that a configuration names.
    """

    pair: tuple[int, int] | None = None
    dark: bool = True
    workers: int = 0
    root: Path = Path()


@dataclass(frozen=True)
class Predictor:
    """A model and all that goes before and after it.

    Attributes:
        name: for people.
        model: clips to logits, on its device, in evaluation mode.
        evaluator: runs it.
        reader: reads frames of a file, denoised as in testing.
        builder: makes clips of them.
        load: batches of a dataset, one video each.
        pair: views and crops.
        enhance: how clips are lit (the first way, where there are several).
        denoise: frames that are averaged first; 1 for none.
        short_side: of decoded frames, in pixels; 0 keeps their size.
        class_names: the K classes.
        about: what it is, as plain values: hashes, views, enhancement, use of labels, ...
    """

    name: str
    model: nn.Module
    evaluator: Evaluator
    reader: VideoReader
    builder: ClipBuilder
    load: Callable[[ClipDataset, ChunkSampler], Iterable[Any]]
    pair: tuple[int, int]
    enhance: Enhance
    denoise: int
    short_side: int
    class_names: tuple[str, ...]
    about: dict[str, Any]

    def videos(self, items: Sequence[VideoItem]) -> Iterator[Predictions]:
        """The prediction of each video, in order, each a file of one row.

        A batch never holds two videos: what is said of one does not depend on its neighbours in a list.
        """
        dataset = ClipDataset(items, self.reader, self.builder, seed=0, replace_bad=False)
        batches = self.load(dataset, ChunkSampler(len(items), chunk=1))
        for item, row in zip(items, self._rows(batches), strict=True):
            yield self._prediction(item, row)

    def frames(self, item: VideoItem, frames: Sequence[np.ndarray]) -> Predictions:
        """The prediction of frames uint8 `[H, W, 3]`, taken for a whole video."""
        reader: VideoReader = MemoryReader(frames)
        if self.denoise > 1:
            reader = DenoisedReader(reader, self.denoise)
        dataset = ClipDataset([item], reader, self.builder, seed=0, replace_bad=False)
        return self._prediction(item, next(self._rows([[dataset[SampleKey(0, 0)]]])))

    def _rows(self, batches: Iterable[Any]) -> Iterator[dict[str, Any]]:
        rows = self.evaluator.rows(self.model, batches, [self.pair], len(self.class_names))
        return (row for _, row in rows)

    def _prediction(self, item: VideoItem, row: dict[str, Any]) -> Predictions:
        return as_predictions({0: row}, [item], self.pair, len(self.class_names))


def find_checkpoint(given: Path) -> Path:
    """The checkpoint of an experiment's folder, or the file itself.

    Raises:
        UserError: if there is none.
    """
    path = given / BEST if given.is_dir() else given
    if not path.is_file():
        hint = (
            f"; train it first (bash {given / 'run.sh'}), or name a checkpoint"
            if given.is_dir()
            else ""
        )
        raise UserError(f"{path}: no such checkpoint{hint}")
    return path


def build_trained_config(file: WeightsFile, settings: PredictOptions) -> CfgNode:
    """The configuration that a checkpoint was trained with, fit for this machine.

    Raises:
        UserError: if the checkpoint does not hold one, or one of another version.
    """
    if not file.config_text:
        raise UserError(
            f"{file.path}: does not say its configuration: add it with tools/convert_checkpoint.py {file.path} "
            "--to OUT.pyth --cfg CONFIG of its experiment"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trained.yaml")
        path.write_text(file.config_text, encoding="utf-8")
        try:
            cfg = node.load_experiment(
                path, overrides=[*PREDICT_OVERRIDES, "TEST.CHECKPOINT_FILE_PATH", str(file.path)]
            )
        except ConfigError as error:
            where = f"{file.path} (its configuration)"
            raise UserError(
                str(error).replace(str(path.resolve()), where).replace(str(path), where)
            ) from None
    cfg.defrost()
    if cfg.ENHANCE.ZERO_DCE_WEIGHTS:
        cfg.ENHANCE.ZERO_DCE_WEIGHTS = str(settings.root / cfg.ENHANCE.ZERO_DCE_WEIGHTS)
    if cfg.MODEL.PRECISION == "fp16" and not torch.cuda.is_available():
        cfg.MODEL.PRECISION = "fp32"
    cfg.freeze()
    return cfg


def build_predictor(
    given: Path, name: str, pair: tuple[int, int] | None, settings: PredictOptions
) -> Predictor:
    """A model from its experiment's folder, or from a checkpoint of training or of `tools/convert_checkpoint.py`.

    Args:
        given: the folder or file.
        name: for people.
        pair: views and crops of a recipe; `None` leaves them to the checkpoint.
        settings: what the command line changes.

    Raises:
        UserError: if there is no checkpoint, or it is not whole.
    """
    file = read_weights(find_checkpoint(given))
    cfg = build_trained_config(file, settings)
    device = distributed.choose_device(cfg.DEVICE)
    model = build_placed_model(cfg, device)
    weights_to_test_from_cfg(cfg, model)
    pair = settings.pair or pair or build_pairs(cfg)[0]
    denoise = denoise_window_of(cfg, "TEST", settings.dark)
    enhances = build_phase_enhancements(cfg, "TEST", settings.dark)
    return Predictor(
        name=name,
        model=model.eval(),
        evaluator=build_evaluator(cfg, device),
        reader=build_video_reader(cfg, denoise),
        builder=build_test_clips(cfg, enhances, [pair]),
        load=functools.partial(_build_batches, cfg, settings.workers),
        pair=pair,
        enhance=enhances[0],
        denoise=denoise,
        short_side=cfg.DATA.DECODE_SHORT_SIDE,
        class_names=tuple(cfg.MODEL.CLASS_NAMES),
        about=_build_about(cfg, file, pair, settings.dark),
    )


def _build_batches(
    cfg: CfgNode, workers: int, dataset: ClipDataset, sampler: ChunkSampler
) -> DataLoader[Any]:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATA_LOADER.NUM_WORKERS = workers
    return build_loader(cfg, dataset, sampler, keep_samples, persistent=False)


def _build_about(
    cfg: CfgNode, file: WeightsFile, pair: tuple[int, int], dark: bool
) -> dict[str, Any]:
    return {
        "model": cfg.MODEL.NAME,
        "checkpoint_sha256": file.sha256,
        "config_hash": file.config_hash,
        "labels": file.labels or ORACLE,
        "views": pair[0],
        "crops": pair[1],
        "view_rule": cfg.TEST.VIEWS,
        "num_frames": cfg.DATA.NUM_FRAMES,
        "crop_size": cfg.DATA.TEST_CROP_SIZE,
        "enhancement": enhancement_name_of(cfg, "TEST", dark),
        "gammas": gammas_of(cfg, "TEST", dark),
        "denoise_frames": denoise_window_of(cfg, "TEST", dark),
        "ensemble_method": cfg.TEST.ENSEMBLE_METHOD,
        "precision": cfg.MODEL.PRECISION,
    }
