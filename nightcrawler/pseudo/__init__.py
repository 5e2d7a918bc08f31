"""Predictions, ensembles, pseudo-labels and votes, with numpy only."""
