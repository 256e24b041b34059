"""What training minimises is what is written down; draws, precisions and held-out rows too."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_models as tm

from jaxgeo import models
from jaxgeo.likelihoods import Gaussian
from jaxgeo.models import objectives
from jaxgeo.models.precision import RadialDecoder

KEY = jax.random.key(0)
ROWS = jnp.asarray(np.random.default_rng(4).normal(size=(6, tm.M)))


def test_objectives_are_their_formulas():
    vae = tm.linear_vae(tm.CENTRE + 2, np.sqrt(np.diag(tm.SHARP)))
    terms = objectives._terms(vae, ROWS, KEY)
    fit, kl = terms.log_likelihood.mean(), terms.divergence.mean()
    np.testing.assert_allclose(
        objectives.negative_elbo(vae, ROWS, objectives.Evidence(3.0), KEY), 3 * kl - fit
    )
    first, second = jax.random.split(KEY)
    terms = objectives._terms(vae, ROWS, first)
    fit, kl = terms.log_likelihood.mean(), terms.divergence.mean()
    gap = objectives.mean_discrepancy(terms.z, jax.random.normal(second, terms.z.shape), 1.0)
    assert gap > 0.5
    for a, w in ((0.0, 1.0), (1.0, 0.0), (0.5, 10.0)):
        loss = objectives.discrepancy_loss(vae, ROWS, objectives.MaximumMeanDiscrepancy(a, w), KEY)
        np.testing.assert_allclose(loss, (1 - a) * kl - fit + (w + a - 1) * gap)


def test_the_critic_s_bound_is_that_of_the_pairs_apart():
    vae = tm.linear_vae(tm.CENTRE, np.sqrt(np.diag(tm.SHARP)))
    model = objectives.Criticised(vae, 3 + 5 * ROWS, 8, key=KEY)
    terms = objectives._terms(vae, ROWS, KEY)
    n = len(ROWS)
    joint = np.mean([model.score(ROWS[k], terms.z[k]) for k in range(n)])
    apart = np.mean([np.exp(model.score(ROWS[k], terms.z[k - 1]) - 1) for k in range(n)])
    expected = 3 * terms.divergence.mean() - terms.log_likelihood.mean() - 2 * (joint - apart)
    loss = objectives.information_loss(
        model, ROWS, objectives.MutualInformation(alpha=2.0, beta=3.0), KEY
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_a_plain_autoencoder_leaves_the_deviations_untrained():
    vae = models.dense_vae((8, 8), 2, key=KEY, widths=(16,), spread=0.3)
    fitted = models.fit(
        vae,
        tm.rings(100),
        key=KEY,
        objective=models.Reconstruction(),
        steps=20,
        every=10,
        progress=False,
    )
    before, after = (m.encoder.dense.layers[-1].bias[...] for m in (vae, fitted.model))
    assert np.abs(after[:2] - before[:2]).min() > 0
    np.testing.assert_array_equal(after[2:], before[2:])


def test_a_radial_precision_is_its_sum():
    p = models.RadialPrecision(
        np.array([[0.0, 0.0], [1.0, 0.0]]),
        np.array([0.5, 2.0]),
        0.1,
        np.log([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
    )
    v = np.exp([-0.25 / 0.5, -0.25 / 8.0])
    expected = v @ [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]] + 0.1
    z = jnp.array([0.5, 0.0])
    np.testing.assert_allclose(p(z), expected)
    vae = tm.linear_vae(tm.CENTRE, np.ones(2))
    deviation = Gaussian().deviation(RadialDecoder(vae, p)(z))
    np.testing.assert_allclose(deviation, expected**-0.5)


def test_encoded_draws_are_of_the_posterior():
    vae = tm.linear_vae(tm.CENTRE, np.array([0.1, 3.0]))
    found = models.encode_samples(vae, jnp.tile(tm.X, (4000, 1)), key=KEY, batch_size=512)
    white = (found.z - found.mean) / jnp.exp(found.log_deviation)
    np.testing.assert_allclose(np.cov(white.T), np.eye(2), atol=0.08)


def test_what_is_held_out_is_not_trained_on(monkeypatch):
    module, seen = sys.modules["jaxgeo.models.fit"], {}

    def stop(loss, model, data, held_out, **_):
        seen.update(data=set(data[:, 0].tolist()), held=set(held_out[:, 0].tolist()))
        raise InterruptedError

    monkeypatch.setattr(module, "minimize", stop)
    vae = models.dense_vae((1,), 1, key=KEY, widths=(4,))
    with pytest.raises(InterruptedError):
        models.fit(vae, np.arange(50.0)[:, None], key=KEY)
    assert len(seen["held"]) == 5
    assert not seen["held"] & seen["data"]
    assert seen["held"] | seen["data"] == set(range(50))


def test_draws_without_a_weight_are_left_out():
    class Stub(models.HVAE):
        def __init__(self):
            pass

        def log_weight(self, x, *, key):
            return x[0]

    x = jnp.full((20, 1), 2.0).at[3].set(-jnp.inf)
    assert objectives.negative_log_weight(Stub(), x, None, KEY) == -2.0
    few = x.at[:3].set(-jnp.inf)
    assert np.isnan(objectives.negative_log_weight(Stub(), few, None, KEY))
