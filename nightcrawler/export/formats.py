"""What a graph is written as; every file is whole or absent."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write

# Of ONNX; the exporter's own, so that nothing is converted between versions.
OPSET = 20
# Products of activations with constant weights. Convolutions stay float32: dynamic int8 ones are several times slower.
INT8_OPS = ("MatMul", "Gemm")
# Clips of the example that the graph is traced with; one would be taken for a constant.
TRACED_CLIPS = 2
INPUT, OUTPUT, BATCH = "frames", "probs", "batch"
HINT = "install the extra with pip install 'nightcrawler-video[export]'"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the block, exporters do not talk of their insides; errors still are errors."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def trace(graph: nn.Module, frame_shape: Sequence[int]) -> ExportedProgram:
    """The graph for any number of clips of uint8 frames `[T, H, W, 3]`."""
    example = torch.zeros(TRACED_CLIPS, *frame_shape, dtype=torch.uint8)
    with quiet():
        with torch.no_grad():
            graph(example)  # what models keep of a clip's shape
        return torch.export.export(graph, (example,), dynamic_shapes=({0: Dim(BATCH, min=1)},))


def write_pt2(program: ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    """Write for `torch.export.load`; `about` is in its extra files."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files=dict(about))
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def write_onnx(program: ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    """Write as ONNX; `about` is in its metadata.

    Raises:
        UserError: if the extra is not installed.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"ONNX needs {error.name}: {HINT}, or leave onnx out of --formats"
        ) from None
    names = {"input_names": [INPUT], "output_names": [OUTPUT]}
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        model = torch.onnx.export(program, dynamo=True, opset_version=OPSET, **names).model_proto
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    for key, text in about.items():
        model.metadata_props.add(key=key, value=text)
    with atomic_write(path) as file:
        file.write(model.SerializeToString())


def write_int8(source: Path, path: Path) -> None:
    """Write an ONNX file again with int8 weights in its matrix products; activations are quantised as they come.

    Raises:
        UserError: if the extra is not installed.
    """
    try:
        from onnxruntime.quantization import quantize_dynamic
    except ImportError as error:
        raise UserError(f"--int8 needs {error.name}: {HINT}") from None
    with tempfile.TemporaryDirectory() as folder, quiet():
        made = Path(folder, path.name)
        quantize_dynamic(source, made, op_types_to_quantize=list(INT8_OPS), per_channel=True)
        with atomic_write(path) as file:
            file.write(made.read_bytes())


def write_safetensors(state: Mapping[str, Tensor], path: Path, about: Mapping[str, str]) -> None:
    """Write tensors by name; `about` is in the file's metadata. Tensors that share memory are written one by one."""
    from safetensors.torch import save

    alone = {
        name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()
    }
    with atomic_write(path) as file:
        file.write(save(alone, {"format": "pt", **about}))
