"""Export a model to torch.export, ONNX and safetensors: the same as `nightcrawler export`."""

from _start import start

if __name__ == "__main__":
    start("export", __file__)
