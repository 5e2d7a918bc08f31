"""Build the graph of a trained experiment, and the facts for its card."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode
from torch import Tensor

from nightcrawler.config import node
from nightcrawler.config.identity import MACHINE_KEYS
from nightcrawler.config.portable import PLACES, portable_text, portable_values
from nightcrawler.data.build_video import build_video_reader
from nightcrawler.data.dataset import MultiViewClips
from nightcrawler.data.lowlight.enhance.build import enhancement_name_of, gammas_of
from nightcrawler.data.video.decode import VideoReader
from nightcrawler.engine.resume import weights_to_test_from_cfg
from nightcrawler.export.formats import FrameShape
from nightcrawler.export.graph import FramesToProbs, build_graph
from nightcrawler.models.build import build_model
from nightcrawler.models.formats import WeightsFile
from nightcrawler.predict.calibrate import judges_to_carry
from nightcrawler.predict.checkpoints import (
    PredictOptions,
    build_trained_config,
    read_checkpoint,
)
from nightcrawler.predict.graph_input import (
    FrameSize,
    build_camera_reader,
    build_frames_maker,
)
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.versions import library_versions


@dataclass(frozen=True)
class Trained:
    """A trained model as a graph.

    Attributes:
        name: name of its experiment.
        graph: uint8 frames to probabilities.
        state: its weights, by the names of the public checkpoints.
        frame_shape: T, H, W, 3 of a clip, where H and W are `None` for frames of any size.
        reader: reads the frames of a video as the camera recorded them.
        test_reader: reads them as in testing, scaled down where `DATA.DECODE_SHORT_SIDE` says so.
        builder: makes the graph's input of them.
        class_names: names of the K classes.
        facts: plain values for the card.
        config: key to value, as text, of the settings that are not default, without those of the
            machine it ran on.
        config_text: the whole configuration, as YAML.
    """

    name: str
    graph: FramesToProbs
    state: dict[str, Tensor]
    frame_shape: FrameShape
    reader: VideoReader
    test_reader: VideoReader
    builder: MultiViewClips
    class_names: tuple[str, ...]
    facts: dict[str, Any]
    config: dict[str, str]
    config_text: str

    def timed_shape(self) -> tuple[int, ...]:
        """Return T, H, W, 3 of the clips that speed is measured with: free sides are the crop's."""
        return tuple(side or self.facts["crop_size"] for side in self.frame_shape)

    def about(self) -> dict[str, str]:
        """Return the texts that every written file holds as metadata."""
        texts = {}
        for key in ("labels", "config_hash", "checkpoint_sha256", "enhancement", "judges"):
            if self.facts[key]:
                texts[key] = self.facts[key]
        if self.facts["short_side"]:
            texts["short_side"] = str(self.facts["short_side"])
        texts["class_names"] = json.dumps(self.class_names)
        texts["frame_shape"] = json.dumps(self.frame_shape)
        # nightcrawler predicts with the file alone.
        texts["cfg"] = self.config_text
        return texts


def build_trained(
    given: Path, options: PredictOptions, frame_size: FrameSize = (None, None)
) -> Trained:
    """Build the graph of an experiment's folder or checkpoint, on the CPU.

    Args:
        given: experiment folder, checkpoint, or name of packaged weights.
        options: `dark` enhances frames as testing enhances dark clips, `root` is the folder for
            relative paths in the configuration, `imports` are the modules it may import.
        frame_size: height and width of the frames, `None` for any.

    Raises:
        UserError: if there is no whole checkpoint, or testing enhances clips in a way that cannot
            be in a graph.
    """
    file = read_checkpoint(given)
    cfg = build_trained_config(file, options)
    if cfg.DATA.INPUT == "pose":
        raise UserError(
            f"{file.path}: {cfg.MODEL.NAME} sees skeletons, which an exported model would need an "
            "estimator for: nightcrawler predict has one"
        )
    model = build_model(cfg).eval()
    weights_to_test_from_cfg(cfg, model)
    # How far an answer is to be believed goes with the model.
    judges = judges_to_carry(os.fspath(given), file, tuple(cfg.MODEL.CLASS_NAMES))
    return Trained(
        name=file.path.parent.resolve().name,
        graph=build_graph(cfg, model, options.dark),
        state=model.state_dict(),
        frame_shape=(cfg.DATA.NUM_FRAMES, *frame_size, 3),
        reader=build_camera_reader(cfg),
        test_reader=build_video_reader(cfg),
        builder=build_frames_maker(cfg, frame_size),
        class_names=tuple(cfg.MODEL.CLASS_NAMES),
        facts=build_facts(cfg, file, options.dark) | {"judges": judges},
        config=changed_settings_of(cfg),
        config_text=portable_text(file.config_text, file.path),
    )


def build_facts(cfg: CfgNode, file: WeightsFile, dark: bool) -> dict[str, Any]:
    """Build the plain values that a card tells of a model.

    Args:
        cfg: the configuration.
        file: its weights.
        dark: frames are enhanced as those of dark clips.
    """
    gammas = gammas_of(cfg, "TEST", dark)
    enhancement = enhancement_name_of(cfg, "TEST", dark)
    if gammas:
        enhancement = f"{enhancement} {gammas[0]:g}"
    # Counters, such as BatchNorm's number of batches, are no parameters.
    floating = [value for value in file.state.values() if value.is_floating_point()]
    return {
        "model": cfg.MODEL.NAME,
        "input": cfg.DATA.INPUT,
        "num_params": sum(value.numel() for value in floating),
        "checkpoint": file.path.name,
        "checkpoint_sha256": file.sha256,
        "config_hash": file.config_hash,
        "labels": file.labels,
        "enhancement": enhancement,
        "sampling": cfg.DATA.SAMPLING,
        "sampling_rate": cfg.DATA.SAMPLING_RATE,
        "crop_size": cfg.DATA.TEST_CROP_SIZE,
        "resize": list(cfg.DATA.TEST_RESIZE) or [cfg.DATA.TEST_CROP_SIZE],
        "short_side": cfg.DATA.DECODE_SHORT_SIDE,
        "mean": list(cfg.DATA.MEAN),
        "std": list(cfg.DATA.STD),
        "train_split": cfg.DATA.TRAIN_SPLIT,
        "pseudo_csv": Path(cfg.DATA.PSEUDO_CSV).name,
        "start": Path(cfg.TRAIN.CHECKPOINT_FILE_PATH).name,
        "adapter": cfg.ADAPT.NAME,
        "adapt_split": cfg.ADAPT.SPLIT,
        "best_split": cfg.TRAIN.BEST_SPLIT,
        "seed": cfg.RNG_SEED,
        "precision": cfg.MODEL.PRECISION,
        "versions": library_versions(),
    }


def changed_settings_of(cfg: CfgNode) -> dict[str, str]:
    """Return the settings that are not default as text, without those of a machine."""
    machine = tuple(f"{key}." for key in MACHINE_KEYS)
    settings = {}
    for key, value in portable_values(node.changed_from_defaults(cfg)).items():
        if key not in PLACES and not f"{key}.".startswith(machine):
            settings[key] = str(value)
    return settings
