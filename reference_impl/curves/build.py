"""Write `curve.onnx` from the weights: `python -m reference_impl.curves.build`.

The script needs onnx, which the extra `dev` installs. It writes the same bytes on every machine.
"""

from onnx import TensorProto, checker, helper

from reference_impl.curves import FILE, KINDS, TINY, TOLERANCE, WINDOW, weights

# The oldest versions of the operators and of the file format that have every operator of the model,
# so that older runtimes can read the file.
_OPSET_VERSION, _IR_VERSION = 18, 8

# The operations of the model in their order: result, operator, inputs. The names of the results are
# part of the file.
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
    """Return the model as the bytes of an ONNX file.

    >>> model() == FILE.read_bytes()
    True
    """
    matrix, bias = weights()
    double = TensorProto.DOUBLE
    matrix_values = [weight for row in matrix for weight in row]
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, [result]) for result, operator, *inputs in _STEPS],
        "curve-detection",
        [helper.make_tensor_value_info("windows", double, ["count", WINDOW])],
        [helper.make_tensor_value_info("scores", double, ["count", len(KINDS)])],
        [
            helper.make_tensor("across", TensorProto.INT64, [1], [1]),
            helper.make_tensor("tolerance", double, [], [TOLERANCE]),
            helper.make_tensor("tiny", double, [], [TINY]),
            helper.make_tensor("matrix", double, [WINDOW, len(KINDS)], matrix_values),
            helper.make_tensor("bias", double, [len(KINDS)], bias),
        ],
    )
    onnx_model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET_VERSION)], ir_version=_IR_VERSION
    )
    checker.check_model(onnx_model, full_check=True)
    return bytes(onnx_model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    FILE.write_bytes(model())
