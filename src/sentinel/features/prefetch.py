"""Prefetch: a hint to the processor to load an address into its cache.

A long replay jumps between keys and would spend most of its time waiting for memory. The kernel knows the next keys and
prefetches their rows a few events ahead.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def prefetch(_context: Any, _address: Any) -> Any:
    """Fetch the cache line at an address (an integer). Nothing else happens, whatever is there."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer = ir.PointerType(ir.IntType(8))
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        for_reading, keep, data = number(0), number(3), number(1)
        builder.call(function, [builder.inttoptr(arguments[0], pointer), for_reading, keep, data])
        return _target.get_dummy_value()

    return types.void(types.intp), generate
