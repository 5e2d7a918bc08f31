"""Keys of pose files and of clips of skeletons."""

from __future__ import annotations

from nightcrawler.config.schema.conditions import SEES_POSES
from nightcrawler.config.schema.key import Key

KEYS = (
    Key(
        "POSE.FOLDER",
        "poses",
        "Folder of pose files, under PATH_PREFIX and laid out as it is: that of Test/a.mp4 is "
        "FOLDER/Test/a.mp4.pose.npz. A list may name pose files themselves, too.",
        needs=SEES_POSES,
        hashed_by_default=False,
    ),
    Key(
        "POSE.SECONDS",
        4.0,
        "Seconds that a clip lasts, in NUM_FRAMES steps. Of a longer track it is a part, a shorter "
        "one leaves steps without confidence.",
        minimum=0.1,
        maximum=600,
        needs=SEES_POSES,
        hashed_by_default=False,
    ),
    Key(
        "POSE.LEAST_SECONDS",
        0.25,
        "Seconds that a person must be seen. A video without such a person has the status "
        "'no person' instead of a prediction.",
        minimum=0,
        maximum=600,
        needs=SEES_POSES,
        hashed_by_default=False,
    ),
)
