"""Presets of a synthetic dataset: the scenes of its dark clips, and their cameras."""

from __future__ import annotations

from dataclasses import dataclass

from nightcrawler.data.lowlight.camera import PRESETS as CAMERAS
from nightcrawler.data.lowlight.camera import CameraRanges
from nightcrawler.synthetic.scene import NEAR, STREET, SceneRanges


@dataclass(frozen=True)
class Preset:
    """Ranges of the dark clips of a dataset. Bright clips are those of `scene.NEAR`.

    Attributes:
        cameras: camera in low light.
        scenes: people, places and views.
        crf: least and largest rate factor of x264, drawn uniformly: more is worse.
    """

    cameras: CameraRanges
    scenes: SceneRanges = NEAR
    crf: tuple[float, float] = (24.0, 24.0)


PRESETS = {
    "night": Preset(CAMERAS["night"]),
    "darker": Preset(CAMERAS["darker"]),
    # The codec leaves the noise, and with it what the models can learn to see.
    "street": Preset(CAMERAS["darker"], STREET, (12.0, 18.0)),
}
