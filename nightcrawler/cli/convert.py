"""Show what a checkpoint of any supported format holds, or write its weights alone, by this project's names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightcrawler.utils.cli import make_parser
from nightcrawler.utils.errors import UserError

SUFFIXES = (".safetensors", ".pyth")
EXAMPLES = """\
  {command} weights/k600.pyth --inspect
  {command} exp_adapt_bn/sf32_k700/best.pyth --to sf32.safetensors
  {command} mvit_b_32x3_k600 --to mvit.pyth --cfg exp_adapt_bn/mvit_b32_k600/config.yaml

A JSON of what was written is put beside OUT. With --cfg, weights are fitted to that experiment's model first
(kernels inflated, positions interpolated, classifier by class name), and only what fitted is written."""


def parse(argv: Sequence[str]) -> Any:
    """The command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument("checkpoint", metavar="IN", help="a file, or a name of MODEL_ZOO.md")
    parser.add_argument(
        "--to", type=Path, metavar="OUT", help="write weights to OUT (.safetensors or .pyth)"
    )
    parser.add_argument(
        "--cfg", type=Path, metavar="FILE", help="config.yaml of the experiment they are for"
    )
    parser.add_argument(
        "--half", action="store_true", help="write float16: half the size, three digits"
    )
    parser.add_argument(
        "--inspect", action="store_true", help="print format, size, classes and sha256"
    )
    arguments = parser.parse_args(argv)
    if not arguments.to and not arguments.inspect:
        parser.error("nothing to do: give --inspect or --to OUT")
    if arguments.to and arguments.to.suffix not in SUFFIXES:
        parser.error(f"--to {arguments.to}: the name must end with {' or '.join(SUFFIXES)}")
    return arguments


def describe(file: Any) -> dict[str, Any]:
    """What a file holds, as plain values."""
    return {
        "format": file.format.name if file.format else "names of no known format",
        "model": file.format.model if file.format else "",
        "tensors": len(file.state),
        "values": sum(value.numel() for value in file.state.values()),
        "classes": list(file.class_names),
        "config_hash": file.config_hash,
        "sha256": file.sha256,
    }


def fitted(file: Any, name: str, config: Path) -> Any:
    """The file as an experiment's model takes it."""
    import dataclasses

    from nightcrawler.config.node import config_hash, dump, load_experiment
    from nightcrawler.engine.build import MACHINE_KEYS
    from nightcrawler.models.build import build_model
    from nightcrawler.models.pretrained import is_head, load_pretrained

    cfg = load_experiment(config)
    model, class_names = build_model(cfg), tuple(cfg.MODEL.CLASS_NAMES)
    report = load_pretrained(model, name, min_match=cfg.MODEL.MIN_MATCH, class_names=class_names)
    print(report)
    state = model.state_dict()
    return dataclasses.replace(
        file,
        state={entry: state[entry] for entry in report.filled},
        class_names=class_names if any(map(is_head, report.filled)) else (),
        config_text=dump(cfg),
        config_hash=config_hash(cfg, ignore=MACHINE_KEYS),
    )


def halved(file: Any) -> Any:
    """The same weights in float16.

    Raises:
        UserError: if a value is too large for it.
    """
    import dataclasses

    import torch

    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in file.state.items()
    }
    for name, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise UserError(f"--half: {name} has values beyond float16 (65504): leave --half out")
    return dataclasses.replace(file, state=state)


def write(file: Any, out: Path) -> None:
    """Write weights and, beside them, a JSON of what they are; each is whole or absent."""
    import torch

    from nightcrawler.engine.checkpoint import save_checkpoint
    from nightcrawler.utils.io import atomic_write, sha256_file

    # Tensors of a file may share memory or repeat one value; those written stand alone.
    state = {
        name: value.clone(memory_format=torch.contiguous_format)
        for name, value in file.state.items()
    }
    about = {key: getattr(file, key) for key in ("config_hash", "labels")}
    about |= {"class_names": list(file.class_names), "cfg": file.config_text}
    about = {key: value for key, value in about.items() if value}
    if out.suffix == ".pyth":
        save_checkpoint(out, {"model_state": state, **about})
    else:
        from safetensors.torch import save

        texts = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in about.items()
        }
        with atomic_write(out) as stream:
            stream.write(save(state, {"format": "pt", **texts}))
    source = {"file": file.path.name, "sha256": file.sha256}
    with atomic_write(f"{out}.json", "w") as stream:
        json.dump(
            {**describe(file), "sha256": sha256_file(out), "source": source}, stream, indent=2
        )
        stream.write("\n")


def main(argv: Sequence[str]) -> int:
    """Inspect, convert, or both."""
    arguments = parse(argv)
    from nightcrawler.models.formats import read_weights
    from nightcrawler.models.zoo import check_weights, find_weights

    path = find_weights(arguments.checkpoint)
    if arguments.to and arguments.to.resolve() == path.resolve():
        raise UserError(f"--to {arguments.to} is the file to read: give another name")
    file = read_weights(path)
    check_weights(arguments.checkpoint, file.sha256)
    if arguments.inspect:
        print(path)
        for key, value in describe(file).items():
            shown = (
                f"{len(value)}: {', '.join(value)}"
                if isinstance(value, list) and value
                else value or "not said"
            )
            print(f"  {key:<12} {shown:,}" if isinstance(shown, int) else f"  {key:<12} {shown}")
    if arguments.to:
        file = fitted(file, arguments.checkpoint, arguments.cfg) if arguments.cfg else file
        write(halved(file) if arguments.half else file, arguments.to)
        print(f"{arguments.to}: {len(file.state)} tensors, described in {arguments.to}.json")
    return 0
