"""Numeric cases with known answers, checked by one runner: `python -m tests.golden FILE...`."""
