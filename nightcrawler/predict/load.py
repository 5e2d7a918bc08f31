"""Load a trained model from Python."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightcrawler.config.schema.model import MAX_VIEWS
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.exported import build_any_predictor
from nightcrawler.predict.predictor import Predictor
from nightcrawler.utils.errors import UserError

DEVICES = ("auto", "cpu", "cuda")
ADAPT = ("none", "online")


def load(
    path_or_name: str | os.PathLike[str],
    device: Any = "auto",
    *,
    views: int | None = None,
    crops: int | None = None,
    dark: bool = True,
    workers: int = 0,
    root: str | os.PathLike[str] = ".",
    imports: Sequence[str] = (),
    max_pixels: int | None = None,
    labels: Sequence[str] | None = None,
    prompt: str | None = None,
    adapt: str = "none",
) -> Predictor:
    """Load a trained model. Its checkpoint holds the configuration, classes and enhancement.

    With `labels`, the model compares videos with words, and answers in these classes.

    Args:
        path_or_name: an output folder, a checkpoint, or a name: `demo/uniformer_b32_k600`, public
            weights such as `torchvision/mvit_v2_s`, downloaded if need be (with `labels` of X-CLIP,
            CLIP or SigLIP on the Hugging Face hub).
        device: `auto` (a GPU where there is one), `cpu` or `cuda`.
        views: temporal views per video. None takes those of testing.
        crops: spatial crops per view, 1 or 3. Goes together with `views`.
        dark: enhance the videos as dark ones. False leaves them unchanged.
        workers: decoding processes. 0 decodes in this process.
        root: folder for relative paths in the configuration.
        imports: modules of yours that the checkpoint's configuration may import.
        max_pixels: largest picture that is read. None takes `DATA.MAX_PIXELS` of the checkpoint.
        labels: names of the classes, two or more. Needs the extra `hub`.
        prompt: sentence of a class, in the place of `{}`. None: `a video of a person who {}`.
        adapt: `online` lets BatchNorm statistics follow the windows of `predict(..., window_sec=)`.

    Returns:
        the model, ready for `predict`.

    Raises:
        UserError: if there is no such model, it is incomplete, or `labels` are no choice.
        ValueError: if an option is out of range.

    Example:
        >>> import nightcrawler
        >>> predictor = nightcrawler.load("best.pyth", device="cpu")
        >>> result, = predictor.predict("a.mp4")
        >>> result.probabilities.shape
        (11,)
        >>> result, = predictor.predict("a.mp4", window_sec=0.5)
        >>> result.timeline[0].start_sec
        0.0
    """
    _check_arguments(path_or_name, device, workers)
    _check_words(labels, prompt, adapt)
    pair = _checked_pair(views, crops)
    more = (workers, Path(root), str(device), tuple(imports), max_pixels, adapt)
    options = PredictOptions(pair, dark, *more)
    if labels is not None:
        return _load_open(os.fspath(path_or_name), labels, prompt, options)
    return build_any_predictor(path_or_name, Path(path_or_name).resolve().name, None, options)


def _check_arguments(path_or_name: Any, device: Any, workers: int) -> None:
    if not isinstance(path_or_name, (str, os.PathLike)) or not os.fspath(path_or_name):
        raise UserError(
            f"load: {path_or_name!r}: expected the path of an experiment or checkpoint, or the "
            "name of a model inside the package"
        )
    # `str` accepts torch.device, too, without importing PyTorch for an annotation.
    if str(device) not in DEVICES:
        raise ValueError(f"device {str(device)!r}: expected one of {', '.join(DEVICES)}")
    if workers < 0:
        raise ValueError(f"workers {workers}: expected 0 or more")


def _check_words(labels: Sequence[str] | None, prompt: str | None, adapt: str) -> None:
    if prompt is not None and labels is None:
        raise ValueError(f"prompt {prompt!r}: needs labels")
    if adapt not in ADAPT:
        raise ValueError(f"adapt {adapt!r}: expected one of {', '.join(ADAPT)}")
    if adapt != "none" and labels is not None:
        raise ValueError(f"adapt {adapt!r}: models with labels have no BatchNorm")


def _load_open(
    name: str, labels: Sequence[str], prompt: str | None, options: PredictOptions
) -> Predictor:
    """Load a model that answers in classes given by name."""
    # Imported here, as is all that only such models need.
    from nightcrawler.predict import open_vocabulary

    if isinstance(labels, str):
        raise TypeError(f"labels {labels!r}: expected a list of names, such as ['falls', 'walks']")
    names = tuple(label.strip() for label in labels)
    open_vocabulary.check_labels(names, f"labels {list(labels)}")
    if options.pair is not None and options.pair[1] != 1:
        raise ValueError("crops 3: models with labels take one crop of each view")
    template = open_vocabulary.DEFAULT_PROMPT if prompt is None else prompt
    ensemble = open_vocabulary.build_open_vocabulary([name], names, template, options)
    return ensemble.predictors[0]


def _checked_pair(views: int | None, crops: int | None) -> tuple[int, int] | None:
    if (views is None) != (crops is None):
        raise ValueError("views and crops: give both or neither")
    if views is None or crops is None:
        return None
    if not 1 <= views <= MAX_VIEWS or crops not in (1, 3):
        raise ValueError(f"views {views} and crops {crops}: expected 1 to {MAX_VIEWS}, and 1 or 3")
    return views, crops
