"""The inner loop of `trees.py`, in vectors: which leaves are left when every split has been asked, for sixteen rows.

The compiler does not find these vectors by itself: it would have to know that no two of the arrays overlap. It turns
them into whatever the processor has, four narrow ones in place of a wide one too.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

ROWS = 16
LEAVES = 32
"""Of one part of a tree: the bits of a lane."""


@intrinsic
def first_left(
    _context: Any, features: Any, thresholds: Any, kept: Any, begin: Any, end: Any, both: Any, out: Any
) -> Any:
    """Write the first leaf that strikes `begin` to `end` leave of a part to `out` int32 (16,), 32 where none is left.

    `both` float32 (features, 16) holds the rows, a lane each; the other arrays are those of `Trees`.
    """

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointers = [target.make_array(signature.args[i])(target, builder, arguments[i]).data for i in (0, 1, 2, 5, 6)]
        i32 = ir.IntType(32)
        lanes, numbers = ir.VectorType(i32, ROWS), ir.VectorType(ir.FloatType(), ROWS)
        everything = ir.Constant(lanes, [2**32 - 1] * ROWS)

        def spread(pointer: Any, at: Any, vector: Any) -> Any:
            """One number in every lane."""
            one = builder.load(builder.gep(pointer, [at]))
            filled = builder.insert_element(ir.Constant(vector, ir.Undefined), one, i32(0))
            return builder.shuffle_vector(filled, ir.Constant(vector, ir.Undefined), ir.Constant(lanes, [0] * ROWS))

        left = cgutils.alloca_once_value(builder, everything)
        with cgutils.for_range_slice(builder, arguments[3], arguments[4], arguments[3].type(1)) as (strike, _):
            feature = builder.sext(builder.load(builder.gep(pointers[0], [strike])), strike.type)
            column = builder.gep(pointers[3], [builder.mul(feature, strike.type(ROWS))])
            values = builder.load(builder.bitcast(column, ir.PointerType(numbers)), align=4)
            is_below = builder.fcmp_ordered("<", values, spread(pointers[1], strike, numbers))
            stays = builder.select(is_below, everything, spread(pointers[2], strike, lanes))
            builder.store(builder.and_(builder.load(left), stays), left)
        kind = ir.FunctionType(lanes, [lanes, ir.IntType(1)])
        trailing_zeros = cgutils.get_or_insert_function(builder.module, kind, f"llvm.cttz.v{ROWS}i32")
        first = builder.call(trailing_zeros, [builder.load(left), ir.IntType(1)(0)])
        builder.store(first, builder.bitcast(pointers[4], ir.PointerType(lanes)), align=4)
        return target.get_dummy_value()

    return types.void(features, thresholds, kept, begin, end, both, out), generate
