"""Every key of the configuration, once: default value, unit, choices. (Those of architectures: defaults_models.py.)

Sections and names follow PySlowFast where the meaning is the same. A key that is not here is an error in a
file; a key that is here is read by something (a test proves it).
"""

from __future__ import annotations

from fvcore.common.config import CfgNode

from nightcrawler.config.defaults_models import add_architectures

# What lists that are empty by default may look like, where that is not whole numbers.
FILLED = {"TEST.GAMMAS": [0.25]}
CLASS_NAMES = [
    "Drink",
    "Jump",
    "Pick",
    "Pour",
    "Push",
    "Run",
    "Sit",
    "Stand",
    "Turn",
    "Walk",
    "Wave",
]


def get_cfg() -> CfgNode:
    """A fresh, unfrozen configuration with every default."""
    cfg = CfgNode()
    for add in (
        _run,
        _data,
        _enhance,
        _augment,
        _train,
        _solver,
        _adapt,
        _test,
        _model,
        add_architectures,
    ):
        add(cfg)
    return cfg


def _run(cfg: CfgNode) -> None:
    # Folder of the run; empty takes the folder of the experiment's config.yaml. Paths in a configuration are
    # relative to the project's root.
    cfg.OUTPUT_DIR = ""
    # Seed of everything that is drawn: weights, order, augmentation, dropout.
    cfg.RNG_SEED = 6666
    # Where to compute: auto (CUDA where there is any) | cpu | cuda.
    cfg.DEVICE = "auto"
    # GPUs (or CPU processes) per machine; 0 takes what the launcher started, else it must agree with it.
    cfg.NUM_GPUS = 0
    # Machines; 0 takes what the launcher started, else it must agree with it.
    cfg.NUM_SHARDS = 0
    # Backend of collectives: auto (nccl on CUDA, gloo on CPU) | nccl | gloo.
    cfg.DIST_BACKEND = "auto"
    # Seconds after which a collective that does not complete is an error.
    cfg.DIST_TIMEOUT_SEC = 600
    # Threads of one CPU process; 0 leaves torch's choice.
    cfg.NUM_THREADS = 0
    # Iterations between two log lines.
    cfg.LOG_PERIOD = 10

    cfg.TENSORBOARD = CfgNode()
    # Write TensorBoard event files into OUTPUT_DIR/tensorboard.
    cfg.TENSORBOARD.ENABLE = True

    cfg.DATA_LOADER = CfgNode()
    # Worker processes of each loader; 0 loads in the main process.
    cfg.DATA_LOADER.NUM_WORKERS = 4
    # Batches each worker prepares ahead.
    cfg.DATA_LOADER.PREFETCH_FACTOR = 2
    # Page-locked host memory, for CUDA only.
    cfg.DATA_LOADER.PIN_MEMORY = True
    # Seconds to wait for a batch before the run stops; 0 waits for ever (workers only).
    cfg.DATA_LOADER.TIMEOUT_SEC = 600


def _data(cfg: CfgNode) -> None:
    cfg.DATA = CfgNode()
    # Folder of list files and videos (layout: DATASET.md).
    cfg.DATA.PATH_PREFIX = "data"
    # Pseudo-labels (path,label,p0,...,p{K-1}) of the second training stream, under PATH_PREFIX; empty: none.
    cfg.DATA.PSEUDO_CSV = ""
    # Split of the labelled stream.
    cfg.DATA.TRAIN_SPLIT = "train"
    # Leave out of the labelled stream what is also in the split that picks the checkpoint. The published runs
    # did not: all 330 validation clips are in their training list.
    cfg.DATA.EXCLUDE_VAL = True
    # Frames of a clip, and how they are chosen: segment (one of each of NUM_FRAMES equal parts) | dense
    # (SAMPLING_RATE frames apart).
    cfg.DATA.NUM_FRAMES = 32
    cfg.DATA.SAMPLING = "segment"
    cfg.DATA.SAMPLING_RATE = 2
    # Side of the square training crop; short side of the resized test clip and side of its crops; in pixels.
    cfg.DATA.TRAIN_CROP_SIZE = 224
    cfg.DATA.TEST_CROP_SIZE = 224
    # Normalisation: (x / 255 - MEAN) / STD, per channel or one for all.
    cfg.DATA.MEAN = [0.45, 0.45, 0.45]
    cfg.DATA.STD = [0.225, 0.225, 0.225]
    # Short side that frames are scaled down to while decoding, in pixels; 0 keeps the file's size (exact).
    cfg.DATA.DECODE_SHORT_SIDE = 0
    # Decoder: pyav | torchcodec (an extra; the same frames, but it does not notice damaged ones).
    cfg.DATA.DECODER = "pyav"
    # Checksums of all videos, as `sha256sum` in PATH_PREFIX writes them, under PATH_PREFIX; empty: not compared.
    cfg.DATA.CHECKSUMS = ""
    # Night cameras that val_dark and AUG.DARKEN see bright clips with: fit (to the clips of ADAPT.SPLIT; no label is
    # used) | night | darker (presets of data/darkness.py) | a .yaml with MEAN, ELECTRONS, READ_NOISE, CAST, under
    # PATH_PREFIX.
    cfg.DATA.CAMERA = "fit"
    # Share of a list's videos that may be unusable before a run stops.
    cfg.DATA.MAX_BAD_FRACTION = 0.01
    # Keep decoded videos for later epochs: none | ram (each process its own, those it used last) | disk (in
    # CACHE_DIR, shared by all processes; empty takes PATH_PREFIX/cache).
    cfg.DATA.CACHE = "none"
    cfg.DATA.CACHE_DIR = ""
    # Most that the folder, or each process, may keep, in GiB.
    cfg.DATA.CACHE_GIB = 8.0


def _enhance(cfg: CfgNode) -> None:
    cfg.ENHANCE = CfgNode()
    # How dark frames are lit: none | gamma | auto_gamma (a gamma for each clip) | clahe (histograms, tile by
    # tile) | retinex (multi-scale) | zero_dce (a network; seconds a clip). One switch a phase; bright splits
    # are never enhanced. TRAIN: pseudo-labelled clips (published: none). ADAPT: clips that BatchNorm statistics
    # are taken from (published: none; the mismatch costs accuracy). VAL, TEST: dark splits.
    cfg.ENHANCE.TRAIN = "none"
    cfg.ENHANCE.ADAPT = "gamma"
    cfg.ENHANCE.VAL = "gamma"
    cfg.ENHANCE.TEST = "gamma"
    # Exponent of gamma: 255 (x / 255)^GAMMA; below 1 lights up.
    cfg.ENHANCE.GAMMA = 0.25
    # Mean brightness that auto_gamma aims at, of 255.
    cfg.ENHANCE.TARGET_MEAN = 110.0
    # Most that a bin of clahe's histograms may hold, in means of a bin: about how far two levels come apart.
    cfg.ENHANCE.CLAHE_CLIP = 24.0
    # Tiles of clahe: rows, columns.
    cfg.ENHANCE.CLAHE_TILES = [4, 4]
    # Surroundings that retinex compares a pixel with: standard deviations of Gaussians, in pixels.
    cfg.ENHANCE.RETINEX_SIGMAS = [15.0, 80.0, 250.0]
    # Weights of zero_dce: Epoch99.pth of its authors, or a .safetensors with the same names.
    cfg.ENHANCE.ZERO_DCE_WEIGHTS = ""
    # Neighbouring frames of the video that are averaged where they agree, before a dark clip is lit: an odd
    # number; 1 for none. A phase whose switch is none takes frames as they are.
    cfg.ENHANCE.DENOISE_FRAMES = 1


def _augment(cfg: CfgNode) -> None:
    cfg.AUG = CfgNode()
    # Augmented copies of each training clip in a batch (repeated augmentation); they share one decode.
    cfg.AUG.NUM_SAMPLE = 2
    # RandAugment as timm writes it, such as rand-m7-n4-mstd0.5-inc1; empty for none.
    cfg.AUG.AA_TYPE = "rand-m7-n4-mstd0.5-inc1"
    # Area of the random crop, as a share of the frame, and its width / height: [least, most].
    cfg.AUG.SCALE = [0.08, 1.0]
    cfg.AUG.ASPECT = [0.75, 1.3333]
    # Probability of a horizontal flip, and of random erasing.
    cfg.AUG.FLIP_PROB = 0.5
    cfg.AUG.RE_PROB = 0.25
    # What erased pixels become: pixel (noise per pixel) | rand (one colour) | const (zero).
    cfg.AUG.RE_MODE = "pixel"
    # Most boxes that are erased.
    cfg.AUG.RE_COUNT = 1
    # Where clips are augmented: cpu (by the loader's workers) | gpu (by the training process on its GPU; night cameras
    # still see them on the CPU).
    cfg.AUG.DEVICE = "cpu"
    # Probability that a bright training clip passes through a night camera of DATA.CAMERA.
    cfg.AUG.DARKEN = 0.0

    cfg.MIXUP = CfgNode()
    # Mix clips and targets within a micro-batch.
    cfg.MIXUP.ENABLE = True
    # Beta(a, a) of mixup and of cutmix; 0 for none.
    cfg.MIXUP.ALPHA = 0.8
    cfg.MIXUP.CUTMIX_ALPHA = 1.0
    # Probability that a batch is mixed at all.
    cfg.MIXUP.PROB = 1.0
    # Probability of cutmix where both are on.
    cfg.MIXUP.SWITCH_PROB = 0.5
    # Label smoothing of hard targets, with or without mixing.
    cfg.MIXUP.LABEL_SMOOTH_VALUE = 0.1


def _train(cfg: CfgNode) -> None:
    cfg.TRAIN = CfgNode()
    # Videos in an optimiser step over all ranks (times AUG.NUM_SAMPLE clips).
    cfg.TRAIN.BATCH_SIZE = 32
    # Videos mixed, normalised (BatchNorm) and back-propagated together; the number of ranks does not change
    # that. Divides BATCH_SIZE / ranks; 0 takes BATCH_SIZE / ranks.
    cfg.TRAIN.MICRO_BATCH = 8
    # Weights to start from: a path, or a name of MODEL_ZOO.md; empty starts from random weights.
    cfg.TRAIN.CHECKPOINT_FILE_PATH = ""
    # Take only the weights from CHECKPOINT_FILE_PATH; False goes on with its epoch and optimiser too.
    cfg.TRAIN.CHECKPOINT_EPOCH_RESET = True
    # Go on from OUTPUT_DIR/checkpoints/checkpoint_latest.pyth where there is one.
    cfg.TRAIN.AUTO_RESUME = True
    # Epochs between two validations (the last epoch is always validated).
    cfg.TRAIN.EVAL_PERIOD = 1
    # Splits that are validated.
    cfg.TRAIN.VAL_SPLITS = ["val_dry"]
    # Split whose top-1 picks best.pyth. Labels of clips filmed in the dark make every figure of the run an
    # oracle's; those of val_dark, which is val_dry seen by night cameras, do not.
    cfg.TRAIN.BEST_SPLIT = "val_dry"
    # Length of an epoch with two streams: labelled | pseudo | both (the longer; the shorter starts again).
    cfg.TRAIN.EPOCH_LENGTH = "pseudo"
    # One optimiser step on both streams' summed loss; False takes a step for each, as published.
    cfg.TRAIN.JOINT_STEP = False
    # Weight of the pseudo-labelled stream's loss.
    cfg.TRAIN.PSEUDO_WEIGHT = 1.0
    # Epochs over which that weight grows linearly from 0; 0 has it at once.
    cfg.TRAIN.PSEUDO_RAMP_EPOCHS = 0.0
    # Let every pseudo-labelled class come equally often, however many clips it has, so that none dies out.
    cfg.TRAIN.BALANCE_PSEUDO = False
    # Leave out pseudo-labels whose confidence (largest probability) is more than THRESHOLD standard
    # deviations below the mean confidence of PSEUDO_CSV; -1 keeps all.
    cfg.TRAIN.THRESHOLD = -1.0
    # What to do when a loss or gradient is not finite: skip (at most 20 in a row) | raise.
    cfg.TRAIN.NON_FINITE = "skip"
    # Checkpoints that are kept, beside best.pyth: one an epoch, the newest first to go on from.
    cfg.TRAIN.KEEP_LAST = 2
    # Saves in a row that may fail (a full disk) before the run stops.
    cfg.TRAIN.MAX_FAILED_SAVES = 3
    # Decay of a moving average of the weights, by step, such as 0.999; validated too. 0 for none.
    cfg.TRAIN.EMA_DECAY = 0.0


def _solver(cfg: CfgNode) -> None:
    cfg.SOLVER = CfgNode()
    # Learning rate after warm-up, at the end, and at the start of warm-up.
    cfg.SOLVER.BASE_LR = 1.0e-4
    cfg.SOLVER.COSINE_END_LR = 1.0e-6
    cfg.SOLVER.WARMUP_START_LR = 1.0e-6
    # Epochs of linear warm-up (may be fractional).
    cfg.SOLVER.WARMUP_EPOCHS = 10.0
    # The cosine starts after warm-up (True) or at epoch 0 (False).
    cfg.SOLVER.COSINE_AFTER_WARMUP = True
    # Epochs.
    cfg.SOLVER.MAX_EPOCH = 20
    # Optimiser: adamw | sgd.
    cfg.SOLVER.OPTIMIZING_METHOD = "adamw"
    # Momentum of sgd, betas of adamw.
    cfg.SOLVER.MOMENTUM = 0.9
    cfg.SOLVER.BETAS = [0.9, 0.999]
    # Weight decay of weights (BatchNorm and one-dimensional parameters have their own).
    cfg.SOLVER.WEIGHT_DECAY = 0.03
    # No weight decay for other one-dimensional parameters (biases, LayerNorm).
    cfg.SOLVER.ZERO_WD_1D_PARAM = True
    # Largest total L2 norm of gradients; 0 for no clipping.
    cfg.SOLVER.CLIP_GRAD_L2NORM = 20.0


def _adapt(cfg: CfgNode) -> None:
    cfg.ADAPT = CfgNode()
    # What is adapted to dark clips after each validated epoch: none | batchnorm (its statistics) |
    # tent (statistics, then scales and shifts of all norm layers by entropy minimisation).
    cfg.ADAPT.NAME = "batchnorm"
    # Split of the dark clips (labels are never read).
    cfg.ADAPT.SPLIT = "total_unlabel"
    # Transform of the dark clips: eval (as tested) | train (as published: RandAugment, erasing, mixing off).
    cfg.ADAPT.TRANSFORM = "eval"
    # A model without BatchNorm is left as it is, with a line that says so; False makes it an error.
    cfg.ADAPT.ALLOW_NO_BATCHNORM = False
    # Step size of tent, on scales and shifts of norm layers.
    cfg.ADAPT.TENT_LR = 1.0e-3

    cfg.BN = CfgNode()
    # Batches of dark clips (of TRAIN.BATCH_SIZE) that statistics are taken from; 0 takes all clips.
    cfg.BN.NUM_BATCHES_PRECISE = 200
    # Share of the new statistics in the blend with the trained ones: 1 replaces them.
    cfg.BN.BLEND = 1.0
    # Weight decay of BatchNorm's scale and shift.
    cfg.BN.WEIGHT_DECAY = 0.0


def _test(cfg: CfgNode) -> None:
    cfg.TEST = CfgNode()
    # Split to test: train | val_dry | val_dark | dark_unlabel | arid | total_unlabel | test, or NAME of a NAME.csv.
    cfg.TEST.DATA_SELECT = "total_unlabel"
    # Clips in a forward pass, per rank.
    cfg.TEST.BATCH_SIZE = 8
    # Temporal views: one number, or a list that pairs with NUM_SPATIAL_CROPS; every pair is a results file.
    cfg.TEST.NUM_ENSEMBLE_VIEWS = [1]
    # Spatial crops: 1 (centre) or 3 (left, centre, right); one number, or a list.
    cfg.TEST.NUM_SPATIAL_CROPS = [1]
    # Where test views look: distinct (no shared frame where the video is long enough) | published (as
    # published: views coincide on short videos).
    cfg.TEST.VIEWS = "distinct"
    # Gammas that every dark clip is predicted with, joined like views, from one decode; [] takes ENHANCE.GAMMA
    # alone. They are part of the results file's name.
    cfg.TEST.GAMMAS = []
    # How a video's clips are joined: mean | max (of logits and of probabilities).
    cfg.TEST.ENSEMBLE_METHOD = "mean"
    # Checkpoint to test; empty takes OUTPUT_DIR/best.pyth.
    cfg.TEST.CHECKPOINT_FILE_PATH = ""


def _model(cfg: CfgNode) -> None:
    cfg.MODEL = CfgNode()
    # Architecture: uniformer | mvit | slowfast | resnet3d | torchvision/NAME | timm/NAME.
    cfg.MODEL.NAME = "uniformer"
    # Classes, in index order.
    cfg.MODEL.NUM_CLASSES = 11
    cfg.MODEL.CLASS_NAMES = list(CLASS_NAMES)
    # Dropout before the classifier.
    cfg.MODEL.DROPOUT_RATE = 0.0
    # Stochastic depth of the last block (it grows linearly from 0).
    cfg.MODEL.DROP_PATH_RATE = 0.0
    # Give the model three more channels, twice the difference between a frame and the clip's mean frame.
    cfg.MODEL.MOTION_STEM = False
    # Recompute activations in the backward pass to save memory.
    cfg.MODEL.USE_CHECKPOINT = False
    # Blocks of each stage (one number for MViT) that are recomputed; transformers only.
    cfg.MODEL.CHECKPOINT_NUM = [0, 0, 0, 0]
    # Arithmetic of forward passes: fp32 | bf16 | fp16 (autocast; fp16 with loss scaling, CUDA only).
    cfg.MODEL.PRECISION = "fp32"
    # Keep activations channels last: faster for SlowFast, no matter for the others on a CPU (MODEL_ZOO.md).
    cfg.MODEL.CHANNELS_LAST = False
    # Compile the model with torch.compile.
    cfg.MODEL.COMPILE = False
    # Loss of pseudo-labels: hard (cross entropy with the label) | soft (with the probabilities) |
    # kl (distillation) | kl_published (teacher divided by T, mean over all elements).
    cfg.MODEL.PSEUDO_LOSS = "hard"
    # Temperature of the kl loss.
    cfg.MODEL.PSEUDO_TEMPERATURE = 1.0
    # Least share of the backbone's parameters that a checkpoint must fill.
    cfg.MODEL.MIN_MATCH = 0.95
