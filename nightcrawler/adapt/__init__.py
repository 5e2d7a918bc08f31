"""Adaptation of a trained model to unlabelled clips."""
