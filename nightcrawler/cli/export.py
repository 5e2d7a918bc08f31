"""Write a trained model for other programs, with lighting and normalisation inside, and compare it with PyTorch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightcrawler.utils.cli import at_least, make_parser
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.project import project_root

if TYPE_CHECKING:
    from nightcrawler.data.lists import VideoItem
    from nightcrawler.export.card import Figure
    from nightcrawler.export.trained import Trained
    from nightcrawler.pseudo.predictions import Predictions

EXIT_DIFFERS = 1
FORMATS = ("pt2", "onnx", "safetensors")
EXAMPLES = """\
  {command} exp_adapt_bn/uniformer_b32_k600
  {command} exp_adapt_bn/sf32_k700/best.pyth --formats onnx --out deploy --frame-size 480x640
  {command} exp_adapt_bn/uniformer_b32_k600 --int8 --check clips/*.mp4 --benchmark
  {command} exp_adapt_bn/uniformer_b32_k600 --int8 --split test --truth data/synthetic/truth/test.csv

Frames uint8 [B,T,H,W,3] go in, probabilities [B,K] come out; MODEL_CARD.md beside the files says which frames. ONNX,
--int8 and their measures need the extra: pip install 'nightcrawler-video[export]'.

exit codes: 0 done, 1 written but --check found a difference above 1e-4, 2 an error that the line names"""


def parse(argv: Sequence[str]) -> Any:
    """The command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "experiment", type=Path, metavar="EXPERIMENT", help="its folder, or a checkpoint"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where to write (default: export beside the weights)",
    )
    parser.add_argument(
        "--formats", nargs="+", choices=FORMATS, default=FORMATS, help="default: all"
    )
    parser.add_argument(
        "--int8", action="store_true", help="write ONNX with int8 weights in matrix products, too"
    )
    parser.add_argument(
        "--frame-size",
        metavar="HxW",
        help="of the frames that will come (default: the test crop's)",
    )
    parser.add_argument(
        "--bright", action="store_true", help="leave frames unlit: for bright video, or lit before"
    )
    parser.add_argument(
        "--check",
        nargs="+",
        type=Path,
        default=[],
        metavar="CLIP",
        help="compare with PyTorch on these",
    )
    parser.add_argument(
        "--benchmark", action="store_true", help="measure speed beside PyTorch's, in one run"
    )
    parser.add_argument(
        "--batch", type=int, default=1, metavar="N", help="clips in a benchmark's call (default 1)"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="calls, the fastest counts (default 5)"
    )
    parser.add_argument(
        "--threads",
        type=at_least(0),
        default=0,
        metavar="N",
        help="of each runtime (default: torch's choice)",
    )
    parser.add_argument("--split", metavar="NAME", help="measure accuracy on this split")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="folder of lists (default data)",
    )
    parser.add_argument(
        "--truth", type=Path, metavar="CSV", help="path,label rows for videos without a label"
    )
    parser.add_argument(
        "--results",
        nargs="+",
        type=Path,
        default=[],
        metavar="PKL",
        help="results files for the card",
    )
    arguments = parser.parse_args(argv)
    if arguments.int8 and "onnx" not in arguments.formats:
        parser.error("--int8 is made of the ONNX file: add onnx to --formats")
    if arguments.truth and not (arguments.split or arguments.results):
        parser.error("--truth needs --split or --results")
    for name in ("batch", "repeats"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name}: expected at least 1")
    if arguments.frame_size is not None:
        found = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", arguments.frame_size)
        if not found:
            parser.error(
                f"--frame-size {arguments.frame_size}: expected HEIGHTxWIDTH in pixels, such as 480x640"
            )
        arguments.frame_size = (int(found[1]), int(found[2]))
    return arguments


def write_files(trained: Trained, out: Path, arguments: Any) -> dict[str, Path]:
    """Write what is asked for; names to files."""
    from nightcrawler.export import formats

    about, files = trained.about(), {}
    wanted = {name: out / f"model.{name}" for name in FORMATS if name in arguments.formats}
    program = (
        formats.trace(trained.graph, trained.frame_shape)
        if {"pt2", "onnx"} & wanted.keys()
        else None
    )
    if "pt2" in wanted:
        formats.write_pt2(program, wanted["pt2"], about)
    if "onnx" in wanted:
        formats.write_onnx(program, wanted["onnx"], about)
    if "safetensors" in wanted:
        weights = {**about, "cfg": trained.config_text}
        formats.write_safetensors(trained.state, wanted["safetensors"], weights)
    files |= wanted
    if arguments.int8:
        files["int8"] = out / "model.int8.onnx"
        formats.write_int8(wanted["onnx"], files["int8"])
    for path in files.values():
        print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB", flush=True)
    return files


def open_runs(trained: Trained, files: dict[str, Path]) -> dict[str, Callable[..., Any]]:
    """PyTorch, and each written file that can be run."""
    from nightcrawler.export import runtimes
    from nightcrawler.export.measure import PYTORCH

    runs = {PYTORCH: runtimes.run_module(trained.graph)}
    for name, path in files.items():
        if name != "safetensors":
            runs[name] = (runtimes.open_pt2 if name == "pt2" else runtimes.open_onnx)(path)
    return runs


def predict_tested(arguments: Any, items: Sequence[VideoItem]) -> Predictions:
    """What nightcrawler itself says of the videos, one view and the centre crop."""
    from nightcrawler.export.measure import joined
    from nightcrawler.predict.predictor import PredictOptions, build_predictor

    settings = PredictOptions((1, 1), not arguments.bright, root=project_root())
    return joined(
        list(
            build_predictor(arguments.experiment, "tested", None, settings).video_predictions(items)
        )
    )


def check(trained: Trained, runs: dict[str, Any], arguments: Any) -> bool:
    """Print how far the files are from PyTorch on clips; whether all but int8 are as near as they should be."""
    from nightcrawler.data.lists import VideoItem
    from nightcrawler.export.measure import PYTORCH, TOLERANCE, parity, predict_all

    items = [
        VideoItem(str(path), -1, path, row) for row, path in enumerate(arguments.check, start=1)
    ]
    found = predict_all(trained, runs, items)
    reference, fine = found.pop(PYTORCH), True
    found["as tested"] = predict_tested(arguments, items)
    print(
        f"parity on {len(items)} clips: largest difference of a probability from PyTorch's on the same frames"
    )
    for name, predictions in found.items():
        one = parity(predictions, reference)
        limit = TOLERANCE if name in FORMATS else None
        verdict = (
            ""
            if limit is None
            else f", limit {limit:g}: {'ok' if one.worst <= limit else 'DIFFERS'}"
        )
        same = f"same class {one.num_same}/{one.num_videos}"
        print(
            f"  {name:<10} {one.worst:.2e} ({Path(one.worst_video).name}), {same}{verdict}",
            flush=True,
        )
        fine = fine and (limit is None or one.worst <= limit)
    return fine


def benchmark(trained: Trained, runs: dict[str, Any], arguments: Any) -> None:
    """Print the speed of each run beside PyTorch's."""
    import torch

    from nightcrawler.export.measure import PYTORCH, speeds

    seconds = speeds(runs, trained.frame_shape, arguments.batch, arguments.repeats)
    shape = "x".join(map(str, trained.frame_shape[:3]))
    print(
        f"speed, {arguments.batch} clips of {shape} a call, {torch.get_num_threads()} threads, float32 but int8:"
    )
    for name, took in seconds.items():
        rate = arguments.batch / took
        print(
            f"  {name:<10} {rate:9.2f} clips/s, {seconds[PYTORCH] / took:.2f} times PyTorch's",
            flush=True,
        )


def measure(trained: Trained, runs: dict[str, Any], arguments: Any) -> list[Figure]:
    """Print accuracy on a split; returns the lines for the card.

    Raises:
        UserError: if the split is bright and the graph lights, or no video has a label.
    """
    from nightcrawler.data.lists import read_list
    from nightcrawler.data.splits import get_split
    from nightcrawler.engine.tester import describe
    from nightcrawler.export.card import Figure
    from nightcrawler.export.measure import predict_all
    from nightcrawler.pseudo.labels import read_labels
    from nightcrawler.pseudo.predictions import add_labels

    split = get_split(arguments.split, arguments.data)
    if not (split.dark or arguments.bright):
        raise UserError(
            f"--split {split.name} is bright, and the graph lights its frames: give --bright"
        )
    items = read_list(split.list_file, split.folders, len(trained.class_names))
    found = {"as tested": predict_tested(arguments, items), **predict_all(trained, runs, items)}
    truth = read_labels(arguments.truth) if arguments.truth else {}
    figures = []
    for name, predictions in found.items():
        add_labels(predictions, truth)
        if (predictions.labels < 0).all():
            raise UserError(f"--split {split.name}: no video has a label: give --truth CSV")
        figures.append(
            Figure(f"{name}, split {split.name}, one view, centre crop", describe(predictions))
        )
        print(f"{figures[-1].what}: {figures[-1].result}", flush=True)
    return figures


def read_figures(trained: Trained, arguments: Any) -> list[Figure]:
    """The card's lines of results files."""
    from nightcrawler.export.card import results_figure
    from nightcrawler.pseudo.labels import read_labels
    from nightcrawler.pseudo.predictions import add_labels, read_results

    truth = read_labels(arguments.truth) if arguments.truth else {}
    figures = []
    for path in arguments.results:
        predictions = read_results(path)
        add_labels(predictions, truth)
        figures.append(results_figure(path, predictions, trained.facts["checkpoint_sha256"]))
    return figures


def main(argv: Sequence[str]) -> int:
    """Write, compare, measure, and say all of it on the card."""
    arguments = parse(argv)
    import torch

    from nightcrawler.export.card import write_card
    from nightcrawler.export.trained import build_trained
    from nightcrawler.utils.io import check_targets

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    given = arguments.experiment
    for path in arguments.check:
        if not path.is_file():
            raise UserError(f"--check {path}: no such file")
    check_targets([], [arguments.out])
    trained = build_trained(given, not arguments.bright, arguments.frame_size, project_root())
    figures = read_figures(trained, arguments)
    out = arguments.out or (given if given.is_dir() else given.parent) / "export"
    files, fine, card = write_files(trained, out, arguments), True, out / "MODEL_CARD.md"
    write_card(card, trained, list(files.values()), figures)
    wants_runs = arguments.check or arguments.benchmark or arguments.split
    runs = open_runs(trained, files) if wants_runs else {}
    if arguments.check:
        fine = check(trained, runs, arguments)
    if arguments.benchmark:
        benchmark(trained, runs, arguments)
    if arguments.split:
        write_card(
            card, trained, list(files.values()), [*figures, *measure(trained, runs, arguments)]
        )
    print(f"{card}: what goes in, what comes out, what it was trained on")
    return 0 if fine else EXIT_DIFFERS
