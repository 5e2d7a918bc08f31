"""Small helpers every other package may use."""
