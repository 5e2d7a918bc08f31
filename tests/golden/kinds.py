"""Every kind of case file the runner knows."""

from __future__ import annotations

from tests.golden import (
    data_cases,
    ensemble_cases,
    model_cases,
    pretrained_cases,
    step_cases,
    stream_cases,
    training_cases,
)

KINDS = [
    *data_cases.KINDS,
    *training_cases.KINDS,
    # Before steps of one stream, which have fewer fields.
    *stream_cases.KINDS,
    *step_cases.KINDS,
    *pretrained_cases.KINDS,
    *ensemble_cases.KINDS,
    *model_cases.KINDS,
]
