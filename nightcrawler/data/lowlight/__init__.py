"""The night camera model and the enhancement of dark frames."""
