"""Handing a kernel's call to a thread that waits in compiled code, and never takes the interpreter's lock for it.

A box is memory that two threads share. Who gives writes a kernel's address, its arguments, and the address of a
function that calls the one with the other, and raises the number of calls that were given. The thread that waits makes
the call, and raises the number of those done. Each side's number has a cache line of its own.

That function knows where the arguments lie. So there is one for each combination of types, which is compiled with
`_give`; kernels whose arguments have the same types share it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import typeof
from numba.core import types
from numba.core.errors import NumbaError

from .registry import raw_kernel
from .simd import data_of, intrinsic
from .spin import look, pause, sched_yield, tell

GIVEN, DONE, FAILED = 0, 8, 16
"""Words of a box: how many calls were given and done, and whether one has failed."""

_FIRST, _CALL, _WORDS = 24, 256, 2
"""Where calls begin, and what each takes: caller, kernel, and behind these two words its arguments."""

CALLS = 4
"""A box holds so many that are not done."""

_MOST_KERNELS = 256

_WORD = ir.IntType(64)


def new_box() -> np.ndarray:
    """Return an empty box."""
    return np.zeros(_FIRST + CALLS * _CALL, np.int64)


@intrinsic
def _put(typing: Any, box: Any, place: Any, number: Any, address: Any, arguments: Any) -> Any:
    """Put a call at a place of the box, unless the kernel's address is unknown; say whether it was.

    The address of the kernel of that `number` is kept once it was given: 0 stands for the one that is kept.
    """
    kinds = list(arguments)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, place, number, address, packed = args
        values = ir.LiteralStructType([context.get_value_type(kind) for kind in kinds])
        for kind in kinds:
            if not isinstance(kind, types.Array) and context.data_model_manager[kind].contains_nrt_meminfo():
                raise NumbaError(f"an argument of type {kind} owns memory, and cannot be handed over")
        if context.get_abi_sizeof(values) > 8 * (_CALL - _WORDS):
            raise NumbaError(f"{len(kinds)} arguments do not fit into a box")
        known = builder.gep(_table(builder.module), [ir.Constant(_WORD, 0), number])
        with builder.if_then(_is_set(builder, address)):
            builder.store(address, known)
        kernel = builder.load(known)
        is_known = _is_set(builder, kernel)
        with builder.if_then(is_known):
            words = builder.gep(_words(context, builder, signature.args[0], array), [place])
            caller = _caller(context, builder.module, kinds, values)
            builder.store(builder.ptrtoint(caller, _WORD), words)
            builder.store(kernel, _word(builder, words, 1))
            room = _room(builder, words, values)
            for i, kind in enumerate(kinds):
                value = _borrowed(context, builder, kind, builder.extract_value(packed, i))
                builder.store(value, builder.gep(room, [ir.Constant(ir.IntType(32), j) for j in (0, i)]))
        return is_known

    return types.boolean(box, types.intp, types.int64, types.int64, arguments), generate


def _table(module: Any) -> Any:
    kind = ir.ArrayType(_WORD, _MOST_KERNELS)
    table = ir.GlobalVariable(module, kind, module.get_unique_name("distdl_kernels"))
    table.linkage, table.initializer = "internal", ir.Constant(kind, None)
    return table


def _caller(context: Any, module: Any, kinds: list[Any], values: Any) -> Any:
    """Write the function that calls the kernel of a call with its arguments, and says whether that failed."""
    function = ir.Function(module, _CALLER, module.get_unique_name("distdl_caller"))
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    words = function.args[0]
    kernel_type = context.call_conv.get_function_type(types.none, kinds)
    kernel = builder.inttoptr(builder.load(_word(builder, words, 1)), kernel_type.as_pointer())
    packed = builder.load(_room(builder, words, values))
    arguments = [builder.extract_value(packed, i) for i in range(len(kinds))]
    status, _ = context.call_conv.call_function(builder, kernel, types.none, kinds, arguments)
    builder.ret(builder.zext(status.is_error, _WORD))
    return function


_CALLER = ir.FunctionType(_WORD, [_WORD.as_pointer()])


@intrinsic
def _call(typing: Any, box: Any, place: Any) -> Any:
    """Make the call at a place of the box; return 1 if it failed, else 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = builder.gep(_words(context, builder, signature.args[0], args[0]), [args[1]])
        return builder.call(builder.inttoptr(builder.load(words), _CALLER.as_pointer()), [words])

    return types.int64(box, types.intp), generate


def _borrowed(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Return an argument that owns nothing: Numba's hold on an array ends with `_give`, the giver's does not."""
    if isinstance(kind, types.Array):
        for name in ("meminfo", "parent"):
            i = context.data_model_manager[kind].get_field_position(name)
            value = builder.insert_value(value, ir.Constant(value.type.elements[i], None), i)
    return value


def _words(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return builder.bitcast(data_of(context, builder, kind, array), _WORD.as_pointer())


def _word(builder: Any, words: Any, i: int) -> Any:
    return builder.gep(words, [ir.Constant(_WORD, i)])


def _room(builder: Any, words: Any, values: Any) -> Any:
    return builder.bitcast(_word(builder, words, _WORDS), values.as_pointer())


def _is_set(builder: Any, word: Any) -> Any:
    return builder.icmp_unsigned("!=", word, ir.Constant(_WORD, 0))


@raw_kernel
def _give(box, number, address, *arguments):  # type: ignore[no-untyped-def]
    given = box[GIVEN]
    if not _put(box, _FIRST + given % CALLS * _CALL, number, address, arguments):
        return False
    tell(box, GIVEN, given + 1)
    return True


@raw_kernel
def serve(box, looks):  # type: ignore[no-untyped-def]
    """Make the calls that are given, until `looks` looks in a row have found none."""
    left, done = looks, box[DONE]
    while left > 0:
        if look(box, GIVEN) == done:
            pause()
            left -= 1
            continue
        failed = _call(box, _FIRST + done % CALLS * _CALL)
        if failed != 0:
            box[FAILED] = failed
        done += 1
        tell(box, DONE, done)
        left = looks


@raw_kernel
def is_done(box, looks, turns):  # type: ignore[no-untyped-def]
    """Say whether all calls are done, after `turns` times `looks` looks at most; between turns others get the core."""
    given = box[GIVEN]
    for _ in range(turns):
        for _ in range(looks):
            if look(box, DONE) == given:
                return True
            pause()
        sched_yield()
    return False


def is_empty(box: np.ndarray) -> bool:
    """Say whether all calls that were given are done."""
    return bool(box[GIVEN] == box[DONE])


_numbers: dict[Any, int] = {}


def give(box: np.ndarray, kernel: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Have a kernel called with these arguments, which must stay until that is done; fewer than `CALLS` may be left."""
    number = _numbers.setdefault(kernel, len(_numbers))
    if number >= _MOST_KERNELS:
        raise IndexError(f"more than {_MOST_KERNELS} kernels were handed over")
    if not _give(box, number, 0, *arguments):
        _give(box, number, _address(kernel, arguments), *arguments)


def _address(kernel: Any, arguments: tuple[Any, ...]) -> int:
    """Return where the kernel's code for these arguments lies, which is compiled if it is not yet."""
    kinds = tuple(map(typeof, arguments))
    kernel.compile(kinds)
    code = kernel.overloads[kinds]
    if code.signature.return_type != types.none:
        raise TypeError(f"{kernel} returns something, which nobody could receive")
    return int(code.library.get_pointer_to_function(code.fndesc.llvm_func_name))
