"""Predictions, ensembles and pseudo-labels (numpy only)."""
