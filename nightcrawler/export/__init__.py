"""Trained models for other programs: `torch.export`, ONNX, int8, safetensors, each with a card."""
