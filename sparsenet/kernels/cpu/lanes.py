"""Several numbers side by side as one value of a Numba function, for loops that LLVM does not vectorize.

LLVM may not change the order of a sum of floats; and if a row is updated again and again, LLVM loads and stores it
each time.  `Lanes` are an LLVM vector of a fixed width, split into the processor's registers: 16
float32 are one register of AVX-512, two of AVX, four of SSE or NEON.  The order of operations is part of the
program, so that the bits are the same on all of them.

    best = load(x, (row, c), 32)                                      # x[row, c : c + 32]
    for other in rows:
        value = load(x, (other, c), 32)
        best = select(value > best, value, best)                      # stays in registers
    store(out, (row, c), best)

index : a number if the array has one axis, else a tuple.  Arrays are C-contiguous; nothing checks indices.
width : a constant.  All lanes of one operation have the same.
Operators are + - * / of floats, and the comparisons < != of floats and > of floats and signed integers.  A number of
    the lanes' type may take the place of lanes in operators, `fma`, `maximum` and `select`: each lane has it then.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

_INT = ir.IntType(32)
_LINE = 64  # bytes of a cache line


class Lanes(types.Type):
    """The type, to Numba, of `width` numbers of the type `element`; truth values have types.boolean."""

    def __init__(self, element: types.Type, width: int) -> None:
        self.element, self.width = element, width
        super().__init__(name=f"Lanes({element}, {width})")


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes):
        element = ir.IntType(1) if kind.element == types.boolean else manager[kind.element].get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, kind.width))


@intrinsic(prefer_literal=True)
def load(typing, array, index, width):
    """array[index : index + width]"""
    kind = Lanes(array.dtype, constant(width))

    def generate(context, builder, signature, arguments):
        return _read(context, builder, kind, _pointer(context, builder, signature, arguments))

    return kind(array, _index(array, index), width), generate


@intrinsic(prefer_literal=True)
def load_either(typing, first, array, index, other, other_index, width):
    """array[index : index + width] if `first`, else other[other_index : other_index + width], without a branch"""
    kind = Lanes(array.dtype, constant(width))

    def generate(context, builder, signature, arguments):
        at, other_at = (_pointer(context, builder, signature, arguments, place) for place in (1, 3))
        return _read(context, builder, kind, builder.select(arguments[0], at, other_at))

    return kind(types.boolean, array, _index(array, index), other, _index(other, other_index), width), generate


@intrinsic(prefer_literal=True)
def load_some(typing, array, index, count, rest, width):
    """array[index : index + count], and `rest` in the other lanes; all lanes if count is larger"""
    kind = Lanes(array.dtype, constant(width))

    def generate(context, builder, signature, arguments):
        return _call(builder, f"llvm.masked.load.{_name(kind)}.p0", context.get_value_type(kind),
                     _pointer(context, builder, signature, arguments), _INT(_align(kind)),
                     _first(builder, arguments[2], kind.width), _repeat(builder, arguments[3], kind.width))

    return kind(array, _index(array, index), types.intp, array.dtype, width), generate


@intrinsic
def store(typing, array, index, lanes):
    """array[index : index + width] = lanes; integers may be wider than the array's and are cut"""
    kind = Lanes(array.dtype, lanes.width)

    def generate(context, builder, signature, arguments):
        target = context.get_value_type(kind)
        value = arguments[2] if arguments[2].type == target else builder.trunc(arguments[2], target)
        at = builder.bitcast(_pointer(context, builder, signature, arguments), target.as_pointer())
        builder.store(value, at, align=_align(kind))
        return context.get_dummy_value()

    return types.void(array, _index(array, index), lanes), generate


@intrinsic
def store_some(typing, array, index, count, lanes):
    """array[index : index + count] = the first `count` lanes; all lanes if count is larger"""

    def generate(context, builder, signature, arguments):
        _call(builder, f"llvm.masked.store.{_name(lanes)}.p0", ir.VoidType(), arguments[3],
              _pointer(context, builder, signature, arguments), _INT(_align(lanes)),
              _first(builder, arguments[2], lanes.width))
        return context.get_dummy_value()

    return types.void(array, _index(array, index), types.intp, Lanes(array.dtype, lanes.width)), generate


@intrinsic(prefer_literal=True)
def prefetch(typing, array, index, width):
    """Start loading array[index : index + width] into the cache; it may lie beyond the array's end."""
    size = constant(width) * array.dtype.bitwidth // 8

    def generate(context, builder, signature, arguments):
        start = builder.bitcast(_pointer(context, builder, signature, arguments), ir.IntType(8).as_pointer())
        for offset in range(0, size, _LINE):
            _call(builder, "llvm.prefetch.p0", ir.VoidType(), builder.gep(start, [_INT(offset)]), _INT(0), _INT(3),
                  _INT(1))
        return context.get_dummy_value()

    return types.void(array, _index(array, index), width), generate


@intrinsic
def touch(typing, array, index):
    """Read array[index], float32 or float64, for nothing but to have its line in the cache"""

    def generate(context, builder, signature, arguments):
        at = _pointer(context, builder, signature, arguments)
        size = array.dtype.bitwidth
        whole = builder.bitcast(at, ir.IntType(size).as_pointer())
        builder.load_atomic(whole, "monotonic", size // 8)  # LLVM drops a plain load that nothing uses
        return context.get_dummy_value()

    return types.void(array, _index(array, index)), generate


@intrinsic(prefer_literal=True)
def spread(typing, number, width):
    """The same number in each lane"""
    kind = Lanes(types.unliteral(number), constant(width))

    def generate(context, builder, signature, arguments):
        return _repeat(builder, arguments[0], kind.width)

    return kind(kind.element, width), generate


@intrinsic
def doubles(typing, lanes):
    """The floats as float64"""
    wide = Lanes(types.float64, lanes.width)

    def generate(context, builder, signature, arguments):
        return arguments[0] if lanes == wide else builder.fpext(arguments[0], context.get_value_type(wide))

    return wide(lanes), generate


@intrinsic
def rounded(typing, lanes, array):
    """The floats, float64, as the type of the array's elements"""
    kind = Lanes(array.dtype, lanes.width)

    def generate(context, builder, signature, arguments):
        return arguments[0] if lanes == kind else builder.fptrunc(arguments[0], context.get_value_type(kind))

    return kind(lanes, array), generate


@intrinsic
def fma(typing, a, b, c):
    """a * b + c, rounded once; slow on processors without the instruction (x86 before 2013)"""
    kind = _common(a, b, c)

    def generate(context, builder, signature, arguments):
        return _call(builder, f"llvm.fma.{_name(kind)}", context.get_value_type(kind),
                     *_wide(builder, signature, arguments))

    return kind(a, b, c), generate


@intrinsic
def select(typing, chosen, yes, no):
    """`yes` where chosen, `no` elsewhere"""
    kind = _common(yes, no)

    def generate(context, builder, signature, arguments):
        return builder.select(*_wide(builder, signature, arguments))

    return kind(Lanes(types.boolean, kind.width), yes, no), generate


@intrinsic
def absolute(typing, lanes):
    """The floats without their signs"""

    def generate(context, builder, signature, arguments):
        return _call(builder, f"llvm.fabs.{_name(lanes)}", context.get_value_type(lanes), arguments[0])

    return lanes(lanes), generate


@intrinsic
def root(typing, lanes):
    """The square roots of the floats; NaN of negative ones"""

    def generate(context, builder, signature, arguments):
        return _call(builder, f"llvm.sqrt.{_name(lanes)}", context.get_value_type(lanes), arguments[0])

    return lanes(lanes), generate


def larger(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@intrinsic
def maximum(typing, a, b):
    """The larger of the floats in each lane; b's if one is NaN"""
    kind = _common(a, b)

    def generate(context, builder, signature, arguments):
        return larger(builder, *_wide(builder, signature, arguments))

    return kind(a, b), generate


def _greater(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    whole = isinstance(a.type.element, ir.IntType)
    return builder.icmp_signed(">", a, b) if whole else builder.fcmp_ordered(">", a, b)


def _is_signed(element: types.Type) -> bool:
    return isinstance(element, types.Float) or (isinstance(element, types.Integer) and element.signed)


def _operator(symbol: Callable, emit: Callable, takes: Callable = lambda element: isinstance(element, types.Float),
              compares: bool = False) -> None:
    """`symbol` between lanes of elements that it takes, and between them and a number."""

    @type_callable(symbol)
    def typed(context):
        def typer(a, b):
            kind = _common(a, b) if isinstance(a, Lanes) or isinstance(b, Lanes) else None
            if kind is None or not takes(kind.element):
                return None
            return Lanes(types.boolean, kind.width) if compares else kind

        return typer

    def generate(context, builder, signature, arguments):
        return emit(builder, *_wide(builder, signature, arguments))

    for kinds in ((Lanes, Lanes), (Lanes, types.Number), (types.Number, Lanes)):
        lower_builtin(symbol, *kinds)(generate)


_operator(operator.add, ir.IRBuilder.fadd)
_operator(operator.sub, ir.IRBuilder.fsub)
_operator(operator.mul, ir.IRBuilder.fmul)
_operator(operator.truediv, ir.IRBuilder.fdiv)
_operator(operator.lt, lambda builder, a, b: builder.fcmp_ordered("<", a, b), compares=True)
_operator(operator.gt, _greater, _is_signed, compares=True)
_operator(operator.ne, lambda builder, a, b: builder.fcmp_unordered("!=", a, b), compares=True)


def constant(number: types.Type, name: str = "width") -> int:
    """The number, within an intrinsic that prefers literals."""
    if not isinstance(number, types.IntegerLiteral):
        raise TypingError(f"lanes: {name} is {number}, expected a constant: write it out, or name it in the module")
    return number.literal_value


def _index(array: types.Array, index: types.Type) -> types.Type:
    if array.layout != "C":
        raise TypingError(f"lanes: array is {array}, expected C-contiguous: copy it")
    return types.UniTuple(types.intp, array.ndim) if isinstance(index, types.BaseTuple) else types.intp


def _pointer(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any, place: int = 0) -> ir.Value:
    """The address of element arguments[place + 1] of arguments[place]."""
    (array, index), (data, at) = signature.args[place : place + 2], arguments[place : place + 2]
    at = cgutils.unpack_tuple(builder, at) if isinstance(index, types.BaseTuple) else [at]
    return cgutils.get_item_pointer(context, builder, array, context.make_array(array)(context, builder, data), at)


def _read(context: Any, builder: ir.IRBuilder, kind: Lanes, pointer: ir.Value) -> ir.Value:
    return builder.load(builder.bitcast(pointer, context.get_value_type(kind).as_pointer()), align=_align(kind))


def _align(kind: Lanes) -> int:
    return kind.element.bitwidth // 8


def _name(kind: Lanes) -> str:
    """LLVM's name of the type within the name of a function."""
    return f"v{kind.width}{'f' if isinstance(kind.element, types.Float) else 'i'}{kind.element.bitwidth}"


def _common(*kinds: types.Type) -> Lanes:
    """The one type of lanes among them; the others must be numbers of its element type."""
    for lanes in kinds:
        if isinstance(lanes, Lanes) and all(types.unliteral(kind) in (lanes, lanes.element) for kind in kinds):
            return lanes
    raise TypingError(f"lanes: together are {', '.join(map(str, kinds))}, expected one type: convert the numbers")


def _wide(builder: ir.IRBuilder, signature: Any, arguments: Any) -> list[ir.Value]:
    """The arguments, with numbers spread to all lanes."""
    return [argument if isinstance(kind, Lanes) else _repeat(builder, argument, signature.return_type.width)
            for kind, argument in zip(signature.args, arguments, strict=True)]


def _repeat(builder: ir.IRBuilder, number: ir.Value, width: int) -> ir.Value:
    one = builder.insert_element(ir.VectorType(number.type, width)(ir.Undefined), number, _INT(0))
    return builder.shuffle_vector(one, one, ir.VectorType(_INT, width)([0] * width))


def _first(builder: ir.IRBuilder, count: ir.Value, width: int) -> ir.Value:
    """A mask of the first `count` lanes."""
    numbers = ir.VectorType(count.type, width)(list(range(width)))
    return builder.icmp_signed("<", numbers, _repeat(builder, count, width))


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)
