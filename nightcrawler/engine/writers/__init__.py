"""Writers of a run's metrics: metrics.jsonl, TensorBoard, Trackio, Weights & Biases."""
