"""Enhancements of dark frames."""
