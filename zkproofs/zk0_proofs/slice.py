"""The evaluation slice as ONNX: from rows and V to prediction and loss, in integers, for any ONNX runtime.

The graph has no weights of its own, so one file and one digest serve every node and round of a shape. A
squared residual can exceed 64 bits; it leaves as three sums from which `loss_of` puts it together exactly:
with residual = high 2^20 + low, sum residual^2 = s_hh 2^40 + s_hl 2^21 + s_ll.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .digest import keccak
from .fixedpoint import LOSS_SCALE_LOG2, WEIGHT_SCALE
from .readout import READOUT_SHAPE, Rows, Shape
from .types import Digest, Integers

if TYPE_CHECKING:
    import onnx

OPSET = 18
IR_VERSION = 10
_LIMB = 2**20


@lru_cache(maxsize=4)
def slice_bytes(shape: Shape = READOUT_SHAPE) -> bytes:
    """Return the ONNX file of the slice: inputs z, y, v; outputs prediction and loss_sums, all int64."""
    model: onnx.ModelProto = _model(shape)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def slice_digest(shape: Shape = READOUT_SHAPE) -> Digest:
    """Return the digest of the slice's file, as it stands in every manifest."""
    return keccak(slice_bytes(shape))


def run_slice(content: bytes, rows: Rows, weights: Integers) -> tuple[Integers, int]:
    """Return prediction z V [rows, outputs] at 2^26 and the sum of squared residuals at 2^52, by ONNX."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    prediction, sums = session.run(None, {"z": rows.z, "y": rows.y, "v": weights})
    return prediction, loss_of(sums)


def loss_of(sums: Integers) -> int:
    """Return the sum of squared residuals from the slice's three sums."""
    high, mixed, low = (int(entry) for entry in sums)
    return (high << 40) + (mixed << 21) + low


def mean_loss(total: int, shape: Shape = READOUT_SHAPE) -> float:
    """Return the mean squared error per row and output of a sum of squared residuals at 2^52."""
    return total / (shape.rows * shape.outputs << LOSS_SCALE_LOG2)


def _model(shape: Shape) -> Any:
    from onnx import TensorProto, checker, helper

    def constant(name: str, value: int) -> Any:
        return helper.make_tensor(name, TensorProto.INT64, [], [value])

    def tensor(name: str, *dims: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.INT64, dims)

    axes = helper.make_tensor("all_axes", TensorProto.INT64, [2], [0, 1])
    nodes = [
        helper.make_node("MatMul", ["z", "v"], ["prediction"]),
        helper.make_node("Mul", ["y", "weight_scale"], ["target"]),
        helper.make_node("Sub", ["prediction", "target"], ["residual"]),
        # |residual| keeps both limbs non-negative; its square is the same.
        helper.make_node("Abs", ["residual"], ["size"]),
        helper.make_node("Div", ["size", "limb"], ["high"]),
        helper.make_node("Mod", ["size", "limb"], ["low"]),
        *_sum_of_product("high", "high", "s_hh"),
        *_sum_of_product("high", "low", "s_hl"),
        *_sum_of_product("low", "low", "s_ll"),
        helper.make_node("Concat", ["s_hh", "s_hl", "s_ll"], ["loss_sums"], axis=0),
    ]
    graph = helper.make_graph(
        nodes,
        f"slice-{shape.name}",
        [
            tensor("z", shape.rows, shape.features),
            tensor("y", shape.rows, shape.outputs),
            tensor("v", shape.features, shape.outputs),
        ],
        [tensor("prediction", shape.rows, shape.outputs), tensor("loss_sums", 3)],
        [
            constant("weight_scale", WEIGHT_SCALE),
            constant("limb", _LIMB),
            axes,
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="zk0")
    model.ir_version = IR_VERSION
    checker.check_model(model)
    return model


def _sum_of_product(first: str, second: str, name: str) -> list[Any]:
    from onnx import helper

    return [
        helper.make_node("Mul", [first, second], [f"{name}_terms"]),
        helper.make_node("ReduceSum", [f"{name}_terms", "all_axes"], [f"{name}_scalar"], keepdims=0),
        helper.make_node("Reshape", [f"{name}_scalar", "one"], [name]),
    ]
