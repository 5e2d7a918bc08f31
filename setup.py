"""Kept for `pip install -e .` with old tools; everything it could say is in pyproject.toml."""

import sys

from setuptools import setup

if sys.argv[1:2] in (["develop"], ["install"], ["build"]):
    sys.exit(
        f"`python setup.py {sys.argv[1]}` is not supported: run `python -m pip install -e .` instead"
    )

setup()
