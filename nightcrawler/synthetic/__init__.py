"""Procedural human actions rendered to video files, in normal light and in the dark."""
