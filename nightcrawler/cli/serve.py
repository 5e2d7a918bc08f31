"""A page on this machine: drop a night video, see it lit, and what one or several trained models see in it."""

from __future__ import annotations

import functools
import signal
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightcrawler.utils.cli import at_least, make_parser
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.project import project_root

if TYPE_CHECKING:
    from nightcrawler.web.app import Site
    from nightcrawler.web.inference import InferenceOptions

HOST = "127.0.0.1"
EXAMPLES = """\
  {command} --experiment exp_adapt_bn/uniformer_b32_k600
  {command} --experiment a/best.pyth --experiment b/best.pyth --port 8080
  {command} --ensemble configs/vote/default.yaml --mode 1

Needs the extra: pip install 'nightcrawler[web]'. Only this machine can open the page; from another one, forward the
port: ssh -L 8765:127.0.0.1:8765 HOST. Nothing is loaded from elsewhere, nothing is kept after the server has ended."""


def parse(argv: Sequence[str]) -> Any:
    """The command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    what = parser.add_argument_group("models")
    what.add_argument(
        "--experiment",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="folder or checkpoint (repeatable)",
    )
    what.add_argument(
        "--ensemble", type=Path, metavar="RECIPE", help="mix the models as a recipe says"
    )
    what.add_argument(
        "--mode", type=int, metavar="N", help="mode of a vote recipe (default: its first)"
    )
    what.add_argument(
        "--prefix",
        type=Path,
        default=project_root(),
        metavar="DIR",
        help="holds the recipe's experiments",
    )
    what.add_argument("--bright", action="store_true", help="clips are bright: leave them unlit")
    what.add_argument(
        "--threads", type=at_least(0), default=0, metavar="N", help="default: torch's choice"
    )
    page = parser.add_argument_group("page")
    page.add_argument("--port", type=int, default=8765, help="0 takes a free one (default 8765)")
    page.add_argument(
        "--max-mib", type=int, default=200, metavar="N", help="of a clip (default 200)"
    )
    page.add_argument(
        "--max-sec", type=float, default=600, metavar="S", help="length of a clip (default 600)"
    )
    page.add_argument(
        "--time-limit-sec", type=float, default=120, metavar="S", help="for one clip (default 120)"
    )
    page.add_argument(
        "--window-sec", type=float, default=3, metavar="S", help="of the timeline (default 3)"
    )
    arguments = parser.parse_args(argv)
    if not (arguments.experiment or arguments.ensemble):
        parser.error("give --experiment, --ensemble or both")
    if arguments.mode is not None and not arguments.ensemble:
        parser.error("--mode needs --ensemble")
    for name in ("max_mib", "max_sec", "time_limit_sec", "window_sec"):
        if not getattr(arguments, name) > 0:
            parser.error(f"--{name.replace('_', '-')}: expected more than 0")
    return arguments


def make_look(arguments: Any) -> InferenceOptions:
    """How clips are looked at."""
    from nightcrawler.data.video.integrity.limits import Limits
    from nightcrawler.web.inference import InferenceOptions

    limits = Limits(file_bytes=arguments.max_mib << 20, memory_bytes=1 << 30)
    window = arguments.window_sec
    return InferenceOptions(
        experiments=tuple(arguments.experiment),
        recipe=arguments.ensemble,
        mode=arguments.mode,
        prefix=arguments.prefix,
        dark=not arguments.bright,
        root=project_root(),
        window_sec=window,
        stride_sec=window / 2,
        most_sec=arguments.max_sec,
        limits=limits,
        threads=arguments.threads,
    )


def make_site(arguments: Any, about: dict[str, Any]) -> Site:
    """What the page says of the models, and allows."""
    from nightcrawler.web.app import Site

    return Site(
        **{name: about[name] for name in ("models", "class_names", "enhancement", "labels")},
        most_bytes=arguments.max_mib << 20,
        most_sec=arguments.max_sec,
        upload_sec=arguments.time_limit_sec,
        answer_sec=arguments.time_limit_sec,
    )


def listen(port: int) -> socket.socket:
    """A socket of this machine alone.

    Raises:
        UserError: if the port is taken.
    """
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
        found.listen()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--port {port}: cannot be used ({error}); give another one, or 0 for a free one"
        ) from None
    return found


def main(argv: Sequence[str]) -> int:
    """Load the models in the worker, then serve until Ctrl-C."""
    arguments = parse(argv)
    try:
        import uvicorn

        from nightcrawler.web.app import make_app
    except ImportError as error:
        raise UserError(f"the page needs {error.name}: pip install 'nightcrawler[web]'") from None
    from nightcrawler.web.inference import build_inference
    from nightcrawler.web.worker import Worker

    found = listen(arguments.port)
    worker = Worker(
        functools.partial(build_inference, make_look(arguments)), arguments.time_limit_sec
    )
    with tempfile.TemporaryDirectory(prefix="nightcrawler-") as folder:
        try:
            print("loading the models", flush=True)
            worker.start()
            app = make_app(worker, Path(folder), make_site(arguments, worker.about))
            config = uvicorn.Config(
                app, log_level="warning", server_header=False, timeout_graceful_shutdown=3
            )
            print(
                f"open http://{HOST}:{found.getsockname()[1]}/ in a browser; Ctrl-C ends it",
                flush=True,
            )
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # the same end as by Ctrl-C
            uvicorn.Server(config).run(sockets=[found])
        except KeyboardInterrupt:
            print("stopped")
        finally:
            worker.stop()
    return 0
