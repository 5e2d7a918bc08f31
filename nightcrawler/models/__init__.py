"""Video architectures, one a file: clips in, logits out."""
