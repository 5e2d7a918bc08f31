"""Configuration: declared keys, strict files, checked values."""
