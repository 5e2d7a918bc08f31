"""Keys of clips: lists and decoding, enhancement, augmentation and mixing."""

from __future__ import annotations

from nightcrawler.config.schema.conditions import (
    ADAPTS,
    ENHANCES,
    HAS_DARK_TRAINING_CLIPS,
    MIXES,
    MIXES_BOTH_WAYS,
    READS_GAMMA,
    USES_CAMERA,
    differs,
    enhances_with,
    equals,
    is_positive,
    is_set,
)
from nightcrawler.config.schema.key import Key
from nightcrawler.config.schema.value_rules import (
    is_ascending,
    is_no_darkened_split,
    is_not_empty,
    is_odd,
    is_rand_augment,
    is_size,
)
from nightcrawler.utils.registries import ENHANCEMENTS

# Largest number of frames, of a stride between frames, and of pixels along a side.
MAX_SIZE = 4096
# Longest side of a picture that is decoded.
MAX_SIDE = 8192

DATA = (
    # Lists and splits.
    Key("DATA.PATH_PREFIX", "data", "Folder of list files and videos (layout: DATASET.md)."),
    Key(
        "DATA.PSEUDO_CSV",
        "",
        "Pseudo-labels (path,label,p0,...,p{K-1}) of the second training stream, under "
        "PATH_PREFIX; empty for none.",
    ),
    Key(
        "DATA.INPUT",
        "frames",
        "What models see of a video.",
        choices={
            "frames": "pictures",
            "pose": "joints of the main person, from pose files (section POSE), for models of "
            "skeletons",
        },
        hashed_by_default=False,
    ),
    Key("DATA.TRAIN_SPLIT", "train", "Split of the labelled stream.", rule=is_no_darkened_split),
    Key(
        "DATA.EXCLUDE_VAL",
        True,
        "Exclude the videos of the split that picks the checkpoint from the labelled stream. The "
        "published runs did not: all 330 validation clips are in their training list.",
    ),
    # Clips. `segment` follows TSN (Wang et al. 2016), `dense` follows PySlowFast.
    Key("DATA.NUM_FRAMES", 32, "Frames of a clip.", minimum=1, maximum=MAX_SIZE),
    Key(
        "DATA.SAMPLING",
        "segment",
        "Choice of a clip's frames.",
        choices={
            "segment": "one frame of each of NUM_FRAMES equal parts",
            "dense": "frames SAMPLING_RATE apart",
        },
    ),
    Key(
        "DATA.SAMPLING_RATE",
        2,
        "Distance of two frames, in frames.",
        minimum=1,
        maximum=MAX_SIZE,
        needs=equals("DATA.SAMPLING", "dense"),
    ),
    # Sizes are sides of squares: MViT's position embeddings are built for one training size.
    Key(
        "DATA.TRAIN_CROP_SIZE",
        224,
        "Side of the square training crop, in pixels.",
        minimum=1,
        maximum=MAX_SIZE,
    ),
    Key(
        "DATA.TEST_CROP_SIZE",
        224,
        "Short side of the resized test clip and side of its square crops, in pixels.",
        minimum=1,
        maximum=MAX_SIZE,
    ),
    Key(
        "DATA.TEST_RESIZE",
        [],
        "Size that a test clip is resized to before it is cropped, in pixels: [short side], or "
        "[height, width] whatever its proportions; [] takes a short side of TEST_CROP_SIZE.",
        rule=is_size,
        hashed_by_default=False,
    ),
    # PySlowFast's values, as all pretrained weights of MODEL_ZOO.md expect.
    Key(
        "DATA.MEAN",
        [0.45, 0.45, 0.45],
        "Mean of the normalisation (x / 255 - MEAN) / STD, per RGB channel.",
        length=3,
    ),
    Key(
        "DATA.STD",
        [0.225, 0.225, 0.225],
        "Standard deviation of the normalisation, per RGB channel.",
        minimum=1e-6,
        length=3,
    ),
    # Decoding. Scaling while decoding is faster, but changes pixels slightly.
    Key(
        "DATA.DECODE_SHORT_SIDE",
        0,
        "Short side that frames are scaled down to while decoding, in pixels; 0 keeps the file's "
        "size (exact).",
        minimum=0,
        maximum=MAX_SIDE,
    ),
    # A dark clip has a signal of 8 to 16 levels, so that rounding down takes 5 to 10 % of it.
    Key(
        "DATA.COLOR",
        "exact",
        "Conversion of decoded pictures from YUV to RGB.",
        choices={
            "exact": "rounded to the nearest level, chroma at full size",
            "published": "FFmpeg's fast conversion: 0.8 levels darker in the mean",
        },
        hashed_by_default=False,
        earlier="published",
    ),
    Key(
        "DATA.DECODER",
        "pyav",
        "Video decoder.",
        choices={
            "pyav": "FFmpeg through PyAV",
            "torchcodec": "an extra: the frames of COLOR published, but damage goes unnoticed",
        },
    ),
    # A decoder allocates whole pictures, whatever size they are scaled to.
    Key(
        "DATA.MAX_PIXELS",
        4096 * 4096,
        "Largest picture of a video that is read, width x height in pixels.",
        minimum=1,
        maximum=MAX_SIDE * MAX_SIDE,
        hashed_by_default=False,
    ),
    Key(
        "DATA.CHECKSUMS",
        "",
        "Checksums of all videos, as `sha256sum` in PATH_PREFIX writes them, under PATH_PREFIX; "
        "empty for no comparison.",
    ),
    # The camera model makes dark validation clips from bright ones: their labels may pick a
    # checkpoint without any label of the dark domain.
    Key(
        "DATA.CAMERA",
        "fit",
        "Low-light camera that darkens the bright clips of val_dark and AUG.DARKEN: fit (with the "
        "codec, to the clips of ADAPT.SPLIT; no label is used), night or darker (presets), or a "
        ".yaml under PATH_PREFIX with MEAN, ELECTRONS, READ_NOISE, CAST and, if any, SMOOTHING.",
        needs=USES_CAMERA,
    ),
    # A few unreadable videos are skipped and reported, many mean a wrong folder.
    Key(
        "DATA.MAX_BAD_FRACTION",
        0.01,
        "Fraction of a list's videos that may be unusable before a run stops.",
        minimum=0,
        maximum=1,
    ),
    # Decoding takes most of a loader's time. Cached frames are uint8, before augmentation.
    Key(
        "DATA.CACHE",
        "none",
        "Cache of decoded videos for later epochs.",
        choices={
            "none": "decode every time",
            "ram": "each process keeps those it used last",
            "disk": "files in CACHE_DIR, shared by all processes",
        },
    ),
    Key(
        "DATA.CACHE_DIR",
        "",
        "Folder of the cache; empty takes PATH_PREFIX/cache.",
        needs=equals("DATA.CACHE", "disk"),
    ),
    Key(
        "DATA.CACHE_GIB",
        8.0,
        "Largest size of the folder, or of each process's cache, in GiB.",
        minimum=0.001,
        needs=differs("DATA.CACHE", "none"),
    ),
)

ENHANCE = (
    # One switch per phase. Adapting to clips lit otherwise than tested ones costs accuracy.
    Key(
        "ENHANCE.TRAIN",
        "none",
        "Enhancement of dark training clips: pseudo-labelled ones (published: none) and those that "
        "AUG.DARKEN makes. Bright clips are never enhanced.",
        choices=ENHANCEMENTS,
        needs=HAS_DARK_TRAINING_CLIPS,
    ),
    Key(
        "ENHANCE.ADAPT",
        "gamma",
        "Enhancement of the clips for adaptation (published: none; the mismatch costs accuracy).",
        choices=ENHANCEMENTS,
        needs=ADAPTS,
    ),
    Key("ENHANCE.VAL", "gamma", "Enhancement of dark validation splits.", choices=ENHANCEMENTS),
    Key("ENHANCE.TEST", "gamma", "Enhancement of dark test splits.", choices=ENHANCEMENTS),
    # Parameters of single enhancements.
    Key(
        "ENHANCE.GAMMA",
        0.25,
        "Exponent of gamma: 255 (x / 255)^GAMMA; below 1 brightens.",
        minimum=0.01,
        maximum=10,
        needs=READS_GAMMA,
    ),
    Key(
        "ENHANCE.TARGET_MEAN",
        110.0,
        "Mean brightness that auto_gamma aims at, 0 to 255.",
        minimum=1,
        maximum=254,
        needs=enhances_with("auto_gamma"),
    ),
    Key(
        "ENHANCE.CLAHE_CLIP",
        24.0,
        "Clip limit of clahe's histograms, in mean bin counts: about the largest contrast gain.",
        minimum=1,
        maximum=256,
        needs=enhances_with("clahe"),
    ),
    Key(
        "ENHANCE.CLAHE_TILES",
        [4, 4],
        "Tiles of clahe: rows, columns.",
        minimum=1,
        maximum=64,
        length=2,
        needs=enhances_with("clahe"),
    ),
    Key(
        "ENHANCE.RETINEX_SIGMAS",
        [15.0, 80.0, 250.0],
        "Standard deviations of retinex's Gaussian surrounds, in pixels.",
        minimum=0.5,
        maximum=10_000,
        rule=is_not_empty("surround"),
        needs=enhances_with("retinex"),
    ),
    Key(
        "ENHANCE.ZERO_DCE_WEIGHTS",
        "",
        "Weights of zero_dce: Epoch99.pth of its authors, or a .safetensors with the same names.",
        needs=enhances_with("zero_dce"),
    ),
    Key(
        "ENHANCE.DENOISE_FRAMES",
        1,
        "Neighbouring frames that are averaged, where they agree, before a dark clip is enhanced: "
        "an odd number; 1 for no denoising. Phases without enhancement are not denoised.",
        minimum=1,
        maximum=31,
        rule=is_odd("frames"),
        needs=ENHANCES,
    ),
)

AUG = (
    # Repeated augmentation (Hoffer et al. 2020) reuses a decoded video.
    Key(
        "AUG.NUM_SAMPLE",
        2,
        "Augmented copies of each training clip in a batch (repeated augmentation); they share "
        "one decoding.",
        minimum=1,
        maximum=64,
    ),
    Key(
        "AUG.AA_TYPE",
        "rand-m7-n4-mstd0.5-inc1",
        "RandAugment policy as timm writes it; empty for none.",
        rule=is_rand_augment,
    ),
    Key(
        "AUG.INTERPOLATION",
        "bilinear",
        "Interpolation of RandAugment's rotation, shear and translation.",
        choices={
            "bilinear": "fast, on the device of AUG.DEVICE; translations are whole pixels",
            "bicubic": "as published: Pillow's, on the CPU, about seven times as slow",
        },
        needs=is_set("AUG.AA_TYPE"),
        hashed_by_default=False,
    ),
    # Random resized crop (Szegedy et al. 2015).
    Key(
        "AUG.SCALE",
        [0.08, 1.0],
        "Area of the random crop as a fraction of the frame: smallest, largest.",
        minimum=1e-3,
        maximum=1,
        length=2,
        rule=is_ascending,
    ),
    Key(
        "AUG.ASPECT",
        [0.75, 1.3333],
        "Width over height of the random crop: smallest, largest.",
        minimum=0.01,
        maximum=100,
        length=2,
        rule=is_ascending,
    ),
    # Random erasing: Zhong et al. 2020.
    Key("AUG.FLIP_PROB", 0.5, "Probability of a horizontal flip.", minimum=0, maximum=1),
    Key("AUG.RE_PROB", 0.25, "Probability of random erasing.", minimum=0, maximum=1),
    Key(
        "AUG.RE_MODE",
        "pixel",
        "Content of erased boxes.",
        choices={"pixel": "noise per pixel", "rand": "one random colour", "const": "zero"},
        needs=is_positive("AUG.RE_PROB"),
    ),
    Key(
        "AUG.RE_COUNT",
        1,
        "Largest number of erased boxes.",
        minimum=1,
        maximum=64,
        needs=is_positive("AUG.RE_PROB"),
    ),
    # RandAugment on the GPU frees loader workers, if the CPU is the bottleneck.
    Key(
        "AUG.DEVICE",
        "cpu",
        "Device of augmentation.",
        choices={
            "cpu": "in loader workers",
            "gpu": "on the training process's GPU; the low-light camera stays on the CPU",
        },
        needs=differs("DEVICE", "cpu"),
    ),
    Key(
        "AUG.DARKEN",
        0.0,
        "Probability that a bright training clip passes through the low-light camera of "
        "DATA.CAMERA.",
        minimum=0,
        maximum=1,
    ),
)

MIXUP = (
    # mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), as in timm.
    Key("MIXUP.ENABLE", True, "Mix clips and targets within a micro-batch."),
    Key("MIXUP.ALPHA", 0.8, "Beta(a, a) of mixup; 0 for none.", minimum=0, needs=MIXES),
    Key("MIXUP.CUTMIX_ALPHA", 1.0, "Beta(a, a) of CutMix; 0 for none.", minimum=0, needs=MIXES),
    Key("MIXUP.PROB", 1.0, "Probability that a batch is mixed.", minimum=0, maximum=1, needs=MIXES),
    Key(
        "MIXUP.SWITCH_PROB",
        0.5,
        "Probability of CutMix if both are on.",
        minimum=0,
        maximum=1,
        needs=MIXES_BOTH_WAYS,
    ),
    Key(
        "MIXUP.LABEL_SMOOTH_VALUE",
        0.1,
        "Label smoothing of hard targets, with or without mixing.",
        minimum=0,
        maximum=0.999,
    ),
)

KEYS = (*DATA, *ENHANCE, *AUG, *MIXUP)
