"""Procedural human actions rendered to video files, in light and in the dark."""
