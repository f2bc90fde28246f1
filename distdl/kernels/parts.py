"""How helpers are compiled: as parts of the kernels that call them, up to LLVM code and no further.

Numba would optimize each function and everything that it calls, make machine code of it, and then do the same for the
function that calls it. Nobody calls a helper but kernels: only what ends in a kernel is optimized, once, there. (The
compiler's pipelines are made to be changed: see "Customizing the Compiler" in Numba's developer manual.)
"""

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


class _Part(JITCodeLibrary):
    """LLVM code of a helper and what it calls, to be linked into that of its callers."""

    def finalize(self) -> None:
        """Take in what this calls, as it is."""
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)  # type: ignore[no-untyped-call]
class _PartLowering(NativeLowering):
    """Makes LLVM code, and no function that could be called from Python.

    So helpers cannot raise errors with values in them, nor use object mode: both need such a function.
    """

    _name = "part_lowering"

    def run_pass(self, state: Any) -> bool:
        state.library = _Part(state.targetctx.codegen(), state.func_id.func_qualname)  # type: ignore[no-untyped-call]
        state.flags.no_compile = True
        try:
            super().run_pass(state)  # type: ignore[no-untyped-call]
        finally:
            # Numba looks helpers up by their flags.
            state.flags.no_compile = False
        # Callers find the code by the function, which Numba asks to be built-in: any will do.
        part = list[object]().append
        state.targetctx.insert_user_function(part, state.cr.fndesc, [state.library])
        state.cr = state.cr._replace(cfunc=part)
        return True


class PartCompiler(CompilerBase):
    """Numba's compiler, with that pass in the place of its own lowering."""

    def define_pipelines(self) -> list[Any]:
        pipeline: Any = DefaultPassBuilder.define_nopython_pipeline(self.state)  # type: ignore[no-untyped-call]
        for i, (found, description) in enumerate(pipeline.passes):
            if found is NativeLowering:
                pipeline.passes[i] = (_PartLowering, description)
        pipeline.finalize()
        return [pipeline]
