"""Training, validation and testing of models: loops, checkpoints, metrics."""
