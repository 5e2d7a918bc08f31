"""Limits, container checks and checksums of video files."""
