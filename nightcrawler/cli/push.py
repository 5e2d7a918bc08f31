"""Send a trained model to the Hugging Face hub: weights, configuration, classes and a card."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nightcrawler.cli.imports import add_imports
from nightcrawler.cli.model_options import folder_beside
from nightcrawler.cli.net import EXIT_PREEMPTED
from nightcrawler.utils.command_line import make_parser
from nightcrawler.utils.project import project_root

EXAMPLES = """\
  {command} exp_adapt_bn/uniformer_b32_k600 me/night-actions --dry-run
  {command} exp_adapt_bn/uniformer_b32_k600 me/night-actions --private
  {command} exp_adapt_bn/uniformer_b32_k600/export me/night-actions --license cc-by-nc-4.0 \\
      --results exp_adapt_bn/uniformer_b32_k600/arid*.npz

Weights are sent as safetensors, never as pickles. The token is that of HF_TOKEN, or of
`hf auth login`; it needs write access. What was sent is used by its name:
nightcrawler predict night.mp4 --experiment hf://me/night-actions/model.safetensors

exit codes: 0 done, 2 an error that the line names, 75 the hub is busy or the connection was lost:
the same command goes on"""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "model",
        metavar="RUN_OR_EXPORT",
        help="an experiment's folder, a checkpoint, or the folder of nightcrawler export",
    )
    parser.add_argument("repository", metavar="OWNER/NAME", help="repository of the hub")
    parser.add_argument(
        "--private", action="store_true", help="make the repository private, if it is new"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="write the folder, name its files, send nothing"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to write (default: push beside the weights)"
    )
    parser.add_argument(
        "--license",
        default="unknown",
        metavar="NAME",
        help="of the weights, as the hub names it (default: unknown)",
    )
    parser.add_argument(
        "--results",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="results files for the card (default: those beside the weights)",
    )
    parser.add_argument(
        "--truth", type=Path, metavar="CSV", help="path,label rows for videos without a label"
    )
    add_imports(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Write the folder, and send it."""
    arguments = parse(argv)
    # Imported late, so that --help does not wait for PyTorch.
    from nightcrawler.download.hub import check_repository
    from nightcrawler.export.push import BusyHubError, push
    from nightcrawler.export.push_folder import build_pushed, read_measured, write_folder
    from nightcrawler.predict.checkpoints import PredictOptions
    from nightcrawler.utils.outputs import check_targets

    check_repository(arguments.repository)
    check_targets([], [arguments.out])
    options = PredictOptions(root=project_root(), device="cpu", imports=tuple(arguments.imports))
    model = build_pushed(arguments.model, options)
    measured = read_measured(model, arguments.results, arguments.truth)
    out = folder_beside(arguments.model, arguments.out, "push")
    files = write_folder(out, model, arguments.repository, arguments.license, measured)
    for path in files:
        print(f"{path}: {path.stat().st_size:,} bytes")
    if arguments.dry_run:
        print(f"not sent to {arguments.repository}: leave --dry-run out to send these files")
        return 0
    try:
        address = push(out, files, arguments.repository, arguments.private)
    except BusyHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_PREEMPTED
    print(f"sent: {address}")
    print(
        f"use: nightcrawler predict CLIP --experiment hf://{arguments.repository}/{files[0].name}"
    )
    return 0
