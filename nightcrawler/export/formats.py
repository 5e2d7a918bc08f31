"""Write a graph as `torch.export` program, ONNX, int8 ONNX or safetensors; each file is whole."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from nightcrawler.predict.graph_input import INPUT, OUTPUT
from nightcrawler.predict.onnx_file import EXTRA
from nightcrawler.utils.errors import UserError, missing_extra
from nightcrawler.utils.io import atomic_write
from nightcrawler.utils.safetensors_files import safetensors_bytes

# The exporter's own opset, so that nothing is converted between versions.
OPSET = 20
# Products of activations with constant weights. Convolutions stay float32: dynamic int8
# convolutions are several times slower.
INT8_OPS = ("MatMul", "Gemm")
# Clips of the example that the graph is traced with. A batch of one is taken for a constant.
TRACED_CLIPS = 2
BATCH = "batch"
HEIGHT = "height"
WIDTH = "width"
# Height and width of the example where they are free: any two that differ.
TRACED_SIZE = (60, 80)
# T, H, W, 3 of a clip, where H and W are `None` for frames of any size.
FrameShape = tuple[int, int | None, int | None, int]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide warnings and log lines of exporters within the block; errors still are raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def trace(graph: nn.Module, frame_shape: FrameShape) -> ExportedProgram:
    """Trace a graph for any number of clips.

    Args:
        graph: uint8 frames to probabilities.
        frame_shape: shape of a clip.
    """
    length, height, width, colors = frame_shape
    free = {0: Dim(BATCH, min=1)}
    # A side of one pixel would be taken for a constant.
    if height is None:
        free[2] = Dim(HEIGHT, min=2)
    if width is None:
        free[3] = Dim(WIDTH, min=2)
    shape = (TRACED_CLIPS, length, height or TRACED_SIZE[0], width or TRACED_SIZE[1], colors)
    example = torch.zeros(*shape, dtype=torch.uint8)
    with quiet():
        with torch.no_grad():
            # Models keep tables for the shape of a clip, which must be there before tracing.
            graph(example)
        program = torch.export.export(graph, (example,), dynamic_shapes=(free,))
    _forget_sources(program)
    return program


def _forget_sources(program: ExportedProgram) -> None:
    """Remove the lines of code that each step comes from: they name folders of this machine."""
    for module in program.graph_module.modules():
        if isinstance(module, GraphModule):
            for step in module.graph.nodes:
                step.meta.pop("stack_trace", None)


def write_pt2(program: ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    """Write a program for `torch.export.load`.

    Args:
        program: the traced graph.
        path: file to write.
        about: texts for the file's extra files.
    """
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files=dict(about))
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def check_onnx_installed() -> None:
    """Refuse to write ONNX without its libraries.

    Raises:
        UserError: if the extra is not installed.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        fault = missing_extra("onnx among --formats", EXTRA)
        raise UserError(f"{fault}, or leave it out: --formats pt2 safetensors") from None


def write_onnx(program: ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    """Write a program as ONNX.

    Args:
        program: the traced graph.
        path: file to write.
        about: texts for the file's metadata.

    Raises:
        UserError: if the extra is not installed.
    """
    check_onnx_installed()
    # The exporter prints its progress to standard output, which belongs to the command line.
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        exported = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, input_names=[INPUT], output_names=[OUTPUT]
        )
    assert exported is not None
    model = exported.model_proto
    # The exporter invents names for free dimensions; the card and the metadata use ours.
    names = (BATCH, "", HEIGHT, WIDTH, "")
    for value in (*model.graph.input, *model.graph.output):
        for dim, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
            if dim.dim_param:
                dim.dim_param = name
    for key, text in about.items():
        model.metadata_props.add(key=key, value=text)
    with atomic_write(path) as file:
        file.write(model.SerializeToString())


def write_int8(source: Path, path: Path) -> None:
    """Write an ONNX file again with int8 weights in its matrix products.

    Activations are quantised dynamically, each batch by its own range.

    Args:
        source: float32 ONNX file.
        path: file to write.

    Raises:
        UserError: if the extra is not installed.
    """
    try:
        from onnxruntime.quantization import quantize_dynamic
    except ImportError:
        raise missing_extra("--int8", EXTRA) from None
    # The quantiser writes to its target bit by bit, so it gets another one first.
    with tempfile.TemporaryDirectory() as folder, quiet():
        made = Path(folder, path.name)
        quantize_dynamic(source, made, op_types_to_quantize=list(INT8_OPS), per_channel=True)
        with atomic_write(path) as file:
            file.write(made.read_bytes())


def write_safetensors(state: Mapping[str, Tensor], path: Path, about: Mapping[str, str]) -> None:
    """Write tensors by name.

    Args:
        state: name to tensor.
        path: file to write.
        about: texts for the file's metadata.
    """
    with atomic_write(path) as file:
        file.write(safetensors_bytes(state, about))
