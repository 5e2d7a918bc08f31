"""Recognising human actions in dark video: a PySlowFast-style research framework."""

__version__ = "0.2.0"
