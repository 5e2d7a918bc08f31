"""Print parameters, multiply-adds, activation memory, norm layers and speed of models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nightcrawler.utils.command_line import make_parser
from nightcrawler.utils.errors import UserError

EXAMPLES = """\
  {command} configs/models/uniformer_b32_k600.yaml
  {command} exp_adapt_bn/sf32_k700 --overlay configs/demo.yaml --speed
  {command} configs/models/tv_s3d.yaml DATA.NUM_FRAMES 16 DATA.TRAIN_CROP_SIZE 112
  {command} --markdown configs/models/*.yaml

All figures are of one clip of DATA.NUM_FRAMES x DATA.TRAIN_CROP_SIZE^2, or of as many steps x 13
joints. GFLOPs are multiply-adds (one multiplication and one addition count once) of convolutions,
linear layers and attention in a forward pass. Activations are the tensors that training keeps for
the backward pass, in MODEL.PRECISION, without the parameters. ADAPT.NAME batchnorm changes
BatchNorm layers only. Clips per second are forward passes of single clips, on OMP_NUM_THREADS
threads."""

KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z][A-Z0-9_]*)*")
SPEED_SEC = 3.0
LEGEND = "GFLOPs: multiply-adds of one clip; activations: kept for the backward pass of one clip"


def parse(argv: Sequence[str]) -> Any:
    """Parse the command line. The first word that looks like a key begins the overrides."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "words",
        nargs="+",
        type=str,
        metavar="EXPERIMENT_OR_CFG ... [KEY VALUE ...]",
        help="folders with a config.yaml, or .yaml files; then overrides (DATA.NUM_FRAMES 16)",
    )
    parser.add_argument(
        "--overlay",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="merge FILE on top (repeatable)",
    )
    parser.add_argument("--markdown", action="store_true", help="print rows for MODEL_ZOO.md")
    parser.add_argument(
        "--speed", action="store_true", help="measure clips per second on this machine"
    )
    arguments = parser.parse_intermixed_args(argv)
    # argparse cannot tell a path from a key, so both come as one list of words.
    words = arguments.words
    first_key = len(words)
    for place, word in enumerate(words):
        if KEY.fullmatch(word):
            first_key = place
            break
    if "" in words[:first_key]:
        parser.error("an experiment is empty: give its folder or .yaml file")
    arguments.paths = [Path(word) for word in words[:first_key]]
    arguments.overrides = words[first_key:]
    if not arguments.paths:
        parser.error("name at least one experiment or configuration before the overrides")
    return arguments


class Info(NamedTuple):
    """Figures of one model.

    Attributes:
        config: config file, as the user named it.
        model: `MODEL.NAME`.
        clip: channels, frames, height and width; of skeletons channels, steps and joints.
        parameters: number of parameters.
        gmacs: 10^9 multiply-adds of one clip.
        activation_bytes: bytes kept for the backward pass of one clip.
        norms: kind of norm layer to number of layers.
        clips_per_sec: forward passes per second; `None` if not measured.
    """

    config: str
    model: str
    clip: tuple[int, ...]
    parameters: int
    gmacs: float
    activation_bytes: int
    norms: dict[str, int]
    clips_per_sec: float | None


def count_activation_bytes(model: Any, clip: Sequence[int], dtype: Any = None) -> int:
    """Count the bytes that a forward pass in training keeps for the backward pass.

    Nothing is computed. A storage that several operations keep counts once; parameters and buffers
    do not count.

    Args:
        model: model on the CPU.
        clip: shape of its input, `[B, 3, T, H, W]`.
        dtype: of autocast; `None` computes in float32.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.multiprocessing.reductions import StorageWeakRef

    from nightcrawler.models.flops import fake_state

    kept: dict[int, Any] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        kept[StorageWeakRef(storage).cdata] = storage
        return tensor

    # In training mode, since evaluation keeps nothing for a backward pass.
    model.train()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        own = fake_state(mode, model)
        saved = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with saved, torch.autocast("cpu", dtype, enabled=dtype is not None):
            logits = torch.func.functional_call(model, own, (torch.empty(*clip),))
        # Kept storages live as long as the graph, so no two of them share an address until here.
        for tensor in own.values():
            kept.pop(StorageWeakRef(tensor.untyped_storage()).cdata, None)
        del logits
        return sum(storage.nbytes() for storage in kept.values())


def count_norms(model: Any) -> dict[str, int]:
    """Count norm layers by kind; `BatchNorm` are those whose statistics an adapter can estimate."""
    from torch import nn

    from nightcrawler.adapt.batchnorm import batchnorm_layers

    modules = list(model.modules())
    return {
        "BatchNorm": len(batchnorm_layers(model)),
        "LayerNorm": sum(isinstance(module, nn.LayerNorm) for module in modules),
        "GroupNorm": sum(isinstance(module, nn.GroupNorm) for module in modules),
        "RMSNorm": sum(isinstance(module, nn.RMSNorm) for module in modules),
    }


def measure_clips_per_sec(model: Any, clip: Any) -> float:
    """Measure forward passes of single clips for about `SPEED_SEC`, after one warm-up pass."""
    import time

    import torch

    model.eval()
    one = torch.randn(clip)
    count = 0
    with torch.inference_mode():
        model(one)
        start = time.perf_counter()
        while count == 0 or time.perf_counter() - start < SPEED_SEC:
            model(one)
            count += 1
    return count / (time.perf_counter() - start)


def describe(path: Path, arguments: Any) -> Info:
    """Build one model from its configuration and measure it."""
    from nightcrawler.config.load import load_experiment
    from nightcrawler.data.build_clips import clip_shape_of
    from nightcrawler.engine.build import PRECISIONS
    from nightcrawler.models.build import build_model
    from nightcrawler.models.flops import count_gmacs

    file = path / "config.yaml" if path.is_dir() else path
    cfg = load_experiment(file, arguments.overlay, arguments.overrides)
    model = build_model(cfg)
    clip = (1, *clip_shape_of(cfg))
    return Info(
        config=str(path),
        model=cfg.MODEL.NAME,
        clip=clip[1:],
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        gmacs=count_gmacs(model, clip),
        activation_bytes=count_activation_bytes(model, clip, PRECISIONS[cfg.MODEL.PRECISION]),
        norms=count_norms(model),
        clips_per_sec=measure_clips_per_sec(model, clip) if arguments.speed else None,
    )


def cells(info: Info) -> dict[str, str]:
    """Return one row: column to text."""
    others = [
        f"{count} {kind}" for kind, count in info.norms.items() if count and kind != "BatchNorm"
    ]
    # Small models would all show 0.0.
    digits = ".1f" if info.gmacs >= 1 else ".2g"
    activations = "< 1 MiB"
    if info.activation_bytes >= 2**20:
        activations = f"{info.activation_bytes / 2**20:,.0f} MiB"
    row = {
        "config": info.config,
        "MODEL.NAME": info.model,
        "clip": "x".join(map(str, info.clip)),
        "parameters": f"{info.parameters:,}",
        "GFLOPs": f"{info.gmacs:{digits}}",
        "activations": activations,
        "BatchNorm": str(info.norms["BatchNorm"] or "none"),
        "other norms": ", ".join(others) or "none",
    }
    if info.clips_per_sec is not None:
        row["clips/s"] = f"{info.clips_per_sec:.3g}"
    return row


def aligned(rows: Sequence[dict[str, str]]) -> str:
    """Return the rows as an aligned table, figures to the right."""
    import pandas

    table = pandas.DataFrame(rows)
    for column in ("config", "MODEL.NAME", "clip", "other norms"):
        width = max(len(column), int(table[column].str.len().max()))
        table[column] = table[column].str.ljust(width)
        table = table.rename(columns={column: column.ljust(width)})
    lines = table.to_string(index=False).splitlines()
    return "\n".join(line.rstrip() for line in lines)


def markdown(rows: Sequence[dict[str, str]]) -> str:
    """Return the rows as a Markdown table, as in MODEL_ZOO.md."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns)]
    lines += [[f"`{row['config']}`", *list(row.values())[1:]] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(argv: Sequence[str]) -> int:
    """Print one line per model."""
    arguments = parse(argv)
    missing = [path for path in arguments.paths if not path.exists()]
    if missing:
        raise UserError(f"{missing[0]}: no such experiment or configuration")
    rows = [cells(describe(path, arguments)) for path in arguments.paths]
    print(markdown(rows) if arguments.markdown else f"{aligned(rows)}\n{LEGEND}")
    return 0
