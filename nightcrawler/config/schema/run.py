"""Keys of the run itself: folder, seed, devices, logs and loader workers."""

from __future__ import annotations

from nightcrawler.config.schema.key import Key
from nightcrawler.config.schema.value_rules import are_writers, is_module_names

KEYS = (
    Key(
        "OUTPUT_DIR",
        "",
        "Folder of the run; empty takes the folder of the experiment's config.yaml. Paths in a "
        "configuration are relative to the project's root.",
    ),
    Key(
        "RNG_SEED",
        6666,
        "Seed of all random draws: weights, order, augmentation, dropout.",
        minimum=0,
        maximum=2**31 - 1,
    ),
    Key(
        "DEVICE",
        "auto",
        "Device to compute on.",
        choices={"auto": "CUDA if there is any, else the CPU", "cpu": "", "cuda": ""},
    ),
    # The launcher knows the number of processes: these two keys only assert it, so that a published
    # config is not run on fewer GPUs by mistake.
    Key(
        "NUM_GPUS",
        0,
        "GPUs (or CPU processes) per machine; 0 takes the number that the launcher started, any "
        "other must equal it.",
        minimum=0,
        maximum=4096,
    ),
    Key(
        "NUM_SHARDS",
        0,
        "Machines; 0 takes the number that the launcher started, any other must equal it.",
        minimum=0,
        maximum=4096,
    ),
    Key(
        "DIST_BACKEND",
        "auto",
        "Backend of collective operations.",
        choices={"auto": "nccl on CUDA, gloo on the CPU", "nccl": "", "gloo": ""},
    ),
    Key(
        "DIST_TIMEOUT_SEC",
        600,
        "Seconds after which an incomplete collective operation is an error.",
        minimum=1,
    ),
    # Several processes on one CPU slow each other down if each starts a thread per core.
    Key(
        "NUM_THREADS",
        0,
        "Threads of one CPU process; 0 leaves torch's choice.",
        minimum=0,
        maximum=4096,
    ),
    Key("LOG_PERIOD", 10, "Iterations between two log lines.", minimum=1),
    # Added in version 0.2: hashes of configurations without it stay those of 0.1.
    Key(
        "IMPORTS",
        [],
        "Modules of your own that register models, splits, enhancements, adapters or losses, by "
        "dotted name (my_models.net). They are imported before names are checked, from sys.path or "
        "the current folder.",
        element="my_models.net",
        rule=is_module_names,
        hashed_by_default=False,
    ),
    Key(
        "WRITERS",
        ["tensorboard"],
        "Writers of curves, pictures and settings, beside the rows of OUTPUT_DIR/metrics.jsonl.",
        rule=are_writers,
        hashed_by_default=False,
    ),
    # Sections, in the order of a dump.
    Key(
        "TENSORBOARD.ENABLE",
        True,
        "False leaves tensorboard out of WRITERS, as configurations of version 0.1 ask for it.",
    ),
    Key(
        "DATA_LOADER.NUM_WORKERS",
        4,
        "Worker processes of each loader; 0 loads in the main process.",
        minimum=0,
        maximum=1024,
    ),
    Key(
        "DATA_LOADER.PREFETCH_FACTOR",
        2,
        "Batches that each worker prepares ahead.",
        minimum=1,
        maximum=1024,
    ),
    Key("DATA_LOADER.PIN_MEMORY", True, "Page-locked host memory, for CUDA only."),
    # A worker may hang on a damaged file or a network disk.
    Key(
        "DATA_LOADER.TIMEOUT_SEC",
        600,
        "Seconds to wait for a batch of a worker before the run stops; 0 waits for ever.",
        minimum=0,
    ),
)
