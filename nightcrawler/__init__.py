"""Recognise human actions in dark video: a PySlowFast-style research framework.

The names below are the public interface. Everything else may change between versions.

Example:
    >>> import nightcrawler
    >>> predictor = nightcrawler.load("exp_adapt_bn/uniformer_b32_k600")  # doctest: +SKIP
    >>> for result in predictor.predict("clips/"):  # doctest: +SKIP
    ...     print(result.name, result.status, result.classes[:1])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nightcrawler.data.lowlight.enhance.build import enhance
    from nightcrawler.models.build import create_model, list_models
    from nightcrawler.predict.ensemble import Ensemble
    from nightcrawler.predict.load import load
    from nightcrawler.predict.predictor import Predictor
    from nightcrawler.predict.video_result import VideoResult
    from nightcrawler.pseudo.predictions import Predictions, read_results

__version__ = "0.2.0"

__all__ = [
    "Ensemble",
    "Predictions",
    "Predictor",
    "VideoResult",
    "__version__",
    "create_model",
    "enhance",
    "list_models",
    "load",
    "read_results",
]

# Imported on first use: a command line that only prints its help must not wait for PyTorch.
_MODULES = {
    "Ensemble": "nightcrawler.predict.ensemble:Ensemble",
    "Predictions": "nightcrawler.pseudo.predictions:Predictions",
    "Predictor": "nightcrawler.predict.predictor:Predictor",
    "VideoResult": "nightcrawler.predict.video_result:VideoResult",
    "create_model": "nightcrawler.models.build:create_model",
    "enhance": "nightcrawler.data.lowlight.enhance.build:enhance",
    "list_models": "nightcrawler.models.build:list_models",
    "load": "nightcrawler.predict.load:load",
    "read_results": "nightcrawler.pseudo.predictions:read_results",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'nightcrawler' has no attribute {name!r}")
    module, _, attribute = _MODULES[name].partition(":")
    value = getattr(importlib.import_module(module), attribute)
    # Later uses find the name without calling this function.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
