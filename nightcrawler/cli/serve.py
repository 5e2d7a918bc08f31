"""Serve a page on this machine: drop clips, see them enhanced, with the answers of models."""

from __future__ import annotations

import argparse
import contextlib
import functools
import signal
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nightcrawler.cli.imports import add_imports
from nightcrawler.cli.model_options import (
    add_ensemble_options,
    add_label_options,
    ensemble_fault,
    label_options_fault,
    labels_of,
    prefix_of,
)
from nightcrawler.utils.command_line import add_max_pixels, at_least, make_parser
from nightcrawler.utils.errors import UserError, missing_extra
from nightcrawler.utils.project import project_root

if TYPE_CHECKING:
    from nightcrawler.utils.clip_worker import Worker
    from nightcrawler.web.inference import InferenceOptions
    from nightcrawler.web.texts import Site

HOST = "127.0.0.1"
# Memory for the frames of one clip: a page must not fill a machine that others use.
MAX_CLIP_BYTES = 1 << 30
# Longer side / shorter side of a clip: players show narrower pictures as a line.
MAX_RATIO = 4.0
# About three frames. A clip of ten minutes has 12,000 such windows.
LEAST_WINDOW_SEC = 0.1
SHUTDOWN_SEC = 3
EXAMPLES = """\
  {command} --experiment exp_adapt_bn/uniformer_b32_k600
  {command} --experiment a/best.pyth --experiment b/best.pyth --port 8080
  {command} --ensemble configs/vote/default.yaml --mode 1
  {command} --labels "falls,walks,climbs a fence"

Needs the extra: python -m pip install 'nightcrawler-video[web]'. Only this machine can open the
page. From another one, forward the port: ssh -L 8765:127.0.0.1:8765 HOST. The page loads nothing
from other machines. Clips are deleted when the server ends, or else (a kill) when the next one
starts. Programs send clips to POST /clips: the page /docs and /openapi.json say how."""


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add options that choose the models."""
    models = parser.add_argument_group("models")
    add_ensemble_options(models)
    add_label_options(models)
    models.add_argument(
        "--bright", action="store_true", help="clips are well lit: do not enhance them"
    )
    models.add_argument(
        "--threads",
        type=at_least(0),
        default=0,
        metavar="N",
        help="threads of PyTorch (default: its choice)",
    )
    add_imports(models)


def add_page_options(parser: argparse.ArgumentParser) -> None:
    """Add options that set the port and the limits of the page."""
    page = parser.add_argument_group("page")
    page.add_argument("--port", type=int, default=8765, help="0 takes a free one (default 8765)")
    page.add_argument(
        "--max-mib", type=int, default=200, metavar="N", help="largest clip (default 200)"
    )
    add_max_pixels(page, "4096 x 4096")
    page.add_argument(
        "--max-sec", type=float, default=600, metavar="S", help="longest clip (default 600)"
    )
    page.add_argument(
        "--time-limit-sec",
        type=float,
        default=120,
        metavar="S",
        help="time for one clip, or one window of a long one (default 120)",
    )
    page.add_argument(
        "--keep-mib",
        type=int,
        default=2048,
        metavar="N",
        help="room for the videos of clips; those used longest ago go first (default 2048)",
    )
    page.add_argument(
        "--window-sec",
        type=float,
        default=4,
        metavar="S",
        help="window of the timeline (default 4)",
    )


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the checked options of the page."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    add_model_options(parser)
    add_page_options(parser)
    arguments = parser.parse_args(argv)
    fault = ensemble_fault(arguments) or label_options_fault(arguments)
    if fault:
        parser.error(fault)
    for name in ("max_mib", "keep_mib", "max_sec", "time_limit_sec", "window_sec"):
        value = getattr(arguments, name)
        if not 0 < value < float("inf"):
            parser.error(
                f"--{name.replace('_', '-')}: expected more than 0, and no infinity, got {value}"
            )
    if arguments.window_sec < LEAST_WINDOW_SEC:
        parser.error(
            f"--window-sec {arguments.window_sec:g}: expected {LEAST_WINDOW_SEC:g} or more"
        )
    return arguments


def choose_inference(arguments: argparse.Namespace) -> InferenceOptions:
    """Return the settings of inference."""
    from nightcrawler.data.video.integrity.limits import limits_of_pixels
    from nightcrawler.web.inference import InferenceOptions

    labels, prompt = labels_of(arguments)
    return InferenceOptions(
        experiments=tuple(arguments.experiment),
        recipe=arguments.ensemble,
        mode=arguments.mode,
        prefix=prefix_of(arguments),
        dark=not arguments.bright,
        root=project_root(),
        window_sec=arguments.window_sec,
        stride_sec=arguments.window_sec / 2,
        max_sec=arguments.max_sec,
        limits=replace(
            limits_of_pixels(arguments.max_pixels),
            file_bytes=arguments.max_mib << 20,
            memory_bytes=MAX_CLIP_BYTES,
            ratio=MAX_RATIO,
        ),
        max_pixels=arguments.max_pixels,
        threads=arguments.threads,
        imports=tuple(arguments.imports),
        labels=labels,
        prompt=prompt,
    )


def make_site(arguments: argparse.Namespace, about: dict[str, Any]) -> Site:
    """Return the texts and limits of the page.

    Args:
        arguments: options of the page.
        about: description of the models by the worker.
    """
    from nightcrawler.web.texts import Site

    return Site(
        models=tuple(about["models"]),
        class_names=tuple(about["class_names"]),
        enhancement=about["enhancement"],
        labels=about["labels"],
        worth=about["worth"],
        predictor=about["predictor"],
        takes_labels=about["takes_labels"],
        max_bytes=arguments.max_mib << 20,
        max_sec=arguments.max_sec,
        upload_sec=arguments.time_limit_sec,
        answer_sec=arguments.time_limit_sec,
        keep_bytes=arguments.keep_mib << 20,
    )


def listen(port: int) -> socket.socket:
    """Return a listening socket that only this machine can reach.

    Args:
        port: port number, 0 for a free one.

    Raises:
        UserError: if the port cannot be used.
    """
    listening = socket.socket()
    # A server that was just stopped keeps its port for a minute otherwise.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--port {port}: cannot be used ({error}); give another one, or 0 for a free one"
        ) from None
    return listening


@contextlib.contextmanager
def ending_cleanly() -> Iterator[None]:
    """End the block as Ctrl-C does, on SIGTERM and when the terminal or an ssh session closes.

    A server that was started to outlive its terminal (nohup) goes on.
    """
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    if signal.SIGTERM in before:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.SIGHUP in before:
        # Passed on as SIGTERM, which the running server handles.
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        yield
    except KeyboardInterrupt:
        # A terminal that has closed cannot be written to.
        with contextlib.suppress(OSError):
            print("stopped", flush=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve(arguments: argparse.Namespace, listening: socket.socket, worker: Worker) -> None:
    """Start the worker, then serve the page until Ctrl-C, SIGTERM or SIGHUP.

    Args:
        arguments: options of the page.
        listening: socket to serve on.
        worker: worker, stopped at the end.

    Raises:
        UserError: if the models cannot be loaded, or there is no room for clips.
    """
    import uvicorn

    from nightcrawler.utils.temporary_folder import temporary_folder
    from nightcrawler.web.app import make_app

    with ending_cleanly(), contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary_folder("nightcrawler-page-"))
        except OSError as error:
            raise UserError(
                f"no temporary folder for clips: {error}; TMPDIR may name another one"
            ) from None
        # Last in, first out: the worker has ended before its clips are removed.
        stack.callback(worker.stop)
        print("loading the models", flush=True)
        worker.start()
        app = make_app(worker, folder, make_site(arguments, worker.about))
        config = uvicorn.Config(
            app,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_SEC,
        )
        address = f"http://{HOST}:{listening.getsockname()[1]}/"
        print(f"open {address} in a browser; Ctrl-C ends it", flush=True)
        uvicorn.Server(config).run(sockets=[listening])


def main(argv: Sequence[str]) -> int:
    """Serve the page."""
    arguments = parse(argv)
    try:
        # Imported here to find a missing extra before any model is loaded.
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise missing_extra("the page", "web") from None
    from nightcrawler.utils.clip_worker import Worker
    from nightcrawler.web.inference import build_inference

    # The port is taken before the models are loaded: a used one is found at once.
    listening = listen(arguments.port)
    build = functools.partial(build_inference, choose_inference(arguments))
    serve(arguments, listening, Worker(build, arguments.time_limit_sec))
    return 0
