"""Top-down models for tests: each of 17 joints is a dot of a colour of its own.

Like real ones, they expect the person in the middle of the box: a joint at its side is less sure.
"""

from __future__ import annotations

import itertools

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nightcrawler.pose.estimators.top_down import MEAN, STD
from tests.pose.people import COCO

COLORS = np.array(list(itertools.product((40, 140, 240), repeat=3))[1:18], np.float32)
DOT_PX = 4


def figure(frame, x, y, scale=1.0):
    """Draw a person whose middle is at x and y; return its joints `[17, 2]`."""
    joints = COCO * scale + (x, y)
    for (column, row), color in zip(joints.round().astype(int), COLORS, strict=True):
        # Paler to the edge, so that the middle is what is found.
        for half in range(DOT_PX, 0, -1):
            paler = color * (1 - 0.06 * (half - 1))
            frame[row - half : row + half, column - half : column + half] = paler
    return joints.round()


def write_model(path, simcc, joints=17, size=(256, 192)):
    """Write a model whose heat is high where a picture has a joint's colour."""

    def constant(name, values):
        return numpy_helper.from_array(np.asarray(values, np.float32), name)

    height, width = size
    constants = [
        constant("std", STD.reshape(1, 3, 1, 1)),
        constant("mean", MEAN.reshape(1, 3, 1, 1)),
        constant("colors", COLORS[:joints].reshape(1, joints, 3, 1, 1)),
        constant("sharp", -1 / 800),
        constant("central", np.exp(-2 * np.linspace(-1, 1, width) ** 2).reshape(1, 1, 1, width)),
        numpy_helper.from_array(np.array([1], np.int64), "one"),
        numpy_helper.from_array(np.array([2], np.int64), "two"),
        numpy_helper.from_array(np.array([3], np.int64), "three"),
    ]
    nodes = [
        helper.make_node("Mul", ["input", "std"], ["scaled"]),
        helper.make_node("Add", ["scaled", "mean"], ["rgb"]),
        helper.make_node("Unsqueeze", ["rgb", "one"], ["lone"]),
        helper.make_node("Sub", ["lone", "colors"], ["away"]),
        helper.make_node("Mul", ["away", "away"], ["square"]),
        helper.make_node("ReduceSum", ["square", "two"], ["distance"], keepdims=0),
        helper.make_node("Mul", ["distance", "sharp"], ["power"]),
        helper.make_node("Exp", ["power"], ["alike"]),
        helper.make_node("Mul", ["alike", "central"], ["heat"]),
        helper.make_node("ReduceMax", ["heat", "two"], ["simcc_x"], keepdims=0),
        helper.make_node("ReduceMax", ["heat", "three"], ["simcc_y"], keepdims=0),
    ]
    heat = helper.make_tensor_value_info("heat", TensorProto.FLOAT, [1, joints, height, width])
    simcc_x = helper.make_tensor_value_info("simcc_x", TensorProto.FLOAT, [1, joints, width])
    simcc_y = helper.make_tensor_value_info("simcc_y", TensorProto.FLOAT, [1, joints, height])
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, height, width])
    outputs = [simcc_x, simcc_y] if simcc else [heat]
    graph = helper.make_graph(nodes if simcc else nodes[:-2], "dots", [given], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(path))
    return str(path)
