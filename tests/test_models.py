"""Autoencoders: bounds of an evidence that is known, training that resumes, networks' shapes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx

import jaxgeo as jg
from jaxgeo import RESULTS, models
from jaxgeo.likelihoods import Bernoulli, Categorical, Dirichlet, FixedGaussian, Gaussian
from jaxgeo.models import HVAE, RHVAE, VAE, Dynamics
from jaxgeo.training import Checkpoint

D, M, SIGMA = 2, 3, 0.7
RNG = np.random.default_rng(1)
W, B = RNG.normal(size=(M, D)), RNG.normal(size=M)
X = jnp.asarray(RNG.normal(size=M))
SHARP = np.linalg.inv(np.eye(D) + W.T @ W / SIGMA**2)  # the posterior's covariance
CENTRE = SHARP @ W.T @ (np.asarray(X) - B) / SIGMA**2
EVIDENCE = scipy.stats.multivariate_normal(B, W @ W.T + SIGMA**2 * np.eye(M)).logpdf(X)


class Linear(nnx.Module):
    """z → W z + b."""

    def __init__(self, weight, bias):
        self.weight, self.bias = nnx.Param(jnp.asarray(weight)), nnx.Param(jnp.asarray(bias))

    def __call__(self, z):
        return self.weight[...] @ z + self.bias[...]


class Posterior(nnx.Module):
    """q(z|x) of known mean and deviation, whatever x."""

    def __init__(self, mean, deviation):
        self.mean, self.log_deviation = jnp.asarray(mean), jnp.log(jnp.asarray(deviation))
        self.mean = nnx.Variable(self.mean)
        self.log_deviation = nnx.Variable(self.log_deviation)

    def __call__(self, x):
        # where x is a centroid the mean follows it
        return self.mean[...] + 0 * x[:D], self.log_deviation[...]


def linear_vae(mean, deviation, weight=W):
    return VAE(Posterior(mean, deviation), Linear(weight, B), FixedGaussian(SIGMA), D)


def diagonal_problem():
    """W of orthogonal columns: the posterior is a product, so q can be exact."""
    weight = np.linalg.qr(W)[0] * np.array([1.5, 0.6])
    cov = np.linalg.inv(np.eye(D) + weight.T @ weight / SIGMA**2)
    mean = cov @ weight.T @ (np.asarray(X) - B) / SIGMA**2
    law = scipy.stats.multivariate_normal(B, weight @ weight.T + SIGMA**2 * np.eye(M))
    return linear_vae(mean, np.sqrt(np.diag(cov)), weight), law.logpdf(X)


def hamiltonian_models(vae):
    """One of each kind, with a metric that bends."""
    how = Dynamics(n_leapfrog=3, step_size=0.05, initial_beta=0.5)
    samples = RNG.normal(size=(5, M))
    rhvae = RHVAE(
        vae, samples, key=jax.random.key(5), temperature=1.0, regularization=0.5, dtype=float,
        widths=(8,), dynamics=how,
    )  # fmt: skip
    last = rhvae.factors.dense.layers[-1]
    last.kernel[...] = 0.3 * jax.random.normal(jax.random.key(6), last.kernel.shape)
    constant = HVAE(vae, dynamics=how._replace(tempering="constant"))
    return {"vae": vae, "hvae": HVAE(vae, dynamics=how), "constant": constant, "rhvae": rhvae}


@functools.cache
def weights(kind, exact=False):
    """10⁵ draws of log w, and the log evidence."""
    vae, evidence = (
        diagonal_problem()
        if exact
        else (linear_vae(CENTRE + 0.2, np.sqrt(np.diag(SHARP)) * 1.3), EVIDENCE)
    )
    model = hamiltonian_models(vae)[kind]
    keys = jax.random.split(jax.random.key(0), 100_000)
    return np.asarray(jax.jit(jax.vmap(lambda k: model.log_weight(X, key=k)))(keys)), evidence


@pytest.mark.parametrize("kind", ["vae", "hvae", "constant", "rhvae"])
def test_the_bound_never_exceeds_the_evidence_and_the_weights_average_to_it(kind):
    log_w, evidence = weights(kind)
    error = log_w.std() / len(log_w) ** 0.5
    assert log_w.mean() < evidence + 3 * error
    assert log_w.mean() > evidence - 2
    assert log_w.std() > 0.05
    w = np.exp(log_w - evidence)
    assert abs(w.mean() - 1) < 4 * w.std() / len(w) ** 0.5
    assert w.std() / len(w) ** 0.5 < 0.02


def test_the_bound_is_the_evidence_for_the_exact_posterior():
    log_w, evidence = weights("vae", exact=True)
    np.testing.assert_allclose(log_w, evidence, atol=1e-10)
    vae, _ = diagonal_problem()
    still = {}
    for n in (1, 2, 4):  # an exact posterior that flows remains one, but for the flow's errors
        how = Dynamics(n_leapfrog=n, step_size=0.4 / n, initial_beta=1.0)
        model = HVAE(vae, dynamics=how)
        keys = jax.random.split(jax.random.key(0), 2000)
        log_w = jax.vmap(lambda k, model=model: model.log_weight(X, key=k))(keys)
        still[n] = float(jnp.max(jnp.abs(log_w - evidence)))
    assert still[4] < 0.3 * still[2] < 0.3 * 0.3 * still[1] * 1.2
    assert still[4] < 0.1


def test_importance_weighted_evidence_and_bound_are_functions():
    vae = linear_vae(CENTRE + 0.2, np.sqrt(np.diag(SHARP)) * 1.3)
    key = jax.random.key(3)
    tight = jax.jit(lambda v: models.log_evidence(v, X, key=key, n_samples=20_000))(vae)
    np.testing.assert_allclose(tight, EVIDENCE, atol=0.02)
    loose = models.elbo(vae, X, key=key, n_samples=20_000)
    gap = np.trace(np.linalg.inv(SHARP) @ np.diag(np.diag(SHARP)) * 1.69) / 2
    gap += 0.2 * np.ones(D) @ np.linalg.inv(SHARP) @ (0.2 * np.ones(D)) / 2 - D / 2
    gap -= np.sum(np.log(1.69 * np.diag(SHARP))) / 2 - np.linalg.slogdet(SHARP)[1] / 2
    np.testing.assert_allclose(loose, EVIDENCE - gap, atol=0.03)


def test_identity_gives_the_hamiltonian_vae_exactly():
    """One centroid far off, λ = 1: G = I, to the last bit of its floor."""
    vae = linear_vae(CENTRE, np.sqrt(np.diag(SHARP)))
    how = Dynamics(step_size=0.2)
    flat = RHVAE(
        vae, 1e3 * np.ones((1, M)), key=jax.random.key(0), temperature=1e-3, regularization=1.0,
        dtype=float, dynamics=how,
    )  # fmt: skip
    for seed in range(3):
        key = jax.random.key(seed)
        a, b = flat.log_weight(X, key=key), HVAE(vae, dynamics=how).log_weight(X, key=key)
        np.testing.assert_allclose(a, b, rtol=1e-13)
        assert flat.flow(X, key=key).fixed_point_error < 1e-14


def test_a_flow_that_cannot_be_followed_is_no_weight():
    """Most momenta are too large for a step of this length: they have no weight."""
    model = hamiltonian_models(linear_vae(CENTRE, np.sqrt(np.diag(SHARP))))["rhvae"]
    model.dynamics = Dynamics(step_size=2.0)
    keys = jax.random.split(jax.random.key(0), 200)
    log_w = jax.vmap(lambda k: model.log_weight(X, key=k))(keys)
    errors = jax.vmap(lambda k: model.flow(X, key=k).fixed_point_error)(keys)
    np.testing.assert_array_equal(np.isneginf(log_w), errors >= 1e-4)
    assert 20 < np.isneginf(log_w).sum() < 200
    # such draws have no weight: what is left is a lower bound in expectation
    whole = models.log_evidence(model, X, key=jax.random.key(1), n_samples=300)
    assert np.isfinite(whole)
    assert whole < EVIDENCE + 0.5
    assert np.isneginf(models.elbo(model, X, key=jax.random.key(1), n_samples=300))
    x = jnp.tile(X, (200, 1))
    assert np.isnan(models.objectives.negative_log_weight(model, x, None, keys[0]))


def test_gradients_of_the_bound_flow_through_metric_and_decoder():
    model = hamiltonian_models(linear_vae(CENTRE, np.sqrt(np.diag(SHARP))))["rhvae"]
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    flat, unravel = jax.flatten_util.ravel_pytree(nnx.to_pure_dict(params))

    @jax.jit
    def bound(v):
        keys = jax.random.split(jax.random.key(1), 4)
        whole = nnx.merge(graph, unravel(v), rest)
        return jnp.mean(jax.vmap(lambda k: whole.log_weight(X, key=k))(keys))

    slope = jax.grad(bound)(flat)
    rng, h = np.random.default_rng(0), 1e-5
    for _ in range(3):
        u = rng.normal(size=flat.size)
        difference = (bound(flat + h * u) - bound(flat - h * u)) / (2 * h)
        np.testing.assert_allclose(slope @ u, difference, rtol=1e-5)
    by_name = unravel(slope)
    assert np.abs(by_name["factors"]["dense"]["layers"][0]["kernel"]).max() > 1e-6
    assert np.abs(by_name["vae"]["decoder"]["weight"]).max() > 1e-6


def test_the_metric_of_a_model_is_that_of_its_parameters():
    model = hamiltonian_models(linear_vae(CENTRE, np.sqrt(np.diag(SHARP))))["rhvae"]
    metric, samples = model.metric(), model.centroids[...]
    for k in range(len(samples)):
        np.testing.assert_allclose(metric.factors[k], model.factors(samples[k]), rtol=1e-12)
        np.testing.assert_array_equal(metric.centroids[k], CENTRE)
    before = metric(jnp.zeros(2))
    model.factors.dense.layers[-1].bias[...] += 0.1
    assert np.abs(model.metric()(jnp.zeros(2)) - before).max() > 1e-3
    np.testing.assert_allclose(
        models.lower_triangular(jnp.array([1.0, 2, 3]), jnp.array([4.0, 5, 6])),
        [[1, 0, 0], [4, 2, 0], [5, 6, 3]],
    )


def rings(n, seed=0):
    """Images of 8 × 8 with one bright spot on a ring: one real degree of freedom."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    centre = 3.5 + 2.2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(8), indexing="ij"), axis=-1)
    squares = np.sum((grid[None] - centre[:, None, None]) ** 2, axis=-1)
    return (np.exp(-squares / 2) + 0.05 * rng.normal(size=(n, 8, 8))).astype(np.float32)


@pytest.fixture(scope="module")
def trained():
    vae = models.dense_vae((8, 8), 2, key=jax.random.key(0), widths=(32,), spread=0.3)
    return models.fit(vae, rings(600), key=jax.random.key(1), steps=400, every=100, progress=False)


def test_training_lowers_the_bound_and_the_deviation_grows_off_the_data(trained):
    trace = trained.history["loss"]
    assert trained.result == RESULTS.successful
    assert trace.held_out_loss[-1] < trace.held_out_loss[0] - 20
    vae = trained.model
    means = models.encode_samples(vae, rings(600), key=jax.random.key(2)).mean
    assert means.shape == (600, 2)
    assert means.dtype == jnp.float32
    sure = models.with_precision(
        vae, rings(600), key=jax.random.key(3), n_centres=16, steps=200, progress=False
    )
    inside, outside = means[0], jnp.array([25.0, 25.0])
    deviation = [sure.likelihood.deviation(sure.decoder(z)).mean() for z in (inside, outside)]
    assert deviation[0] < 0.15
    assert deviation[1] > 4 * deviation[0]
    np.testing.assert_allclose(sure.decode(inside), vae.decode(inside), rtol=1e-6)
    # it is what leads geodesics round the hole of the ring
    centre = jnp.mean(means, axis=0)
    assert jg.log_volume_density(sure.pullback_metric(), inside) > -20
    assert sure.fisher_metric()(centre).shape == (2, 2)


def test_a_precision_that_is_not_finite_is_no_precision(trained):
    with pytest.raises(Exception, match=r"(?i)non-?finite|NaN|infinite"):
        models.with_precision(
            trained.model, rings(40), key=jax.random.key(3), n_centres=2, steps=2, floor=np.nan,
            progress=False,
        )  # fmt: skip


def test_training_resumes_to_the_same_end(tmp_path, monkeypatch):
    """Interrupted after its first validation, and resumed; a directory is one fit's own."""
    vae = models.dense_vae((8, 8), 2, key=jax.random.key(0), widths=(8,))
    how = {"key": jax.random.key(1), "every": 20, "progress": False, "batch_size": 32}
    images, folder = rings(100), tmp_path / "stopped"
    whole = models.fit(vae, images, steps=60, **how)
    save = Checkpoint.save

    def stop(self, done, state):
        save(self, done, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            models.fit(vae, images, steps=60, checkpoint=folder, **how)
    again = models.fit(vae, images, steps=60, checkpoint=folder, **how)
    for resumed, straight in zip(again.history["loss"], whole.history["loss"], strict=True):
        np.testing.assert_allclose(resumed, straight, rtol=1e-6)
    with pytest.raises(ValueError, match="belongs to a fit of other data or settings"):
        models.fit(vae, images + 1, steps=60, checkpoint=folder, **how)


@pytest.mark.parametrize(
    "objective",
    [
        models.Evidence(beta=4.0),
        models.Reconstruction(),
        models.MaximumMeanDiscrepancy(alpha=0.5, weight=10.0),
        models.MutualInformation(alpha=2.0),
    ],
)
def test_other_objectives_train(objective):
    vae = models.dense_vae((8, 8), 2, key=jax.random.key(0), widths=(16,), spread=0.3)
    fitted = models.fit(
        vae, rings(300), key=jax.random.key(1), objective=objective, steps=200, every=50,
        progress=False,
    )  # fmt: skip
    trace = fitted.history["loss"]
    assert trace.held_out_loss[-1] < trace.held_out_loss[0] - 5
    assert isinstance(fitted.model, VAE)


def test_the_discrepancy_of_two_laws():
    """Of N(0, 1) and N(μ, 1), kernel e^{−r²/ρ²}: 2 (1 + 4/ρ²)^−½ (1 − e^{−μ²/(ρ² + 4)})."""
    a = jax.random.normal(jax.random.key(0), (2000, 1))
    b = 1.5 + jax.random.normal(jax.random.key(1), (2000, 1))
    exact = 2 * (1 + 4 / 4) ** -0.5 * (1 - np.exp(-(1.5**2) / (4 + 4)))
    np.testing.assert_allclose(models.mean_discrepancy(a, b, 2.0), exact, rtol=0.1)
    np.testing.assert_allclose(models.mean_discrepancy(a, b - 1.5, 2.0), 0, atol=3e-3)


def test_a_riemannian_model_trains_and_its_metric_knows_the_data(trained):
    images = rings(300)
    rhvae = RHVAE(
        trained.model, images[models.medoid_indices(images, 8)], key=jax.random.key(0),
        temperature=0.8, regularization=0.01, spread=0.3, widths=(16,),
        dynamics=Dynamics(step_size=0.02),
    )  # fmt: skip
    fitted = models.fit(
        rhvae, images, key=jax.random.key(1), steps=40, every=20, batch_size=32, progress=False
    )
    assert fitted.result == RESULTS.successful
    metric = fitted.model.metric()
    assert metric.coverage(metric.centroids[0]) > 0.9
    assert (
        fitted.model.flow(jnp.asarray(images[0]), key=jax.random.key(0)).fixed_point_error < 1e-5
    )


@pytest.mark.parametrize("likelihood", [Gaussian(), Bernoulli(), Categorical(5), Dirichlet()])
@pytest.mark.parametrize("shape", [(8, 8), (9, 7, 2)])
def test_networks_give_the_parameters_of_every_likelihood(likelihood, shape):
    key = jax.random.key(0)
    vae = models.convolutional_vae(
        shape, 3, key=key, likelihood=likelihood, channels=(4, 8), widths=(16,)
    )
    x = jnp.full(shape, 1 / shape[-1]) if isinstance(likelihood, Dirichlet) else jnp.ones(shape)

    @jax.jit
    def both(vae):
        z = vae.encode(x)[0]
        return z, vae.decode(z), vae.log_weight(x, key=key)

    z, mean, log_w = both(vae)
    assert z.shape == (3,)
    assert mean.shape[: len(shape)] == shape
    assert jnp.isfinite(log_w)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: models.fit(v, np.ones(3), key=jax.random.key(0)), r"`samples` must .* \(3,\)"),
        (
            lambda v: models.fit(v, np.ones((3, 8, 8)), key=jax.random.key(0), steps=0),
            "`steps` must be at least 1, got 0",
        ),
        (
            lambda v: models.fit(
                v, np.ones((3, 8, 8)), key=jax.random.key(0), held_out=np.ones((2, 4))
            ),
            r"`held_out` must hold samples of shape \(8, 8\), got \(4,\)",
        ),
        (
            lambda v: models.fit(
                HVAE(v), np.ones((3, 8, 8)), key=jax.random.key(0),
                objective=models.Evidence(beta=2.0),
            ),
            "takes no other objective",
        ),
        (lambda v: HVAE(v, dynamics=Dynamics(n_leapfrog=0)), "`n_leapfrog` must be at least 1"),
        (lambda v: HVAE(v, dynamics=Dynamics(step_size=-1.0)), "`step_size` must be positive"),
        (lambda v: HVAE(v, dynamics=Dynamics(initial_beta=0.0)), r"`initial_beta` must lie in"),
        (lambda v: HVAE(v, dynamics=Dynamics(tempering="none")), "`tempering` must be one of"),
        (
            lambda v: RHVAE(v, np.ones(3), key=jax.random.key(0), temperature=1.0),
            r"`centroids` must hold samples \(N, \.\.\.\), got shape \(3,\)",
        ),
        (
            lambda v: RHVAE(v, np.ones((3, 8, 8)), key=jax.random.key(0), temperature=0.0),
            r"`temperature` must be positive, got 0\.0",
        ),
        (
            lambda v: models.fit(
                v, np.ones((3, 8, 8)), key=jax.random.key(0),
                objective=models.MaximumMeanDiscrepancy(),
            ),
            "a discrepancy needs 2 samples at least, .* got 128 and 1",
        ),
        (
            lambda v: models.lower_triangular(jnp.ones(3), jnp.ones(1)),
            r"`below` must have shape \(3,\), got \(1,\)",
        ),
        (lambda v: models.medoid_indices(np.ones((3, 2)), 4), "`n` must lie between 1 and"),
        (
            lambda v: models.convolutional_vae((8,), 2, key=jax.random.key(0)),
            r"convolutions need samples of shape .* got \(8,\)",
        ),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(call, message):
    vae = models.dense_vae((8, 8), 2, key=jax.random.key(0), widths=(4,))
    with pytest.raises(ValueError, match=message):
        call(vae)


def test_a_loss_that_is_never_finite_is_named():
    vae = models.dense_vae((8, 8), 2, key=jax.random.key(0), widths=(4,))
    bad = np.full((20, 8, 8), np.nan, np.float32)
    how = {"key": jax.random.key(0), "steps": 2, "every": 1, "progress": False}
    assert models.fit(vae, bad, throw=False, **how).result == RESULTS.nonfinite
