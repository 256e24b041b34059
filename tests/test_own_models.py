"""Models of JAX's own frameworks are decoders and potentials as they are."""

import itertools
import sys
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxgeo as jg
from jaxgeo.interop import bridge as bridging
from jaxgeo.likelihoods import Bernoulli

A, B = jnp.array([0.2, -0.3]), jnp.array([0.5, 0.1])
WIDTHS = (2, 8, 4)
SOLVER = jg.FixedPoint(64)


def by_hand(weights, z):
    (w1, b1), (w2, b2) = weights
    return jnp.tanh(z @ w1 + b1) @ w2 + b2


class Linen(linen.Module):
    @linen.compact
    def __call__(self, z):
        hidden, out = (linen.Dense(width, param_dtype=jnp.float64) for width in WIDTHS[1:])
        return out(jnp.tanh(hidden(z)))


LINEN = Linen()
"""One module for all variables: JAX takes the `apply` of another for another function."""


def of_linen(key):
    variables = LINEN.init(key, A)
    layers = (variables["params"][f"Dense_{k}"] for k in range(2))
    weights = [(layer["kernel"], layer["bias"]) for layer in layers]
    return jax.tree_util.Partial(LINEN.apply, variables), weights


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(*WIDTHS[:2], param_dtype=jnp.float64, rngs=rngs)
        self.second = nnx.Linear(*WIDTHS[1:], param_dtype=jnp.float64, rngs=rngs)

    def __call__(self, z):
        return self.second(jnp.tanh(self.first(z)))


def of_nnx(key):
    module = Nnx(nnx.Rngs(key))
    layers = module.first, module.second
    return module, [(layer.kernel[...], layer.bias[...]) for layer in layers]


def of_equinox(key):
    module = eqx.nn.MLP(WIDTHS[0], WIDTHS[2], WIDTHS[1], 1, jnp.tanh, key=key, dtype=jnp.float64)
    return module, [(layer.weight.T, layer.bias) for layer in module.layers]


def apply(params, rng, z):
    """As a function that `haiku.transform` makes: parameters by module, and a key."""
    assert rng is None
    weights = [
        (params[f"mlp/~/linear_{k}"]["w"], params[f"mlp/~/linear_{k}"]["b"]) for k in (0, 1)
    ]
    return by_hand(weights, z)


def of_haiku(key):
    keys = jax.random.split(key, 2)
    params = {
        f"mlp/~/linear_{k}": {
            "w": jax.random.normal(keys[k], (n, m)) / n**0.5,
            "b": jnp.ones(m) / 4,
        }
        for k, (n, m) in enumerate(itertools.pairwise(WIDTHS))
    }
    decoder = jax.tree_util.Partial(apply, params, None)
    return decoder, [(layer["w"], layer["b"]) for layer in params.values()]


class Softplus(eqx.Module):
    """A potential of what a model returns, convex where that bends little."""

    model: Callable

    def __call__(self, z):
        return jnp.sum(jax.nn.softplus(self.model(z))) + 2 * jnp.sum(z**2)


METRICS = {
    "pullback": jg.PullbackMetric,
    "Fisher pullback": lambda decoder: jg.FisherPullbackMetric(decoder, Bernoulli()),
    "Hessian": lambda model: jg.HessianMetric(Softplus(model)),
}


@eqx.filter_jit
def value(metric, z):
    return metric(z)


@pytest.mark.parametrize("make", [of_linen, of_nnx, of_equinox, of_haiku])
def test_models_have_metrics_and_geodesics_and_do_not_retrace(make):
    model, weights = make(jax.random.key(0))
    other, others = make(jax.random.key(1))
    for name, metric_of in METRICS.items():
        np.testing.assert_allclose(
            value(metric_of(model), A),
            metric_of(lambda z: by_hand(weights, z))(A),
            rtol=1e-12,
            err_msg=name,
        )
        changed = metric_of(other)
        with jax.no_tracing():
            moved = value(changed, A)
        expected = metric_of(lambda z: by_hand(others, z))(A)
        np.testing.assert_allclose(moved, expected, rtol=1e-12, err_msg=name)

    metrics = [jg.PullbackMetric(f) for f in (model, jax.tree_util.Partial(by_hand, weights))]
    ours, written = (jg.geodesic_bvp(metric, A, B, solver=SOLVER) for metric in metrics)
    assert bool(ours.result == jg.RESULTS.successful)
    np.testing.assert_allclose(ours.points, written.points, atol=1e-9)
    changed = jg.PullbackMetric(other)
    with jax.no_tracing():
        moved = jg.geodesic_bvp(changed, A, B, solver=SOLVER).points
    assert not np.allclose(moved, ours.points, atol=1e-5)


def test_torch_is_asked_for_where_it_is_missing(monkeypatch):
    bridging.bridge.cache_clear()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError) as raised:
        jg.interop.from_torch(None, A)
    assert str(raised.value) == (
        'PyTorch modules need torch and torchax: pip install "jaxgeo[torch]".'
    )
