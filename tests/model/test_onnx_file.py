"""The model file: what a model may have, and that nothing else is handed on to what runs it."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from sentinel.errors import BundleProblem
from sentinel.model.onnx_file import MOST_NODES, OnnxFile
from sentinel.model.scorer import Scorer

INFO = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])]
OUT = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])]
STUMP = {
    "n_targets": 1, "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [1, 0, 0],
    "nodes_values": [0.5, 0.0, 0.0], "nodes_modes": ["BRANCH_LT", "LEAF", "LEAF"], "nodes_truenodeids": [1, 0, 0],
    "nodes_falsenodeids": [2, 0, 0], "nodes_missing_value_tracks_true": [1, 0, 0], "target_treeids": [0, 0],
    "target_nodeids": [1, 2], "target_ids": [0, 0], "target_weights": [0.25, 0.75],
}  # fmt: skip


def stump(output="y", **changes):
    return helper.make_node("TreeEnsembleRegressor", ["x"], [output], domain="ai.onnx.ml", **(STUMP | changes))


def model_of(*nodes, tensors=(), **more):
    graph = helper.make_graph(nodes, "made by hand", INFO, OUT, tensors)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, **more)


def test_what_is_read_is_what_the_library_of_the_format_reads():
    made = model_of(
        stump("z"), helper.make_node("Mul", ["z", "one"], ["y"]), tensors=[helper.make_tensor("one", 1, [], [1.0])]
    )
    found = OnnxFile(made.SerializeToString())
    assert found.inputs == ["x"]
    for node, expected in zip(found.nodes, made.graph.node, strict=True):
        assert (node.operator, node.inputs, node.outputs) == (expected.op_type, [*expected.input], [*expected.output])
        assert node.attributes == {one.name: helper.get_attribute_value(one) for one in expected.attribute}


def test_the_rest_of_a_model_is_what_the_library_of_the_format_makes_of_it():
    made = model_of(stump("z"), helper.make_node("Neg", ["z"], ["y"]))
    rest = onnx.load_from_string(OnnxFile(made.SerializeToString()).after(1))
    onnx.checker.check_model(rest)
    del made.graph.node[0]
    del made.graph.input[:]
    made.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [None, 1]))
    assert rest == made


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.lists(st.floats(width=32, allow_nan=False)), st.booleans())
def test_numbers_are_read_in_a_row_and_one_by_one(whole, real, in_a_row):
    node = helper.make_node("Neg", ["x"], ["y"], whole=whole or [0], real=real or [0.0])
    data = model_of(node).SerializeToString()
    if in_a_row:  # as a writer of proto3 does
        for attribute in node.attribute:
            packed = _packed(attribute)
            data = _with_attribute(data, attribute.SerializeToString(), packed)
    [found] = OnnxFile(data).nodes
    assert found.attributes == {"whole": whole or [0], "real": real or [0.0]}


def _packed(attribute):
    bare = onnx.AttributeProto()
    bare.CopyFrom(attribute)
    bare.ClearField("ints")
    bare.ClearField("floats")
    if attribute.ints:
        body = b"".join(_varint(one & (1 << 64) - 1) for one in attribute.ints)
        return bare.SerializeToString() + b"\x42" + _varint(len(body)) + body
    body = np.array(attribute.floats, "<f4").tobytes()
    return bare.SerializeToString() + b"\x3a" + _varint(len(body)) + body


def _with_attribute(data, old, new):
    """The model with an attribute written in another way; every message around it gets its new length."""
    made = onnx.load_from_string(data)
    node, rest = made.graph.node[0], b""
    for one in node.attribute:
        text = new if one.SerializeToString() == old else one.SerializeToString()
        rest += b"\x2a" + _varint(len(text)) + text
    node.ClearField("attribute")
    body = node.SerializeToString() + rest
    graph = onnx.GraphProto()
    graph.CopyFrom(made.graph)
    graph.ClearField("node")
    whole = b"\x0a" + _varint(len(body)) + body + graph.SerializeToString()
    made.ClearField("graph")
    return made.SerializeToString() + b"\x3a" + _varint(len(whole)) + whole


def _varint(number):
    out = b""
    while number >= 128:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def external(**where):
    tensor = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in where.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def constant_elsewhere():
    node = helper.make_node("Constant", [], ["one"])
    node.attribute.append(helper.make_attribute("value", external(location="/etc/hostname")))
    return node


def with_function():
    made = model_of(helper.make_node("Neg", ["x"], ["y"]))
    made.functions.append(
        helper.make_function(
            "ours", "F", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], [helper.make_opsetid("", 17)]
        )
    )
    return made


def loop():
    body = helper.make_graph([], "body", [], [])
    return model_of(helper.make_node("Loop", ["", "", "x"], ["y"], body=body))


def inner_graph():
    body = helper.make_graph([], "body", [], [])
    return model_of(helper.make_node("Neg", ["x"], ["y"], body=body))


REFUSED = {
    "a tensor in another file": (model_of(helper.make_node("Mul", ["x", "one"], ["y"]), tensors=[external(location="../secret")]), "in the file itself"),
    "a constant in another file": (model_of(constant_elsewhere(), helper.make_node("Mul", ["x", "one"], ["y"])), "in the file itself"),
    "a location alone": (model_of(helper.make_node("Mul", ["x", "one"], ["y"]), tensors=[external()]), "outside"),
    "operators of others": (model_of(helper.make_node("Neg", ["x"], ["y"], domain="com.microsoft")), "com.microsoft"),
    "a function": (with_function(), "fields that no model of ours has"),
    "a loop": (loop(), "fields that no model of ours has|none of those"),
    "a graph in a node": (inner_graph(), "fields that no model of ours has"),
    "what grows": (model_of(helper.make_node("ConstantOfShape", ["x"], ["y"])), "ConstantOfShape"),
    "no nodes": (model_of(), "0 nodes"),
    "too many nodes": (model_of(*(helper.make_node("Neg", ["x"], [f"n{i}"]) for i in range(MOST_NODES + 1))), "1,001 nodes"),
    "a feature that is not there": (model_of(stump(nodes_featureids=[10**8, 0, 0])), "feature 100000000 of 2"),
    "a feature below none": (model_of(stump(nodes_featureids=[-1, 0, 0])), "feature -1 of 2"),
    "a way to no node": (model_of(stump(nodes_truenodeids=[7, 0, 0])), "not there"),
    "a way back": (model_of(stump(nodes_truenodeids=[0, 0, 0])), "not there"),
    "a node twice": (model_of(stump(nodes_nodeids=[0, 1, 1])), "not in its place"),
    "a leaf of no tree": (model_of(stump(target_nodeids=[1, 9])), "belongs to no tree"),
    "another target": (model_of(stump(target_ids=[0, 10**6])), "several targets"),
    "columns of two lengths": (model_of(stump(nodes_values=[0.5])), "of one length"),
    "a missing column": (model_of(helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1)), "lack something"),
    "a column of another type": (model_of(stump(nodes_featureids=[1.0, 0.0, 0.0])), "lack something"),
}  # fmt: skip


@pytest.mark.parametrize(("made", "said"), REFUSED.values(), ids=REFUSED)
def test_a_model_that_has_more_than_it_needs_is_refused(made, said):
    with pytest.raises(BundleProblem, match=said):
        Scorer(made.SerializeToString())


def test_a_second_graph_is_refused():
    """Readers would put both together."""
    data = model_of(helper.make_node("Neg", ["x"], ["y"])).SerializeToString()
    with pytest.raises(BundleProblem, match="2 graphs"):
        OnnxFile(data + onnx.ModelProto(graph=onnx.GraphProto(name="more")).SerializeToString())


CHANGED_NUMBERS = """
import random, sys
import numpy as np
from sentinel.errors import BundleProblem
from sentinel.model.scorer import Scorer

good, taken, refused = open(sys.argv[1], "rb").read(), 0, 0
rows = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
for seed in range(int(sys.argv[2])):
    chance, data = random.Random(seed), bytearray(good)
    for _ in range(chance.choice((1, 1, 2, 4))):
        i = chance.randrange(len(data))
        if chance.random() < 0.7:
            data[i] = chance.choice((0, 1, 2, 127, 128, 255, chance.randrange(256)))
        elif chance.random() < 0.5:
            del data[i : i + chance.randrange(1, 9)]
        else:
            data[i:i] = bytes([255] * 9 + [1])[chance.randrange(9) :]
    try:
        Scorer(bytes(data)).score(rows)
        taken += 1
    except BundleProblem:
        refused += 1
print(taken, refused)
"""


def test_no_change_of_a_model_ends_the_process(tmp_path):
    """Whoever can change the file can make its hash as well."""
    made = model_of(stump("z"), helper.make_node("Neg", ["z"], ["y"]))
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
    command = [sys.executable, "-c", CHANGED_NUMBERS, str(tmp_path / "model.onnx"), "1500"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    taken, refused = map(int, done.stdout.split())
    assert taken + refused == 1500
    assert refused > 500
    assert taken > 20


def spreading(n, *nodes):
    column, row = (helper.make_tensor(name, 1, sizes, [1e-9] * n) for name, sizes in (("c", [n, 1]), ("r", [1, n])))
    first = helper.make_node("ReduceMax", ["x"], ["m"], axes=[1], keepdims=1)
    return model_of(first, *nodes, tensors=[column, row, helper.make_tensor("one", 1, [], [1.0])]).SerializeToString()


ADD = [helper.make_node("Add", ["c", "r"], ["z"])]
MULTIPLY = [helper.make_node("MatMul", ["c", "r"], ["z"])]
GEMM = [helper.make_node("Gemm", ["c", "c"], ["z"], transB=1)]
GEMM_TURNED = [helper.make_node("Gemm", ["r", "r"], ["z"], transA=1)]
ROWS = [helper.make_node("MatMul", ["m", "r"], ["z"])]
FLAT = [helper.make_node("ReduceMax", ["c"], ["f"], axes=[1], keepdims=0), helper.make_node("Mul", ["f", "c"], ["z"])]
CLIP = [helper.make_node("Clip", ["c", "r"], ["z"])]
STEPS = [helper.make_node("MatMul", ["m", "r"], [f"z{i}"]) for i in range(90)] + [helper.make_node("Abs", ["m"], ["z"])]


@pytest.mark.parametrize("nodes", [ADD, MULTIPLY, GEMM, GEMM_TURNED, FLAT, CLIP])
def test_what_spreads_numbers_into_gigabytes_is_refused(nodes):
    rest = [helper.make_node("ReduceMax", ["z"], ["s"], keepdims=1), helper.make_node("Mul", ["m", "s"], ["y"])]
    with pytest.raises(BundleProblem, match="numbers at"):
        Scorer(spreading(10_000, *nodes, *rest))
    OnnxFile(spreading(100, *nodes, *rest))


@pytest.mark.parametrize("nodes", [ROWS * 1, STEPS])
def test_many_numbers_for_each_row_are_refused_too(nodes):
    rest = [helper.make_node("ReduceMax", ["z"], ["y"], axes=[1], keepdims=1)]
    with pytest.raises(BundleProblem, match="numbers at"):
        OnnxFile(spreading(100_000 if nodes is not STEPS else 1_000, *nodes, *rest))
    OnnxFile(spreading(100, *nodes, *rest))


def test_what_nothing_makes_is_refused():
    with pytest.raises(BundleProblem, match="takes what nothing"):
        OnnxFile(model_of(helper.make_node("Neg", ["away"], ["y"])).SerializeToString())
