"""Make `curve.onnx` of the weights: `python -m reference_impl.curves.build`.

It needs onnx, which is in the extra `dev`. The bytes are the same wherever it runs.
"""

from onnx import TensorProto, checker, helper

from reference_impl.curves import FILE, KINDS, TINY, TOLERANCE, WINDOW, weights

# The oldest that have all that is used here: older runtimes can read it, too.
_OPSET, _FORMAT = 18, 8

# What runs, in order: `result = operator(inputs)`.
_STEPS = (
    ("middle", "ReduceMean", "windows", "across"),
    ("apart", "Sub", "windows", "middle"),
    ("squares", "Mul", "apart", "apart"),
    ("variance", "ReduceMean", "squares", "across"),
    ("spread", "Sqrt", "variance"),
    ("level", "Abs", "middle"),
    ("tolerated", "Mul", "level", "tolerance"),
    ("wide", "Add", "spread", "tolerated"),
    ("scale", "Add", "wide", "tiny"),
    ("scaled", "Div", "apart", "scale"),
    ("weighed", "MatMul", "scaled", "matrix"),
    ("fits", "Add", "weighed", "bias"),
    ("scores", "Softmax", "fits"),
)


def model() -> bytes:
    """Make the model.

    >>> model() == FILE.read_bytes()
    True
    """
    matrix, bias = weights()
    double = TensorProto.DOUBLE
    flat = [each for row in matrix for each in row]
    graph = helper.make_graph(
        [helper.make_node(operator, given, [result]) for result, operator, *given in _STEPS],
        "curve-detection",
        [helper.make_tensor_value_info("windows", double, ["count", WINDOW])],
        [helper.make_tensor_value_info("scores", double, ["count", len(KINDS)])],
        [
            helper.make_tensor("across", TensorProto.INT64, [1], [1]),
            helper.make_tensor("tolerance", double, [], [TOLERANCE]),
            helper.make_tensor("tiny", double, [], [TINY]),
            helper.make_tensor("matrix", double, [WINDOW, len(KINDS)], flat),
            helper.make_tensor("bias", double, [len(KINDS)], bias),
        ],
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_FORMAT
    )
    checker.check_model(made, full_check=True)
    return bytes(made.SerializeToString(deterministic=True))


if __name__ == "__main__":
    FILE.write_bytes(model())
