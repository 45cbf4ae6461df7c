"""A model file, read before anything runs it: the nodes of an ONNX graph, or the reason why it is not accepted.

ONNX is protocol buffers: fields of a number, a wire type and a value, and the same again inside. A reader of our own
takes nothing for granted, and spares a server the library that models are built with. What a model may have is listed
here; all else is refused: other files that it refers to, functions, graphs inside of graphs (which can loop), and
operators of other libraries. How much a model computes is not bounded here, but for the size of its file.
"""

import struct
from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import BundleProblem
from sentinel.model.onnx_shapes import check_sizes

MOST_NODES, MOST_BYTES = 1_000, 256 << 20
_ARITHMETIC = {
    "Abs",
    "Add",
    "Cast",
    "Clip",
    "Constant",
    "Div",
    "Exp",
    "Identity",
    "IsNaN",
    "Log",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Sub",
}
_REDUCING = {"Gemm", "MatMul", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"}
_LEARNED = {"Imputer", "LinearRegressor", "Relu", "Scaler", "Sigmoid", "Tanh", "TreeEnsembleRegressor"}
OPERATORS = _ARITHMETIC | _REDUCING | _LEARNED
DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml"))

_INT_TAG, _FLOAT_TAG = 8 << 3, 7 << 3 | 5  # what stands before one of the `ints` and `floats` of an attribute
_MOST_RUNS, _LONGEST = 16, 10
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_DOUBLE = 11  # the type of a tensor
# The numbers of the fields of each message, as in onnx.proto; only those that are listed may be there.
_MODEL = {"ir_version": 1, "producer": 2, "producer_version": 3, "domain": 4, "version": 5, "doc": 6, "graph": 7,
          "opsets": 8, "metadata": 14}  # fmt: skip
_GRAPH = {"node": 1, "name": 2, "tensor": 5, "doc": 10, "input": 11, "output": 12, "value": 13, "metadata": 16}
_NODE = {"input": 1, "output": 2, "name": 3, "operator": 4, "attribute": 5, "doc": 6, "domain": 7, "metadata": 9}
_ATTRIBUTE = {"name": 1, "f": 2, "i": 3, "s": 4, "t": 5, "floats": 7, "ints": 8, "strings": 9, "doc": 13, "type": 20}
_TENSOR = {"dims": 1, "type": 2, "floats": 4, "int32s": 5, "int64s": 7, "name": 8, "raw": 9, "doubles": 10,
           "uint64s": 11, "doc": 12, "location": 14}  # fmt: skip
_OPSET = {"domain": 1, "version": 2}
_HELD = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints", 8: "strings"}  # by an attribute's type


class Field(NamedTuple):
    """A field of a message: its number, its value (whole numbers unsigned), and its bytes with the head."""

    number: int
    value: Any
    raw: bytes


class Node(NamedTuple):
    """One operator of the graph."""

    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


class OnnxFile:
    """A model that has nothing but what is accepted here. Raises BundleProblem for any other."""

    def __init__(self, data: bytes) -> None:
        try:
            self._read(data)
        except (ValueError, TypeError, IndexError, struct.error) as error:  # no protocol buffers, or cut off
            raise _refused(f"it is no ONNX model ({error})") from error

    def _read(self, data: bytes) -> None:
        if len(data) > MOST_BYTES:
            raise _refused(f"it is {len(data):,} bytes long, and {MOST_BYTES:,} are accepted")
        self._fields = _message(data, _MODEL, "the model")
        graphs = [one.value for one in self._fields if one.number == _MODEL["graph"]]
        if len(graphs) != 1:
            raise _refused(f"it has {len(graphs)} graphs instead of one")
        for one in self._fields:
            if one.number == _MODEL["opsets"]:
                _check_domains(_message(one.value, _OPSET, "an opset"), _OPSET["domain"])
        self._graph = _message(graphs[0], _GRAPH, "the graph")
        for one in self._graph:
            if one.number == _GRAPH["tensor"]:
                _check_tensor(one.value)
        nodes = [one.value for one in self._graph if one.number == _GRAPH["node"]]
        if not 0 < len(nodes) <= MOST_NODES:
            raise _refused(f"it has {len(nodes):,} nodes, and 1 to {MOST_NODES:,} are accepted")
        self.nodes = [_node(one) for one in nodes]
        taken = [one.value for one in self._graph if one.number == _GRAPH["input"]]
        self.inputs = [_name(one) for one in taken]
        self.width = _width(taken[0]) if taken else 0
        """How many numbers a row has, as the first input says; 0 where it does not."""

        tensors = [one.value for one in self._graph if one.number == _GRAPH["tensor"]]
        check_sizes(self.nodes, dict(map(_named_sizes, tensors)), {_name(one): _width(one) for one in taken})

    def constant(self, name: str) -> NDArray[np.float64]:
        """The numbers of a tensor of float64 that is written as raw bytes. Raises BundleProblem for any other."""
        for one in self._graph:
            if one.number == _GRAPH["tensor"] and _named_sizes(one.value)[0] == name:
                found = list(_fields(one.value))
                raw = [part.value for part in found if part.number == _TENSOR["raw"]]
                is_wide = [part.value for part in found if part.number == _TENSOR["type"]] == [_DOUBLE]
                sizes = _sizes(found)
                if is_wide and len(raw) == 1 and isinstance(raw[0], bytes) and len(raw[0]) == 8 * prod(sizes):
                    return np.frombuffer(raw[0], "<f8").reshape(sizes)
        raise _refused(f"it has no float64 numbers {name}")

    def after(self, n: int) -> bytes:
        """The model of what follows the first `n` nodes.

        The output of the last of these, (rows, 1), float32, is its only input.
        """
        others = [one.raw for one in self._graph if one.number == _GRAPH["node"]][n:]
        rest = [one.raw for one in self._graph if one.number not in (_GRAPH["node"], _GRAPH["input"])]
        taken = _bytes_field(_GRAPH["input"], _column(self.nodes[n - 1].outputs[0]))
        graph = _bytes_field(_MODEL["graph"], b"".join([*others, *rest, taken]))
        return b"".join(graph if one.number == _MODEL["graph"] else one.raw for one in self._fields)


def _refused(why: str) -> BundleProblem:
    return BundleProblem(f"the model is not accepted: {why}; train anew")


def _fields(data: bytes, begin: int = 0) -> Iterator[Field]:
    while begin < len(data):
        key, at_byte = _varint(data, begin)
        number, kind = key >> 3, key & 7
        value: int | bytes
        if kind == _VARINT:
            value, end = _varint(data, at_byte)
        elif kind in (_EIGHT, _FOUR):
            end = at_byte + (8 if kind == _EIGHT else 4)
            value = data[at_byte:end]
        elif kind == _BYTES:
            length, at_byte = _varint(data, at_byte)
            end = at_byte + length
            value = data[at_byte:end]
        else:
            raise ValueError(f"wire type {kind}")
        if end > len(data):
            raise ValueError("it is cut off")
        yield Field(number, value, data[begin:end])
        begin = end


def _varint(data: bytes, at_byte: int) -> tuple[int, int]:
    byte = data[at_byte]
    if byte < 128:
        return byte, at_byte + 1
    number, shift = byte & 127, 7
    while shift < 70:
        at_byte += 1
        byte = data[at_byte]
        number |= (byte & 127) << shift
        if byte < 128:
            return number & (1 << 64) - 1, at_byte + 1
        shift += 7
    raise ValueError("a number is too long")


def _message(data: Any, known: dict[str, int], what: str) -> list[Field]:
    """The fields of a message. Raises BundleProblem for one that is not among those known."""
    if not isinstance(data, bytes):
        raise _refused(f"{what} is a number")
    found = list(_fields(data))
    unknown = {one.number for one in found} - set(known.values())
    if unknown:
        raise _refused(f"{what} has fields that no model of ours has ({', '.join(map(str, sorted(unknown)))})")
    return found


def _texts(found: list[Field], number: int) -> list[str]:
    return [one.value.decode() if isinstance(one.value, bytes) else "" for one in found if one.number == number]


def _name(value_info: Any) -> str:
    names = [one.value.decode() for one in _fields(value_info) if one.number == 1 and isinstance(one.value, bytes)]
    return names[-1] if names else ""


def _width(value_info: bytes) -> int:
    """The second size of a tensor's shape."""
    sizes = [value_info]
    for number in (2, 1, 2, 1):  # type, tensor, shape, size
        sizes = [one.value for size in sizes for one in _fields(size) if one.number == number]
    numbers = [one.value for one in _fields(sizes[1]) if one.number == 1] if len(sizes) > 1 else []
    return int(numbers[-1]) if numbers else 0


def _check_domains(found: list[Field], number: int) -> None:
    for domain in _texts(found, number):
        if domain not in DOMAINS:
            raise _refused(f"it needs operators of {domain!r}")


def _check_tensor(data: Any) -> None:
    for one in _message(data, _TENSOR, "a tensor, which has to be in the file itself,"):
        if one.number == _TENSOR["location"] and one.value != 0:
            raise _refused("a tensor is outside of the file")


def _named_sizes(tensor: bytes) -> tuple[str, tuple[int, ...]]:
    found = list(_fields(tensor))
    names = _texts(found, _TENSOR["name"])
    return names[-1] if names else "", _sizes(found)


def _sizes(tensor: list[Field]) -> tuple[int, ...]:
    """The sizes of a tensor. Raises BundleProblem for one below zero."""
    sizes = tuple(size for one in tensor if one.number == _TENSOR["dims"] for size in _ints(one.value))
    if min(sizes, default=0) < 0:
        raise _refused("a tensor has a size below zero")
    return sizes


def _node(data: Any) -> Node:
    found = _message(data, _NODE, "a node")
    _check_domains(found, _NODE["domain"])
    operators = _texts(found, _NODE["operator"])
    if len(operators) != 1 or operators[0] not in OPERATORS:
        raise _refused(f"operator {', '.join(operators) or 'without a name'} is none of those that a model may have")
    attributes = dict(_attribute(one.value) for one in found if one.number == _NODE["attribute"])
    return Node(operators[0], _texts(found, _NODE["input"]), _texts(found, _NODE["output"]), attributes)


def _attribute(data: Any) -> tuple[str, Any]:
    found = _attribute_fields(data)
    of: dict[int, list[Any]] = {}
    for one in found:
        of.setdefault(one.number, []).append(one.value)
    for tensor in of.get(_ATTRIBUTE["t"], ()):
        _check_tensor(tensor)
    name, kind = _texts(found, _ATTRIBUTE["name"]), of.get(_ATTRIBUTE["type"], [None])[-1]
    if len(name) != 1 or kind not in _HELD:
        raise _refused("an attribute has no name, or a type that no model of ours has")
    values = of.get(_ATTRIBUTE[_HELD[kind]], [])
    match _HELD[kind]:
        case "i":
            return name[0], _signed(values[-1]) if values else 0
        case "f":
            return name[0], struct.unpack("<f", values[-1])[0] if values else 0.0
        case "s":
            return name[0], values[-1] if values else b""
        case "ints":
            return name[0], [one for value in values for one in _ints(value)]
        case "floats":
            whole = b"".join(values)
            return name[0], list(struct.unpack(f"<{len(whole) // 4}f", whole))
        case "strings":
            return name[0], values
        case _:
            return name[0], _sizes(list(_fields(of[_ATTRIBUTE["t"]][-1]))) if values else ()


def _attribute_fields(data: Any) -> list[Field]:
    """As `_message`; what many fields of one number each hold is in one field, as they are most of a model."""
    if not isinstance(data, bytes):
        raise _refused("an attribute is a number")
    found: list[Field] = []
    begin = runs = 0
    while begin < len(data):
        if data[begin] not in (_INT_TAG, _FLOAT_TAG):
            one = next(_fields(data, begin))
            found.append(one)
            begin += len(one.raw)
            continue
        runs += 1
        if runs > _MOST_RUNS:  # each looks at all that follows
            raise ValueError("the numbers of an attribute are scattered")
        values, begin = (_int_run if data[begin] == _INT_TAG else _float_run)(data, begin)
        found.append(Field(_ATTRIBUTE["ints" if isinstance(values, list) else "floats"], values, b""))
    unknown = {one.number for one in found} - set(_ATTRIBUTE.values())
    if unknown:
        raise _refused(f"an attribute has fields that no model of ours has ({', '.join(map(str, sorted(unknown)))})")
    return found


def _int_run(data: bytes, begin: int) -> tuple[list[int], int]:
    """The numbers of the fields from here on that hold one whole number each, and where they end."""
    raw = np.frombuffer(data, np.uint8, offset=begin)
    lasts = np.flatnonzero(raw < 128)  # of every number; each second one is a tag
    firsts = np.concatenate([np.zeros(1, np.int64), lasts[:-1] + 1])
    is_tag = raw[firsts[: len(lasts) // 2 * 2 : 2]] == _INT_TAG
    n = len(is_tag) if is_tag.all() else int(is_tag.argmin())
    firsts, lasts = firsts[1 : 2 * n : 2], lasts[1 : 2 * n : 2]
    lengths = lasts - firsts + 1
    if n == 0 or lengths.max() > _LONGEST:
        raise ValueError("a number is cut off, or too long")
    numbers = np.zeros(n, np.uint64)
    for i in range(int(lengths.max())):
        longer = lengths > i
        numbers[longer] |= (raw[firsts[longer] + i] & np.uint8(127)).astype(np.uint64) << np.uint64(7 * i)
    return numbers.view(np.int64).tolist(), begin + int(lasts[-1]) + 1


def _float_run(data: bytes, begin: int) -> tuple[bytes, int]:
    """The same for float32; as the bytes of all of them."""
    raw = np.frombuffer(data, np.uint8, offset=begin)
    fields = raw[: len(raw) // 5 * 5].reshape(-1, 5)
    is_tag = fields[:, 0] == _FLOAT_TAG
    n = len(is_tag) if is_tag.all() else int(is_tag.argmin())
    if n == 0:
        raise ValueError("a number is cut off")
    return fields[:n, 1:].tobytes(), begin + 5 * n


def _ints(value: int | bytes | list[int]) -> Iterator[int]:
    """One number, or many of them in a row."""
    if isinstance(value, list):
        yield from value
        return
    if isinstance(value, int):
        yield _signed(value)
        return
    at_byte = 0
    while at_byte < len(value):
        number, at_byte = _varint(value, at_byte)
        yield _signed(number)


def _signed(value: Any) -> int:
    if not isinstance(value, int):
        raise _refused("a whole number is something else")
    return value - (1 << 64) if value >> 63 else value


def _column(name: str) -> bytes:
    """What describes a float32 tensor (any number of rows, 1)."""
    any_number, one = b"", _number_field(1, 1)
    shape = _bytes_field(1, any_number) + _bytes_field(1, one)
    tensor = _number_field(1, 1) + _bytes_field(2, shape)
    return _bytes_field(1, name.encode()) + _bytes_field(2, _bytes_field(1, tensor))


def _number_field(number: int, value: int) -> bytes:
    return _encoded(number << 3 | _VARINT) + _encoded(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _encoded(number << 3 | _BYTES) + _encoded(len(value)) + value


def _encoded(number: int) -> bytes:
    out = bytearray()
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
