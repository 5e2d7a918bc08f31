"""Draw a contact sheet of clips before and after each enhancement, to see if people are visible."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightcrawler.utils.command_line import add_max_pixels, make_parser
from nightcrawler.utils.errors import ConfigError, UserError, VideoError

if TYPE_CHECKING:
    import numpy as np

    from nightcrawler.data.lowlight.enhance.build import EnhanceParams
    from nightcrawler.data.video.integrity.limits import Limits
    from nightcrawler.pose.files import Pose

LABEL_PX = 130
LINE_PX = 14
MAX_COLUMNS = 64
MAX_WIDTH_PX = 16384
EXIT_BAD_VIDEOS = 3
# The enhancement that reads each option.
READERS = {
    "gamma": "gamma",
    "target_mean": "auto_gamma",
    "clahe_clip": "clahe",
    "clahe_tiles": "clahe",
    "retinex_sigmas": "retinex",
    "zero_dce_weights": "zero_dce",
}
EXAMPLES = """\
  {command} data/dark_train/Train/Walk/Walk_10_8.mp4 --out walk.png
  {command} data/Test/0.mp4 data/Test/1.mp4 --out two.png --denoise-frames 5
  {command} data/Test/0.mp4 --out net.png --zero-dce-weights weights/Epoch99.pth
  {command} data/Test/0.mp4 --out clahe.png --only clahe --clahe-tiles 8 8
  {command} data/Test/0.mp4 --out pose.png --only auto_gamma --poses poses/test/0.mp4.pose.npz

exit codes: 0 done, 2 an error, named in one line, 3 some videos could not be read (a line gives the
reason) and the others are drawn"""


def parse(argv: Sequence[str]) -> Any:
    """Parse the command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO", help="video files")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG", help="picture to write")
    parser.add_argument(
        "--columns", type=int, default=6, metavar="N", help="frames per row (default 6)"
    )
    parser.add_argument(
        "--width", type=int, default=240, metavar="PX", help="width of a shown frame (default 240)"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="only these enhancements (default: all)",
    )
    parser.add_argument(
        "--imports",
        nargs="+",
        default=[],
        metavar="MODULE",
        help="modules that register enhancements of your own",
    )
    _add_enhancement_options(parser)
    parser.add_argument(
        "--poses",
        nargs="+",
        default=[],
        type=Path,
        metavar="NPZ",
        help="pose file of each video, drawn on the frames of the last enhancement",
    )
    add_max_pixels(parser, "4096 x 4096")
    return parser.parse_args(argv)


def _add_enhancement_options(parser: argparse.ArgumentParser) -> None:
    """Add parameters of enhancements. Their defaults are those of `get_cfg`."""
    parser.add_argument(
        "--denoise-frames",
        type=int,
        metavar="N",
        help="average frames first, where they agree: an odd number, 1 for none (default 1)",
    )
    parser.add_argument("--gamma", type=float, metavar="G", help="exponent of gamma (default 0.25)")
    parser.add_argument(
        "--target-mean",
        type=float,
        metavar="LEVEL",
        help="mean brightness that auto_gamma aims at, 0 to 255 (default 110)",
    )
    parser.add_argument(
        "--clahe-clip", type=float, metavar="X", help="clip limit of clahe (default 24)"
    )
    parser.add_argument(
        "--clahe-tiles",
        type=int,
        nargs=2,
        metavar=("ROWS", "COLUMNS"),
        help="grid of clahe (default 4 4)",
    )
    parser.add_argument(
        "--retinex-sigmas",
        type=float,
        nargs="+",
        metavar="PX",
        help="blur scales of retinex (default 15 80 250)",
    )
    parser.add_argument(
        "--zero-dce-weights",
        metavar="FILE",
        help="weights of zero_dce, which is left out without them",
    )


def unread_option_fault(arguments: Any, shown: Sequence[str], advice: str) -> str:
    """Return the first option that no shown enhancement reads, empty where there is none.

    Args:
        arguments: of the command line.
        shown: names of enhancements, empty for all.
        advice: what to do where `{}` should be shown.
    """
    # What enhancements of one's own read is not known.
    if not shown or not {*READERS.values(), "none"}.issuperset(shown):
        return ""
    for option, name in READERS.items():
        if getattr(arguments, option, None) is not None and name not in shown:
            return f"--{option.replace('_', '-')} is of {name}: {advice.format(name)}"
    return ""


def build_settings(
    arguments: Any, defaults: Mapping[str, float] | None = None
) -> tuple[EnhanceParams, int]:
    """Return the enhancements' parameters and the denoising window in frames.

    Args:
        arguments: of the command line, which override defaults.
        defaults: values for keys of section `ENHANCE` instead of those of a config.

    Raises:
        UserError: if a value is out of range.
    """
    from nightcrawler.config.check import check
    from nightcrawler.config.node import get_cfg
    from nightcrawler.data.lowlight.enhance.build import enhance_params_from_cfg

    cfg = get_cfg()
    given = {key: getattr(arguments, key.lower(), None) for key in cfg.ENHANCE}
    cfg.ENHANCE.update(defaults or {})
    cfg.ENHANCE.update({key: value for key, value in given.items() if value is not None})
    # The same check as of a config file, with its ranges and messages.
    try:
        check(cfg, {})
    except ConfigError as error:
        raise UserError(str(error).replace("default: ", "")) from None
    return enhance_params_from_cfg(cfg), cfg.ENHANCE.DENOISE_FRAMES


def enhance_clip(
    video: Path,
    num_columns: int,
    names: Sequence[str],
    params: EnhanceParams,
    window: int,
    limits: Limits,
    pose: Pose | None = None,
) -> dict[str, np.ndarray]:
    """Decode frames of a video and enhance them.

    Args:
        video: the file.
        num_columns: frames to show, evenly spread; fewer if the video is shorter.
        names: enhancements.
        params: parameters of the enhancements.
        window: frames that are averaged before enhancement, 1 for none.
        limits: largest video that is read.
        pose: the video's pose, drawn in a row of its own.

    Returns:
        Label of a row to its frames, uint8 `[columns, H, W, 3]`.
    """
    import numpy as np

    from nightcrawler.data.lowlight.enhance.build import build_enhancement
    from nightcrawler.data.lowlight.enhance.denoise import DenoisedReader
    from nightcrawler.data.video.decode import FileReader, read_frames
    from nightcrawler.data.video.stream import ASSUMED_FPS
    from nightcrawler.pose.draw import draw_pose

    def choose(num_frames: int) -> list[int]:
        return np.unique(np.linspace(0, num_frames - 1, num_columns).astype(int)).tolist()

    reader = FileReader(limits=limits)
    decoded = read_frames(reader, video, choose)
    frames = decoded.frames
    rows = {"original": frames}
    if window > 1:
        denoised = DenoisedReader(reader, window)
        frames = rows[f"denoised ({window})"] = read_frames(denoised, video, choose).frames
    rows |= {name: build_enhancement(name, params)(frames) for name in names}
    if pose is not None:
        lit = next(reversed(rows.values()))
        seconds = [index / (decoded.fps or ASSUMED_FPS) for index in decoded.indices]
        rows["poses"] = draw_pose(lit, seconds, pose)
    return rows


def read_poses(videos: Sequence[Path], files: Sequence[Path]) -> dict[Path, Pose]:
    """Return the pose of each video, none where no files are given.

    Args:
        videos: the videos.
        files: a pose file of each, or none at all.

    Raises:
        UserError: if their numbers differ, or a pose is not of its video's picture.
    """
    from nightcrawler.data.fingerprint import hash_ends
    from nightcrawler.data.video.remote import local_video
    from nightcrawler.download.addresses import address_of_path
    from nightcrawler.pose.files import read_pose

    if files and len(files) != len(videos):
        raise UserError(f"--poses: {len(files)} files for {len(videos)} videos, expected one each")
    poses = {}
    for video, file in zip(videos, files, strict=False):
        pose = read_pose(file)
        fingerprint = pose.fingerprint
        # Why a video cannot be read is told where its frames are.
        with contextlib.suppress(VideoError, OSError), local_video(str(video)) as local:
            fingerprint = hash_ends(Path(local))
        if pose.fingerprint != fingerprint:
            shown = address_of_path(str(video))
            raise UserError(f"{file}: is the pose of another video than {shown}")
        poses[video] = pose
    return poses


def draw(rows: dict[str, np.ndarray], video: Path, width: int) -> np.ndarray:
    """Draw one row of frames per enhancement, its label and mean brightness (0..255) beside it.

    Args:
        rows: label to frames, uint8 `[columns, H, W, 3]`.
        video: the file, whose name is the title.
        width: of a drawn frame, in pixels.

    Returns:
        uint8 `[height, width, 3]`.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    from nightcrawler.utils.fonts import load_font, readable

    # All rows show the same frames, so the first gives the size of all.
    first = next(iter(rows.values()))
    height = max(round(first.shape[1] * width / first.shape[2]), 1)
    title = LINE_PX + 6
    sheet = Image.new(
        "RGB", (LABEL_PX + len(first) * width, title + len(rows) * max(height, 3 * LINE_PX))
    )
    pen = ImageDraw.Draw(sheet)
    plain = ascii(f"{video.parent.name}/{video.name}")[1:-1]
    heading = readable(f"{video.parent.name}/{video.name}", plain)
    if heading.isascii():
        pen.text((6, 4), heading, fill="white")
    else:
        pen.text((6, 4), heading, fill="white", font=load_font(heading, LINE_PX - 2))
    for number, (label, frames) in enumerate(rows.items()):
        top = title + number * max(height, 3 * LINE_PX)
        pen.multiline_text(
            (6, top + 6), f"{label}\nmean {frames.mean():.1f}", fill="white", spacing=3
        )
        for column, frame in enumerate(frames):
            shown = Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR)
            sheet.paste(shown, (LABEL_PX + column * width, top))
    return np.asarray(sheet)


def draw_sheets(
    arguments: Any, names: Sequence[str], params: EnhanceParams, window: int
) -> tuple[list[np.ndarray], list[VideoError]]:
    """Draw each video, and print the mean brightness of its rows.

    Args:
        arguments: of the command line.
        names: enhancements.
        params: parameters of the enhancements.
        window: frames that are averaged before enhancement, 1 for none.

    Returns:
        Sheets, uint8 `[height, width, 3]` each, and the faults of the videos that have none.
    """
    from nightcrawler.data.video.integrity.limits import limits_of_pixels

    limits = limits_of_pixels(arguments.max_pixels)
    poses = read_poses(arguments.videos, arguments.poses)
    sheets = []
    faults = []
    for video in arguments.videos:
        pose = poses.get(video)
        try:
            rows = enhance_clip(video, arguments.columns, names, params, window, limits, pose)
        except VideoError as fault:
            # The others are drawn all the same.
            faults.append(fault)
            continue
        sheets.append(draw(rows, video, arguments.width))
        means = ", ".join(f"{label} {frames.mean():.1f}" for label, frames in rows.items())
        print(f"{video}: {means}")
    return sheets, faults


def main(argv: Sequence[str]) -> int:
    """Write the contact sheet, and print each row's mean brightness."""
    arguments = parse(argv)
    if not 1 <= arguments.columns <= MAX_COLUMNS:
        raise UserError(f"--columns {arguments.columns}: expected 1 to {MAX_COLUMNS}")
    if arguments.width < 16 or arguments.width * arguments.columns > MAX_WIDTH_PX:
        raise UserError(
            f"--width {arguments.width}: expected 16 pixels or more, "
            f"and {MAX_WIDTH_PX} or less in all columns together"
        )
    if arguments.out.suffix.lower() != ".png":
        raise UserError(f"--out {arguments.out}: expected a name that ends in .png")
    unread = unread_option_fault(arguments, arguments.only, "add {} to --only")
    if unread:
        raise UserError(unread)
    import io

    import numpy as np
    from PIL import Image

    from nightcrawler.utils.io import atomic_write
    from nightcrawler.utils.outputs import check_targets
    from nightcrawler.utils.plugins import import_user_module, load_plugins
    from nightcrawler.utils.registries import ENHANCEMENTS

    sources = [*arguments.videos, *arguments.poses, arguments.zero_dce_weights]
    check_targets([arguments.out], sources=sources)
    load_plugins()
    for module in arguments.imports:
        import_user_module(module)
    params, window = build_settings(arguments)
    shown = arguments.only
    # Zero-DCE is a trained network: without weights its output would mean nothing.
    if not shown:
        left_out = {"none"} if params.zero_dce_weights else {"none", "zero_dce"}
        shown = [name for name in ENHANCEMENTS.names() if name not in left_out]
    sheets, faults = draw_sheets(arguments, shown, params, window)
    if not sheets:
        raise faults[0]
    # Short videos have fewer columns: black on the right makes the sheets equally wide.
    widest = max(sheet.shape[1] for sheet in sheets)
    padded = [np.pad(sheet, ((0, 0), (0, widest - sheet.shape[1]), (0, 0))) for sheet in sheets]
    # Encoded in memory first, so that the file on disk is always a whole picture.
    file = io.BytesIO()
    Image.fromarray(np.concatenate(padded)).save(file, "PNG")
    with atomic_write(arguments.out) as out:
        out.write(file.getvalue())
    if "zero_dce" not in shown and not arguments.only:
        print("zero_dce is left out: give its weights with --zero-dce-weights")
    print(f"picture: {arguments.out}")
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return EXIT_BAD_VIDEOS if faults else 0
