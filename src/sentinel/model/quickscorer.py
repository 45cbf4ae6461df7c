"""The inner loop of QuickScorer (`trees.py`) in vector instructions: the exit leaf of sixteen rows at once.

The compiler does not vectorise the loop by itself: it would have to know that no two of the arrays overlap. It maps
these vectors to the registers that the processor has.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

ROWS = 16
LEAVES = 32
"""The bits of a word, one for each leaf."""


@intrinsic
def exit_leaves(
    _context: Any, features: Any, thresholds: Any, masks: Any, begin: Any, end: Any, both: Any, out: Any
) -> Any:
    """Write the leftmost leaf left by the tests `begin` to `end` of a word to `out` int32 (16,), 32 for none.

    `both` float32 (features, 16) has the rows, a lane each; the other arrays are those of `Trees`.
    """

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointers = [target.make_array(signature.args[i])(target, builder, arguments[i]).data for i in (0, 1, 2, 5, 6)]
        i32 = ir.IntType(32)
        lanes, numbers = ir.VectorType(i32, ROWS), ir.VectorType(ir.FloatType(), ROWS)
        every_leaf = ir.Constant(lanes, [2**32 - 1] * ROWS)

        def broadcast(pointer: Any, at: Any, vector: Any) -> Any:
            """One number in every lane."""
            one = builder.load(builder.gep(pointer, [at]))
            filled = builder.insert_element(ir.Constant(vector, ir.Undefined), one, i32(0))
            return builder.shuffle_vector(filled, ir.Constant(vector, ir.Undefined), ir.Constant(lanes, [0] * ROWS))

        bits = cgutils.alloca_once_value(builder, every_leaf)
        with cgutils.for_range_slice(builder, arguments[3], arguments[4], arguments[3].type(1)) as (test, _):
            feature = builder.sext(builder.load(builder.gep(pointers[0], [test])), test.type)
            column = builder.gep(pointers[3], [builder.mul(feature, test.type(ROWS))])
            values = builder.load(builder.bitcast(column, ir.PointerType(numbers)), align=4)
            is_below = builder.fcmp_ordered("<", values, broadcast(pointers[1], test, numbers))
            mask = builder.select(is_below, every_leaf, broadcast(pointers[2], test, lanes))
            builder.store(builder.and_(builder.load(bits), mask), bits)
        kind = ir.FunctionType(lanes, [lanes, ir.IntType(1)])
        trailing_zeros = cgutils.get_or_insert_function(builder.module, kind, f"llvm.cttz.v{ROWS}i32")
        first = builder.call(trailing_zeros, [builder.load(bits), ir.IntType(1)(0)])
        builder.store(first, builder.bitcast(pointers[4], ir.PointerType(lanes)), align=4)
        return target.get_dummy_value()

    return types.void(features, thresholds, masks, begin, end, both, out), generate
