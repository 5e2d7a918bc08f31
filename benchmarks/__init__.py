"""Benchmarks of a checkout: speed, undetected damage, readability and code paths."""
