"""Inspect a checkpoint of any supported format, or write its weights under this project's names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightcrawler.utils.command_line import make_parser
from nightcrawler.utils.errors import UserError, argument_keys

SUFFIXES = (".safetensors", ".pyth")
EXAMPLES = """\
  {command} weights/k600.pyth --inspect
  {command} exp_adapt_bn/sf32_k700/best.pyth --to sf32.safetensors
  {command} mvit_b_32x3_k600 --to mvit.pyth --cfg exp_adapt_bn/mvit_b32_k600/config.yaml

OUT gets a JSON description beside it. With --cfg, weights are first fitted to that experiment's
model: kernels inflated, positions interpolated, classifier rows matched by class name. Only entries
that fit are written."""


def parse(argv: Sequence[str]) -> Any:
    """Parse the command line."""
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
    """Return the contents of a file as plain values."""
    known = file.format
    return {
        "format": known.name if known else "names of no known format",
        "model": known.model if known else "",
        "tensors": len(file.state),
        "values": sum(value.numel() for value in file.state.values()),
        "classes": list(file.class_names),
        "config_hash": file.config_hash,
        "sha256": file.sha256,
    }


def fitted(file: Any, name: str, config: Path) -> Any:
    """Return the file with its weights fitted to an experiment's model.

    Args:
        file: `WeightsFile` to convert.
        name: path or published name, for messages.
        config: config.yaml of the experiment.
    """
    import dataclasses

    from nightcrawler.config.identity import run_hash
    from nightcrawler.config.load import load_experiment
    from nightcrawler.config.node import dump
    from nightcrawler.engine.unseen_settings import check_scale_from_cfg
    from nightcrawler.models.build import build_model
    from nightcrawler.models.formats import plain_names
    from nightcrawler.models.pretrained import is_head, load_pretrained

    cfg = load_experiment(config)
    model = build_model(cfg)
    class_names = tuple(cfg.MODEL.CLASS_NAMES)
    keys = {"min_match": "MODEL.MIN_MATCH", "lora_rank": "MODEL.LORA_RANK"}
    with argument_keys(keys):
        report = load_pretrained(
            model, name, min_match=cfg.MODEL.MIN_MATCH, class_names=class_names
        )
    check_scale_from_cfg(cfg, report.filled, report.config_text, report.path)
    print(report)
    state = model.state_dict()
    # Models in wrappers (probes, adapters, those of libraries) have prefixes, which a report lacks.
    own_names = plain_names(state)
    # Class names belong to the rows of the classifier: without it they would say nothing.
    has_classifier = any(map(is_head, report.filled))
    return dataclasses.replace(
        file,
        state={entry: state[own_names[entry]] for entry in report.filled},
        class_names=class_names if has_classifier else (),
        config_text=dump(cfg),
        config_hash=run_hash(cfg),
    )


def halved(file: Any) -> Any:
    """Return the weights in float16.

    Raises:
        UserError: if a value exceeds the range of float16.
    """
    import dataclasses

    import torch

    state = dict(file.state)
    for name, value in file.state.items():
        if not value.is_floating_point():
            continue
        state[name] = value.half()
        if not torch.isfinite(state[name]).all():
            raise UserError(f"--half: {name} has values beyond float16 (65504): leave --half out")
    return dataclasses.replace(file, state=state)


def write(file: Any, out: Path) -> None:
    """Write weights, and a JSON description beside them. Each is written whole or not at all."""
    import torch

    from nightcrawler.config.portable import portable_text
    from nightcrawler.engine.checkpoint_files import save_checkpoint
    from nightcrawler.utils.io import atomic_write, sha256_file
    from nightcrawler.utils.safetensors_files import safetensors_bytes

    # Tensors of a file may share memory or repeat one value; those written stand alone.
    state = {
        name: value.clone(memory_format=torch.contiguous_format)
        for name, value in file.state.items()
    }
    about = {key: getattr(file, key) for key in ("config_hash", "labels")}
    cfg = portable_text(file.config_text, file.path)
    about |= {"class_names": list(file.class_names), "cfg": cfg}
    about = {key: value for key, value in about.items() if value}
    if out.suffix == ".pyth":
        save_checkpoint(out, {"model_state": state, **about})
    else:
        # The metadata of safetensors holds texts only.
        texts: dict[str, Any] = {}
        if "class_names" in about:
            texts["class_names"] = json.dumps(about.pop("class_names"))
        texts |= about
        with atomic_write(out) as stream:
            stream.write(safetensors_bytes(state, texts))
    source = {"file": file.path.name, "sha256": file.sha256}
    with atomic_write(f"{out}.json", "w") as stream:
        json.dump(
            {**describe(file), "sha256": sha256_file(out), "source": source}, stream, indent=2
        )
        stream.write("\n")


def _as_text(value: Any) -> str:
    if isinstance(value, list) and value:
        return f"{len(value)}: {', '.join(value)}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value or "not said")


def main(argv: Sequence[str]) -> int:
    """Inspect, convert, or both."""
    arguments = parse(argv)
    # Imported late, so that --help does not wait for PyTorch.
    from nightcrawler.models.formats import read_weights
    from nightcrawler.models.zoo import check_weights, obtain_weights
    from nightcrawler.utils.outputs import check_targets

    path = obtain_weights(arguments.checkpoint)
    if arguments.to and arguments.to.resolve() == path.resolve():
        raise UserError(f"--to {arguments.to} is the file to read: give another name")
    if arguments.to:
        check_targets([arguments.to, Path(f"{arguments.to}.json")], sources=[path])
    file = read_weights(path)
    # A published name with other content is refused: it may be truncated or exchanged.
    check_weights(arguments.checkpoint, file.sha256)
    if arguments.inspect:
        print(path)
        for key, value in describe(file).items():
            print(f"  {key:<12} {_as_text(value)}")
    if arguments.to:
        # Fitting before halving: interpolation in float16 would lose more digits.
        if arguments.cfg:
            file = fitted(file, arguments.checkpoint, arguments.cfg)
        if arguments.half:
            file = halved(file)
        write(file, arguments.to)
        print(f"{arguments.to}: {len(file.state)} tensors, described in {arguments.to}.json")
    return 0
