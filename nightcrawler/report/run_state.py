"""Types of what a run's files must hold for a report: `pipeline.json` and `metrics.jsonl`."""

from __future__ import annotations

from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)


class _Values(BaseModel):
    """Values of a known type, beside others of any."""

    model_config = ConfigDict(extra="allow")


class StageState(_Values):
    """A stage in `pipeline.json`."""

    name: StrictStr
    round: StrictInt
    models: list[StrictStr] = []
    in_chain: StrictBool = True


class TaskEntry(_Values):
    """A task in `pipeline.json`."""

    kind: StrictStr
    status: StrictStr
    name: StrictStr
    folder: StrictStr
    outputs: list[StrictStr]
    seconds: StrictInt | StrictFloat | None = None
    stage: StrictStr = ""
    round: StrictInt = 0
    model: StrictStr = ""
    split: StrictStr = ""
    control: StrictBool = False
    pairs: list[tuple[StrictInt, StrictInt]] = []


class PipelineState(_Values):
    """Content of `pipeline.json`."""

    links: list[TaskEntry]
    stages: list[StageState]
    class_names: list[StrictStr]
    models: list[StrictStr]
    control: list[StrictStr] = []
    out: StrictStr
    data: StrictStr
    unlabelled: StrictStr
    test_splits: list[StrictStr]
    vote_split: StrictStr
    stopped: StrictStr = ""


class MetricsRow(_Values):
    """A row of `metrics.jsonl`."""

    kind: StrictStr
    epoch: StrictInt | None = None
    split: StrictStr = ""
    weights: StrictStr = "raw"
    # A number of a validation, one a stream in a row of training.
    top1: StrictInt | StrictFloat | dict[str, StrictInt | StrictFloat | None] | None = None
    num_videos: StrictInt | None = Field(default=None, ge=0)


def find_wrong_value(model: type[BaseModel], values: dict[str, Any]) -> str:
    """Describe the first value of another type than a model's, empty if there is none.

    Args:
        model: Model of the values.
        values: Values of a file.

    Example:
        >>> find_wrong_value(MetricsRow, {"kind": "val", "split": 3})
        'split: Input should be a valid string, not 3'
    """
    try:
        model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}, not {first['input']!r:.60}"
    return ""
