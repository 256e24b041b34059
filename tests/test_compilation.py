"""Entry points compile quickly by themselves, and as usual within other programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgeo as jg
from jaxgeo import _compilation
from jaxgeo._compilation import QUICK, entry_point
from jaxgeo.problems import half_plane_metric

LARGEST_GRAPH = 2600
"""Equations of a boundary value problem; each takes about two milliseconds to compile."""


@entry_point
def cube(x):
    return x**3


X = jnp.array([1.0, 2.0])

WITHIN = {
    "jit": lambda: jax.jit(cube)(X),
    "jit of a constant": lambda: jax.jit(lambda: cube(X))(),
    "vmap": lambda: jax.vmap(cube)(X),
    "jvp": lambda: jax.jvp(cube, (X,), (X,))[0],
    "gradient": lambda: jax.vjp(cube, X)[0],
    "hessian": lambda: jax.vmap(jax.hessian(cube))(X) * X**2 / 6,
    "scan": lambda: jax.lax.map(cube, X),
    "gradient of another": lambda: jax.vjp(lambda y: y * cube(X), jnp.ones(2))[0],
    "loop in a jit": lambda: jax.jit(lambda x: jax.lax.map(cube, x))(X),
}


@pytest.mark.parametrize("program", WITHIN.values(), ids=WITHIN.keys())
def test_entry_points_compose(program):
    np.testing.assert_allclose(program(), X**3, rtol=1e-14)


def test_what_is_alone_is_known():
    seen = []
    assert _compilation._is_alone()
    look = lambda x: seen.append(_compilation._is_alone()) or x  # noqa: E731
    jax.jit(look)(1.0), jax.vmap(look)(X), jax.grad(look)(1.0), jax.lax.map(look, X)
    assert seen == [False] * len(seen)
    assert len(seen) >= 4


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the options are those of a CPU")
def test_the_options_are_used_alone_only(monkeypatch):
    options = []
    monkeypatch.setattr(
        _compilation.eqx,
        "filter_jit",
        lambda f, **kwargs: lambda x: options.append(kwargs.get("compiler_options")) or x,
    )
    identity = entry_point(lambda x: x)
    identity(1.0)
    jax.vmap(identity)(X)
    assert options == [QUICK, None]


def test_an_option_that_a_version_lacks_is_done_without(monkeypatch):
    monkeypatch.setattr(_compilation, "QUICK", {"xla_no_such_option": True})
    _compilation._has_quick_options.cache_clear()
    try:
        assert not _compilation._has_quick_options()
        np.testing.assert_allclose(cube(X), X**3, rtol=1e-14)
    finally:
        _compilation._has_quick_options.cache_clear()


def test_graphs_stay_small():
    ends = jnp.array([0.0, 1.0]), jnp.array([1.0, 1.0])
    solve = jax.make_jaxpr(lambda a, b: jg.geodesic_bvp(half_plane_metric, a, b, throw=False))
    assert equations(solve(*ends).jaxpr) < LARGEST_GRAPH


def equations(jaxpr):
    inner = (
        getattr(leaf, "jaxpr", leaf)
        for equation in jaxpr.eqns
        for leaf in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        )
    )
    return len(jaxpr.eqns) + sum(equations(j) for j in inner if hasattr(j, "eqns"))
