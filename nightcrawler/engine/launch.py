"""Start several processes as `torchrun` does, and end with the exit code of the one that failed first.

`python -m nightcrawler.engine.launch` takes torchrun's arguments. What a process has to say is on its own standard
error; the launcher adds no traceback of its own.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run


def main(argv: Sequence[str]) -> int:
    """Launch; returns the exit code of the first process that failed, 0 if none did."""
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        run(parse_args(list(argv)))
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        return 128 - code if code < 0 else max(code, 1)  # killed by a signal: as a shell would say it
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
