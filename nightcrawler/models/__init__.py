"""Video architectures, one in each file: clips in, logits out."""
