"""Programs that somebody waits for."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
from jax.extend.core import get_opaque_trace_state

P = ParamSpec("P")
R = TypeVar("R")

QUICK: dict[str, Any] = {
    "xla_backend_optimization_level": 1,
    "xla_cpu_use_fusion_emitters": False,
    "xla_llvm_disable_expensive_passes": True,
}
"""XLA's options: less than half the time to compile hundreds of small loops on a CPU, which then
run as fast; the long loops of a large network take up to a quarter more."""


def entry_point(f: Callable[P, R]) -> Callable[P, R]:
    """`f` as under `equinox.filter_jit`; by itself, on a CPU, it compiles in half the time.

    Under `jit`, `vmap` or a derivative it is part of another program, with the usual options.
    """
    usual = eqx.filter_jit(f)
    quick = eqx.filter_jit(f, compiler_options=QUICK)  # type: ignore[call-overload]

    @functools.wraps(f)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        program = quick if _is_alone() and _has_quick_options() else usual
        return program(*args, **kwargs)

    return call


def _is_alone() -> bool:
    """Whether nothing is being traced."""
    return get_opaque_trace_state() == _untraced()


@functools.cache
def _untraced() -> Any:
    """The state of a thread of its own, since this one may be tracing."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(get_opaque_trace_state).result()


@functools.cache
def _has_quick_options() -> bool:
    """Options come and go with versions of XLA."""
    if jax.default_backend() != "cpu":
        return False
    try:
        jax.jit(lambda: 0, compiler_options=QUICK)()
    except Exception:  # whatever a future version raises
        return False
    return True
