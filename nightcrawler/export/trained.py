"""From a trained experiment to its graph, and what is to be said of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode
from torch import Tensor

from nightcrawler.config import node
from nightcrawler.data.build_video import build_video_reader
from nightcrawler.data.dataset import MultiViewClips
from nightcrawler.data.lowlight.enhance.build import enhancement_name_of, gammas_of
from nightcrawler.data.video.decode import VideoReader
from nightcrawler.engine.resume import weights_to_test_from_cfg
from nightcrawler.engine.run_metadata import MACHINE_KEYS
from nightcrawler.export.frames import build_frames_maker
from nightcrawler.export.graph import FramesToProbs, build_graph
from nightcrawler.models.build import build_model
from nightcrawler.models.formats import WeightsFile, read_weights
from nightcrawler.predict.checkpoints import (
    PredictOptions,
    build_trained_config,
    find_checkpoint,
)
from nightcrawler.utils.env import library_versions


@dataclass(frozen=True)
class Trained:
    """A trained model as a graph.

    Attributes:
        name: of its experiment.
        graph: uint8 frames to probabilities.
        state: its weights, by the names of the public checkpoints.
        frame_shape: T, H, W, 3 of a clip.
        reader: reads the frames of a video.
        builder: makes the graph's input of them.
        class_names: the K classes.
        facts: for the card, as plain values.
        config: what is not default in its configuration, as text by key, without where and how fast it ran.
        config_text: all of it, as YAML.
    """

    name: str
    graph: FramesToProbs
    state: dict[str, Tensor]
    frame_shape: tuple[int, int, int, int]
    reader: VideoReader
    builder: MultiViewClips
    class_names: tuple[str, ...]
    facts: dict[str, Any]
    config: dict[str, str]
    config_text: str

    def about(self) -> dict[str, str]:
        """What every written file says of itself, as texts."""
        texts = {
            key: self.facts[key]
            for key in ("labels", "config_hash", "checkpoint_sha256", "enhancement")
        }
        lists = {"class_names": self.class_names, "frame_shape": self.frame_shape}
        return {key: text for key, text in texts.items() if text} | {
            key: json.dumps(one) for key, one in lists.items()
        }


def build_trained(given: Path, dark: bool, frame_size: Sequence[int] | None, root: Path) -> Trained:
    """The graph of an experiment's folder or checkpoint, on the CPU.

    Args:
        given: the folder or file.
        dark: light frames as testing lights dark clips.
        frame_size: height and width of its frames; `None` takes the test crop's.
        root: the project, for files that a configuration names.

    Raises:
        UserError: if there is no whole checkpoint, or clips are lit in a way that cannot be in a graph.
    """
    path = find_checkpoint(given)
    file = read_weights(path)
    cfg = build_trained_config(file, PredictOptions(dark=dark, root=root))
    model = build_model(cfg).eval()
    weights_to_test_from_cfg(cfg, model)
    size = tuple(frame_size) if frame_size else (cfg.DATA.TEST_CROP_SIZE,) * 2
    return Trained(
        name=path.parent.resolve().name,
        graph=build_graph(cfg, model, dark),
        state=model.state_dict(),
        frame_shape=(cfg.DATA.NUM_FRAMES, size[0], size[1], 3),
        reader=build_video_reader(cfg),
        builder=build_frames_maker(cfg, size),
        class_names=tuple(cfg.MODEL.CLASS_NAMES),
        facts=_build_facts(cfg, file, dark),
        config=_build_settings(cfg),
        config_text=file.config_text,
    )


def _build_facts(cfg: CfgNode, file: WeightsFile, dark: bool) -> dict[str, Any]:
    gammas = gammas_of(cfg, "TEST", dark)
    name = enhancement_name_of(cfg, "TEST", dark)
    return {
        "model": cfg.MODEL.NAME,
        "num_params": sum(
            value.numel() for value in file.state.values() if value.is_floating_point()
        ),
        "checkpoint": file.path.name,
        "checkpoint_sha256": file.sha256,
        "config_hash": file.config_hash,
        "labels": file.labels,
        "enhancement": f"{name} {gammas[0]:g}" if gammas else name,
        "sampling": cfg.DATA.SAMPLING,
        "sampling_rate": cfg.DATA.SAMPLING_RATE,
        "crop_size": cfg.DATA.TEST_CROP_SIZE,
        "mean": list(cfg.DATA.MEAN),
        "std": list(cfg.DATA.STD),
        "train_split": cfg.DATA.TRAIN_SPLIT,
        "pseudo_csv": cfg.DATA.PSEUDO_CSV,
        "start": Path(cfg.TRAIN.CHECKPOINT_FILE_PATH).name,
        "adapter": cfg.ADAPT.NAME,
        "adapt_split": cfg.ADAPT.SPLIT,
        "best_split": cfg.TRAIN.BEST_SPLIT,
        "seed": cfg.RNG_SEED,
        "precision": cfg.MODEL.PRECISION,
        "versions": library_versions(),
    }


def _build_settings(cfg: CfgNode) -> dict[str, str]:
    machine = tuple(f"{key}." for key in MACHINE_KEYS)
    changed = node.changed_from_defaults(cfg)
    # The checkpoint's own path was set to load it; where weights came from may be a path of the machine too.
    named = {
        key: Path(value).name if key.endswith("_PATH") else value for key, value in changed.items()
    }
    return {key: str(value) for key, value in named.items() if not f"{key}.".startswith(machine)}
