"""Export a trained model for other programs, enhancement inside, and compare it with PyTorch."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightcrawler.cli.imports import add_imports
from nightcrawler.cli.model_options import folder_beside
from nightcrawler.utils.collector import collector_paused
from nightcrawler.utils.command_line import at_least, make_parser
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.project import project_root

if TYPE_CHECKING:
    from nightcrawler.data.lists import VideoItem
    from nightcrawler.export.card import CardAccuracy
    from nightcrawler.export.trained import Trained
    from nightcrawler.predict.checkpoints import PredictOptions
    from nightcrawler.predict.predictor import Predictor
    from nightcrawler.pseudo.predictions import Predictions

EXIT_DIFFERS = 1
FORMATS = ("pt2", "onnx", "safetensors")
# Options that nothing reads without one of others, and their values where they are not given.
USERS = {
    "batch": ("benchmark",),
    "repeats": ("benchmark",),
    "threads": ("benchmark", "check", "split"),
    "data": ("split",),
}
DEFAULTS = {"batch": 1, "repeats": 5, "threads": 0, "data": Path("data")}
EXAMPLES = """\
  {command} exp_adapt_bn/uniformer_b32_k600
  {command} exp_adapt_bn/sf32_k700/best.pyth --formats onnx --out deploy \\
      --frame-size 480x640
  {command} exp_adapt_bn/uniformer_b32_k600 --int8 --check clips/*.mp4 --benchmark
  {command} exp_adapt_bn/uniformer_b32_k600 --int8 --split test \\
      --truth data/synthetic/truth/test.csv

Frames uint8 [B,T,H,W,3] go in, probabilities [B,K] come out. MODEL_CARD.md beside the files tells
which frames. ONNX, --int8 and their measures need the extra:
pip install 'nightcrawler-video[export]'.

exit codes: 0 done, 1 written but --check found a difference above its limit, 2 an error, named
in one line"""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the checked options of an export."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "experiment", metavar="EXPERIMENT", help="its folder, a checkpoint, or a name of weights"
    )
    add_file_options(parser)
    add_comparison_options(parser)
    add_accuracy_options(parser)
    arguments = parser.parse_args(argv)
    fault = find_fault(arguments)
    if fault:
        parser.error(fault)
    for name, default in DEFAULTS.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, default)
    height = width = None
    if arguments.frame_size is not None:
        height, width = map(int, arguments.frame_size.split("x"))
    arguments.frame_size = (height, width)
    return arguments


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Add options for the files to write."""
    files = parser.add_argument_group("files")
    files.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to write (default: export beside weights)"
    )
    files.add_argument(
        "--formats", nargs="+", choices=FORMATS, default=FORMATS, help="default: all"
    )
    files.add_argument(
        "--int8", action="store_true", help="also write ONNX with int8 weights in matrix products"
    )
    files.add_argument(
        "--frame-size", metavar="HxW", help="fix the size of the frames to come (default: any)"
    )
    files.add_argument(
        "--bright",
        action="store_true",
        help="leave frames as they are: for bright video, or frames enhanced before",
    )
    add_imports(files)


def add_comparison_options(parser: argparse.ArgumentParser) -> None:
    """Add options that compare the files with PyTorch."""
    comparison = parser.add_argument_group("comparison with PyTorch")
    comparison.add_argument(
        "--check", nargs="+", type=Path, default=[], metavar="CLIP", help="compare on these clips"
    )
    comparison.add_argument(
        "--benchmark", action="store_true", help="measure speed beside PyTorch's, in one run"
    )
    comparison.add_argument(
        "--batch", type=int, metavar="N", help="clips in a benchmark's call (default 1)"
    )
    comparison.add_argument(
        "--repeats", type=int, metavar="N", help="calls, the fastest counts (default 5)"
    )
    comparison.add_argument(
        "--threads",
        type=at_least(0),
        metavar="N",
        help="threads of each runtime (default: PyTorch's choice)",
    )


def add_accuracy_options(parser: argparse.ArgumentParser) -> None:
    """Add options that measure accuracy for the card."""
    accuracy = parser.add_argument_group("accuracy")
    accuracy.add_argument("--split", metavar="NAME", help="measure accuracy on this split")
    accuracy.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder of lists (default data)",
    )
    accuracy.add_argument(
        "--truth", type=Path, metavar="CSV", help="path,label rows for videos without a label"
    )
    accuracy.add_argument(
        "--results",
        nargs="+",
        type=Path,
        default=[],
        metavar="PKL",
        help="results files for the card",
    )


def find_fault(arguments: argparse.Namespace) -> str:
    """Return the first fault in the options, empty where there is none."""
    if arguments.int8 and "onnx" not in arguments.formats:
        return "--int8 is made of the ONNX file: add onnx to --formats"
    if arguments.truth and not (arguments.split or arguments.results):
        return "--truth needs --split or --results"
    for name in ("batch", "repeats"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            return f"--{name} {value}: expected at least 1"
    for name, users in USERS.items():
        is_used = any(getattr(arguments, user) for user in users)
        if getattr(arguments, name) is not None and not is_used:
            return f"--{name} needs {' or '.join(f'--{user}' for user in users)}"
    size = arguments.frame_size
    if size is not None and not re.fullmatch(r"[1-9]\d{0,3}x[1-9]\d{0,3}", size):
        return f"--frame-size {size}: expected HEIGHTxWIDTH in pixels, such as 480x640"
    return ""


def choose_targets(arguments: argparse.Namespace) -> tuple[dict[str, Path], Path]:
    """Return the files to write, by their formats, and the card.

    Raises:
        UserError: if there is no checkpoint, or a file to read or of somebody else is in the place
            of one.
    """
    from nightcrawler.export.card import CARD, refuse_other_card
    from nightcrawler.predict.checkpoints import find_checkpoint
    from nightcrawler.utils.outputs import check_targets

    checkpoint = find_checkpoint(arguments.experiment)
    out = folder_beside(arguments.experiment, arguments.out, "export")
    files = {name: out / f"model.{name}" for name in FORMATS if name in arguments.formats}
    if arguments.int8:
        files["int8"] = out / "model.int8.onnx"
    card = out / CARD
    sources = [checkpoint, *arguments.check, *arguments.results, arguments.truth]
    check_targets([*files.values(), card], [out], sources)
    refuse_other_card(card)
    return files, card


def write_files(trained: Trained, files: dict[str, Path]) -> None:
    """Write the formats that are asked for.

    Args:
        trained: the model.
        files: file of each format, see `choose_targets`.
    """
    from nightcrawler.export import formats

    about = trained.about()
    if "pt2" in files or "onnx" in files:
        # Tracing takes most of the time, so both formats share one traced graph.
        program = formats.trace(trained.graph, trained.frame_shape)
        if "pt2" in files:
            formats.write_pt2(program, files["pt2"], about)
        if "onnx" in files:
            formats.write_onnx(program, files["onnx"], about)
    if "safetensors" in files:
        formats.write_safetensors(trained.state, files["safetensors"], about)
    if "int8" in files:
        formats.write_int8(files["onnx"], files["int8"])
    for path in files.values():
        print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB", flush=True)


def open_runs(trained: Trained, files: dict[str, Path]) -> dict[str, Callable[..., Any]]:
    """Return PyTorch, and each written file that can be run, by name."""
    from nightcrawler.export import runtimes
    from nightcrawler.export.measure import PYTORCH

    runs = {PYTORCH: runtimes.run_module(trained.graph)}
    for name, path in files.items():
        if name == "pt2":
            runs[name] = runtimes.open_pt2(path)
        elif name != "safetensors":
            runs[name] = runtimes.open_onnx(path)
    return runs


def choose_options(
    arguments: argparse.Namespace, pair: tuple[int, int] | None = None, device: str = "auto"
) -> PredictOptions:
    """Return the options that the checkpoint is opened with."""
    from nightcrawler.predict.checkpoints import PredictOptions

    return PredictOptions(
        pair,
        not arguments.bright,
        root=project_root(),
        device=device,
        imports=tuple(arguments.imports),
    )


def build_tester(arguments: argparse.Namespace, device: str = "auto") -> Predictor:
    """Build nightcrawler's own prediction by one view and the centre crop."""
    from nightcrawler.predict.predictor import build_predictor

    options = choose_options(arguments, (1, 1), device)
    return build_predictor(arguments.experiment, "tested", None, options)


def predict_tested(predictor: Predictor, items: Sequence[VideoItem]) -> Predictions:
    """Predict videos with nightcrawler itself."""
    from nightcrawler.export.measure import joined

    return joined(list(predictor.video_predictions(items)))


def check(trained: Trained, runs: dict[str, Any], arguments: argparse.Namespace) -> bool:
    """Print the differences of the graph from each file and from the test on clips.

    Returns:
        True where all differences are within their limits.
    """
    from nightcrawler.data.lists import VideoItem
    from nightcrawler.export.measure import as_exported, compare

    items = []
    for number, path in enumerate(arguments.check, start=1):
        items.append(VideoItem(str(path), -1, path, number))
    tester = as_exported(build_tester(arguments, "cpu"))
    rows = compare(trained, runs, tester, items)
    print(
        f"parity on {len(items)} clips: largest difference of a probability between the graph in "
        "PyTorch and each file, and the test"
    )
    for row in rows:
        one = row.parity
        verdict = ""
        if row.limit is not None:
            verdict = f", limit {row.limit:g}: {'ok' if row.is_within else 'DIFFERS'}"
        same = f"same class {one.num_same}/{one.num_videos}"
        video = Path(one.worst_video).name
        print(f"  {row.name:<10} {one.worst:.2e} ({video}), {same}{verdict}", flush=True)
    return all(row.is_within for row in rows)


def benchmark(trained: Trained, runs: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Print the speed of each run beside PyTorch's."""
    import torch

    from nightcrawler.export.measure import PYTORCH, speeds

    timed = trained.timed_shape()
    seconds = speeds(runs, timed, arguments.batch, arguments.repeats)
    shape = "x".join(map(str, timed[:3]))
    print(
        f"speed, {arguments.batch} clips of {shape} a call, {torch.get_num_threads()} threads, "
        "float32 except int8:"
    )
    for name, took in seconds.items():
        rate = arguments.batch / took
        ratio = seconds[PYTORCH] / took
        print(f"  {name:<10} {rate:9.2f} clips/s, {ratio:.2f} times PyTorch's", flush=True)


def measure(
    trained: Trained, runs: dict[str, Any], arguments: argparse.Namespace
) -> list[CardAccuracy]:
    """Print accuracy on a split, and return the rows for the card.

    Raises:
        UserError: if the split is bright and the graph enhances, or no video has a label.
    """
    from nightcrawler.data.lists import read_list
    from nightcrawler.data.splits import get_split
    from nightcrawler.engine.tester import describe
    from nightcrawler.export.card import CardAccuracy
    from nightcrawler.export.measure import TESTED, predict_all
    from nightcrawler.pseudo.labels import read_labels
    from nightcrawler.pseudo.predictions import add_labels

    split = get_split(arguments.split, arguments.data)
    if not (split.dark or arguments.bright):
        raise UserError(
            f"--split {split.name} is bright, and the graph enhances its frames: give --bright"
        )
    items = read_list(split.list_file, split.folders, len(trained.class_names))
    tested = predict_tested(build_tester(arguments), items)
    found = {TESTED: tested, **predict_all(trained, runs, items)}
    truth = read_labels(arguments.truth) if arguments.truth else {}
    rows = []
    for name, predictions in found.items():
        add_labels(predictions, truth)
        if (predictions.labels < 0).all():
            raise UserError(f"--split {split.name}: no video has a label: give --truth CSV")
        what = f"{name}, split {split.name}, one view, centre crop"
        rows.append(CardAccuracy(what, describe(predictions)))
        print(f"{what}: {rows[-1].result}", flush=True)
    return rows


def read_accuracies(trained: Trained, arguments: argparse.Namespace) -> list[CardAccuracy]:
    """Return the card's rows of the given results files."""
    from nightcrawler.export.card import accuracy_of_results
    from nightcrawler.pseudo.labels import read_labels
    from nightcrawler.pseudo.predictions import add_labels, read_results

    truth = read_labels(arguments.truth) if arguments.truth else {}
    rows = []
    for path in arguments.results:
        predictions = read_results(path)
        add_labels(predictions, truth)
        rows.append(accuracy_of_results(path, predictions, trained.facts["checkpoint_sha256"]))
    return rows


def main(argv: Sequence[str]) -> int:
    """Write the files, compare and measure them, and write the card."""
    arguments = parse(argv)
    with collector_paused():
        import torch

        from nightcrawler.export.card import write_card
        from nightcrawler.export.formats import check_onnx_installed
        from nightcrawler.export.trained import build_trained

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    # Before the export: tracing takes minutes, and a typing error should not.
    if "onnx" in arguments.formats:
        check_onnx_installed()
    for path in arguments.check:
        if not path.is_file():
            raise UserError(f"--check {path}: no such file")
    files, card = choose_targets(arguments)
    trained = build_trained(arguments.experiment, choose_options(arguments), arguments.frame_size)
    rows = read_accuracies(trained, arguments)
    write_files(trained, files)
    # Once before the measures: whatever happens in them, the written files have their card.
    write_card(card, trained, list(files.values()), rows)
    runs: dict[str, Any] = {}
    if arguments.check or arguments.benchmark or arguments.split:
        runs = open_runs(trained, files)
    is_within = True
    if arguments.check:
        is_within = check(trained, runs, arguments)
    if arguments.benchmark:
        benchmark(trained, runs, arguments)
    if arguments.split:
        rows += measure(trained, runs, arguments)
        write_card(card, trained, list(files.values()), rows)
    print(f"{card}: input, output, training and accuracy of these files")
    if is_within:
        return 0
    return EXIT_DIFFERS
