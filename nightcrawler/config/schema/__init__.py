"""Declaration of every key: `SCHEMA` maps a name to its `Key`, in the order of a dump.

Sections and names follow PySlowFast if the meaning is the same. A key that is not declared here is
an error in a file. A declared key is read by something, which a test proves.
"""

from __future__ import annotations

from nightcrawler.config.schema import architectures, data, model, pose, run, training
from nightcrawler.config.schema.key import Key

SCHEMA: dict[str, Key] = {}
for _key in (
    *run.KEYS,
    *data.KEYS,
    *pose.KEYS,
    *training.KEYS,
    *model.KEYS,
    *architectures.KEYS,
):
    if _key.name in SCHEMA:
        raise ValueError(f"{_key.name} is declared twice")
    SCHEMA[_key.name] = _key
