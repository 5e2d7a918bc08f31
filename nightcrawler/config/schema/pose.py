"""Keys of pose files and of clips of skeletons."""

from __future__ import annotations

from nightcrawler.config.schema.conditions import LIGHTS_POSES, MIXES_SOURCES, SEES_POSES
from nightcrawler.config.schema.key import Key
from nightcrawler.config.schema.value_rules import is_odd, is_unique
from nightcrawler.utils.registries import ENHANCEMENTS, ESTIMATORS

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
        "POSE.ESTIMATOR",
        "mediapipe",
        "Estimator that makes pose files that are missing or outdated, before a training or test, "
        "and when videos are predicted. See docs/pose.md.",
        choices=ESTIMATORS,
        needs=SEES_POSES,
        hashed_by_default=False,
    ),
    Key(
        "POSE.ESTIMATOR_MODEL",
        "",
        "File of its model, where it brings none.",
        needs=SEES_POSES,
        hashed_by_default=False,
    ),
    Key(
        "POSE.LIGHT",
        "auto_gamma",
        "Enhancement of videos before the estimator, with parameters of its own.",
        choices=ENHANCEMENTS,
        needs=SEES_POSES,
        hashed_by_default=False,
    ),
    Key(
        "POSE.DENOISE_FRAMES",
        3,
        "Neighbours among the frames that are looked at, averaged where they agree, before LIGHT: "
        "an odd number; 1 for no denoising.",
        minimum=1,
        maximum=31,
        rule=is_odd("frames"),
        needs=LIGHTS_POSES,
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
    # Sources of labelled tracks.
    Key(
        "POSE.SOURCES",
        [],
        "Labelled lists that are learned from beside DATA.TRAIN_SPLIT, such as figures and people "
        "(motions that nightcrawler prepare writes). Classes then come equally often.",
        element="figures",
        rule=is_unique,
        needs=SEES_POSES,
        hashed_by_default=False,
    ),
    Key(
        "POSE.SHARES",
        [],
        "Shares of DATA.TRAIN_SPLIT and of each of SOURCES in the draws of a class, among those "
        "that have it, whatever their sum; [] for equal ones.",
        element=0.5,
        minimum=1e-6,
        maximum=1e6,
        needs=MIXES_SOURCES,
        hashed_by_default=False,
    ),
    # Augmentation. Motions in the world are also filmed from any side.
    Key(
        "POSE.DISTURB",
        1.0,
        "Probability that joints of a motion in the world are disturbed as cameras and estimators "
        "disturb them: jitter, wrong places, gaps, swapped sides, guessed legs, a moving camera.",
        minimum=0,
        maximum=1,
        needs=SEES_POSES,
        hashed_by_default=False,
    ),
    Key(
        "POSE.DISTURB_ESTIMATES",
        0.5,
        "The same for joints of pictures, which an estimator has disturbed already.",
        minimum=0,
        maximum=1,
        needs=SEES_POSES,
        hashed_by_default=False,
    ),
    Key(
        "POSE.WARP",
        0.25,
        "Time warp: a person becomes faster or slower by a factor between 1 / (1 + WARP) and "
        "1 + WARP.",
        minimum=0,
        maximum=4,
        needs=SEES_POSES,
        hashed_by_default=False,
    ),
    Key(
        "POSE.CROP",
        0.7,
        "Time crop: least share of a track that is kept; 1 keeps all.",
        minimum=0.01,
        maximum=1,
        needs=SEES_POSES,
        hashed_by_default=False,
    ),
    Key(
        "POSE.STRETCH",
        0.1,
        "A figure becomes wider or narrower by a factor between 1 / (1 + STRETCH) and 1 + STRETCH.",
        minimum=0,
        maximum=4,
        needs=SEES_POSES,
        hashed_by_default=False,
    ),
    Key(
        "POSE.FLIP_PROB",
        0.5,
        "Probability that left and right are exchanged.",
        minimum=0,
        maximum=1,
        needs=SEES_POSES,
        hashed_by_default=False,
    ),
    Key(
        "POSE.JOINT_DROP",
        0.05,
        "Probability that a joint is lost for a part of the clip or all of it: it is bridged then, "
        "without confidence.",
        minimum=0,
        maximum=1,
        needs=SEES_POSES,
        hashed_by_default=False,
    ),
)
