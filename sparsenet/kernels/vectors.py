"""Vectors of 32 elements within Numba functions, for loops that LLVM does not turn into them by itself.

    best = load_present(features, n, background, sample, c)      # features[n, c : c + 32]
    for ...:
        value = load_present(features, other, background, sample, c)
        wins = beats(value, best)                                # 32 truth values
        best = select(wins, value, best)                         # stays in registers
    store(out, m, c, best)

Of a loop over rows that updates an array for each, LLVM makes one that loads and stores the array each
time; a vector that is a value of its own is held in registers until it is stored.  32 floats are two
AVX-512 registers, four of AVX, eight of SSE or NEON: LLVM splits them.

Arrays are C-contiguous and 2-D; rows and columns are not checked, as nothing is in Numba.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

WIDTH = 32
_INDEX = types.int64
_LINE = 64  # bytes of a cache line
_READ_KEEP_DATA = (0, 3, 1)  # what LLVM's prefetch is told


class Lanes(types.Type):
    """Numba's type of a vector; truth values are `types.boolean`."""

    def __init__(self, element: types.Type):
        self.element = element
        super().__init__(name=f"Lanes({element})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, lanes):
        element = ir.IntType(1) if lanes.element == types.boolean else manager[lanes.element].get_value_type()
        super().__init__(manager, lanes, ir.VectorType(element, WIDTH))


@intrinsic
def load_present(typing, array, row, other, other_row, column):
    """array[row, column : column + 32], or of other[other_row] where row is negative."""

    def generate(context, builder, signature, args):
        array, row, other, other_row, column = args
        absent = builder.icmp_signed("<", row, ir.Constant(row.type, 0))
        at = builder.select(absent, _address(context, builder, signature.args[2], other, other_row, column),
                            _address(context, builder, signature.args[0], array, row, column))
        lanes = context.get_value_type(signature.return_type)
        return builder.load(builder.bitcast(at, lanes.as_pointer()), align=signature.return_type.element.bitwidth // 8)

    return Lanes(array.dtype)(array, _INDEX, other, _INDEX, _INDEX), generate


@intrinsic
def prefetch(typing, array, row, column):
    """Ask for array[row, column : column + 32] to come into the cache, and go on."""

    def generate(context, builder, signature, args):
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        start = builder.bitcast(_address(context, builder, array, *args), byte)
        for offset in range(0, WIDTH * array.dtype.bitwidth // 8, _LINE):
            line = builder.gep(start, [ir.Constant(number, offset)])
            builder.call(function, [line, *(ir.Constant(number, flag) for flag in _READ_KEEP_DATA)])
        return context.get_dummy_value()

    return types.void(array, _INDEX, _INDEX), generate


@intrinsic
def store(typing, array, row, column, lanes):
    """array[row, column : column + 32] = lanes; integers may be wider than the array's and are cut."""

    def generate(context, builder, signature, args):
        target = ir.VectorType(context.get_value_type(array.dtype), WIDTH)
        value = args[3] if args[3].type == target else builder.trunc(args[3], target)
        at = _address(context, builder, array, *args[:3])
        builder.store(value, builder.bitcast(at, target.as_pointer()), align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, _INDEX, _INDEX, lanes), generate


@intrinsic
def splat(typing, number):
    """The number, 32 times."""

    def generate(context, builder, signature, args):
        lanes = context.get_value_type(signature.return_type)
        first = builder.insert_element(ir.Constant(lanes, ir.Undefined), args[0], ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), None)
        return builder.shuffle_vector(first, ir.Constant(lanes, ir.Undefined), zeros)

    number = types.unliteral(number)
    return Lanes(number)(number), generate


@intrinsic
def beats(typing, value, best):
    """Where value > best, or value is NaN."""

    def generate(context, builder, signature, args):
        value, best = args
        return builder.or_(builder.fcmp_ordered(">", value, best), builder.fcmp_unordered("uno", value, value))

    return Lanes(types.boolean)(value, best), generate


@intrinsic
def select(typing, chosen, yes, no):
    """`yes` where chosen, `no` elsewhere."""
    return yes(chosen, yes, no), lambda context, builder, signature, args: builder.select(*args)


@intrinsic
def first_bit(typing, bits):
    """The position of the lowest bit that is 1; 64 if none is."""
    zero_has_none = ir.Constant(ir.IntType(1), 0)
    return _INDEX(_INDEX), lambda context, builder, signature, args: builder.cttz(args[0], zero_has_none)


def _address(context, builder, array_type, array, row, column):
    """Where array[row, column] lies."""
    view = context.make_array(array_type)(context, builder, array)
    columns = cgutils.unpack_tuple(builder, view.shape)[1]
    return builder.gep(view.data, [builder.add(builder.mul(row, columns), column)])
