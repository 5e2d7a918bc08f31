"""Render clips of a figure doing the eleven actions, bright and dark, laid out as in DATASET.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightcrawler.utils.command_line import make_parser
from nightcrawler.utils.errors import UserError

if TYPE_CHECKING:
    from nightcrawler.synthetic.dataset import DatasetSpec

SHEET_COLUMNS = 8
SHEET_GAMMA = 0.25
SHEET_FILE = "contact_sheet.png"
# In each sheet, so that no other picture is replaced.
SHEET_MARK = "nightcrawler synthetic"
EXAMPLES = """\
  {command} --out data/synthetic
  {command} --out data/tiny --train 2 --val 1 --unlabel 1 --arid 1 --test 1
  {command} --out data/darker --preset darker --seed 1 --contact-sheet"""


def parse(argv: Sequence[str]) -> Any:
    """Parse the command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the data set"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random draws (default 0)")
    counts = (("train", 80), ("val", 15), ("unlabel", 20), ("arid", 30), ("test", 20))
    for part, count in counts:
        parser.add_argument(
            f"--{part}",
            type=int,
            default=count,
            metavar="N",
            help=f"clips per class (default {count})",
        )
    parser.add_argument(
        "--size",
        default="96x128",
        metavar="HxW",
        help="frame size in pixels, even numbers (default 96x128)",
    )
    parser.add_argument(
        "--preset",
        choices=("night", "darker", "street"),
        default="night",
        help="what dark clips show: the scenes of bright clips at night or darker, or street: "
        "people far away, from above, hidden in part, who wait (default night)",
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes (default 2)")
    parser.add_argument(
        "--force", action="store_true", help="replace clips of other settings, and changed lists"
    )
    parser.add_argument(
        "--contact-sheet", action="store_true", help="write DIR/contact_sheet.png, one row per clip"
    )
    return parser.parse_args(argv)


def frame_size(text: str) -> tuple[int, int]:
    """Return height and width of `HxW`.

    Raises:
        UserError: unless both are even numbers from 32 to 1024.
    """
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise UserError(f"--size {text!r}: expected HxW such as 96x128")
    size = int(height), int(width)
    # H.264 with 4:2:0 chroma needs even sides.
    if any(side % 2 or not 32 <= side <= 1024 for side in size):
        raise UserError(f"--size {text!r}: height and width must be even, from 32 to 1024")
    return size


def write_contact_sheet(root: Path, settings: DatasetSpec) -> Path:
    """Write `contact_sheet.png`: per action a bright clip, a dark one, and that one after gamma.

    Args:
        root: folder of the data set.
        settings: how it was rendered.
    """
    import numpy as np
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from nightcrawler.data.lowlight.enhance.gamma import apply_gamma
    from nightcrawler.data.video.decode import FileReader, read_frames
    from nightcrawler.synthetic.dataset import make_plan
    from nightcrawler.utils.io import atomic_write

    def pick(num_frames: int) -> list[int]:
        return np.linspace(0, num_frames - 1, SHEET_COLUMNS).astype(int).tolist()

    # Reversed, so that the first clip of each action and light wins.
    first = {(clip.action, clip.dark): clip.path for clip in reversed(make_plan(settings).clips)}
    rows = []
    for (_, dark), path in sorted(first.items()):
        row = np.concatenate(list(read_frames(FileReader(), root / path, pick).frames), axis=1)
        rows.append(row)
        if dark:
            rows.append(apply_gamma(row, SHEET_GAMMA))
    about = PngInfo()
    about.add_text("Software", SHEET_MARK)
    with atomic_write(root / SHEET_FILE) as file:
        Image.fromarray(np.concatenate(rows)).save(file, "PNG", pnginfo=about)
    return root / SHEET_FILE


def main(argv: Sequence[str]) -> int:
    """Render the clips that are missing."""
    arguments = parse(argv)
    height, width = frame_size(arguments.size)
    counts = {
        part: getattr(arguments, part) for part in ("train", "val", "unlabel", "arid", "test")
    }
    for part, count in {**counts, "jobs": arguments.jobs}.items():
        if count < 1:
            raise UserError(f"--{part} {count}: expected at least 1")
    if arguments.seed < 0:
        raise UserError(f"--seed {arguments.seed}: expected 0 or more")
    # Imported late, so that --help does not wait for numpy and PyAV.
    from nightcrawler.synthetic.dataset import DatasetSpec, write_dataset
    from nightcrawler.utils.outputs import refuse_other_file
    from nightcrawler.utils.progress import progress

    if arguments.contact_sheet:
        refuse_other_file(arguments.out / SHEET_FILE, SHEET_MARK, "this command")

    def show(clips: Iterable[str], total: int) -> Iterator[str]:
        return progress(clips, total, "render", every=100)

    settings = DatasetSpec(
        arguments.seed, **counts, height=height, width=width, preset=arguments.preset
    )
    rendered, total = write_dataset(arguments.out, settings, arguments.jobs, arguments.force, show)
    print(f"{arguments.out}: {rendered} clips rendered, {total - rendered} were there already")
    if arguments.contact_sheet:
        print(f"pictures: {write_contact_sheet(arguments.out, settings)}")
    return 0
