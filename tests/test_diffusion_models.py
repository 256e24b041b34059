"""Learned denoisers against exact ones, and classifiers of what they make."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree
from sklearn.datasets import load_digits

from jaxgeo import RESULTS, models
from jaxgeo.diffusion import DDIM, VariancePreserving
from jaxgeo.models.objectives import denoising_loss, denoising_times
from jaxgeo.systems.mixture import GaussianMixture, MixtureDenoiser
from jaxgeo.training import Checkpoint

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(50, 3)) * [1.0, 5.0, 0.2] + 4
IMAGES = RNG.normal(size=(20, 17, 16, 2))
MAKERS = {
    "dense": functools.partial(models.dense_denoiser, VECTORS, width=16, blocks=2),
    "convolutional": functools.partial(models.convolutional_denoiser, IMAGES, channels=(4, 6)),
}


def stirred(model):
    """Its weights moved, so that no layer is still, and little, so that none exceeds float16."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    flat, unravel = ravel_pytree(params)
    noise = jax.random.normal(jax.random.key(9), flat.shape, flat.dtype)
    return nnx.merge(graph, unravel(flat + 0.1 * noise), rest)


@pytest.fixture(scope="module", params=MAKERS)
def model(request):
    return stirred(MAKERS[request.param](key=jax.random.key(0)))


@eqx.filter_jit
def denoised(model, x, t):
    return model(x, t)


def test_an_untrained_denoiser_is_that_of_independent_gaussians():
    model = models.in_precision(MAKERS["dense"](key=jax.random.key(0)), float)
    x0 = (VECTORS - VECTORS.mean(0)) / np.sqrt(VECTORS.var(axis=0).mean())
    law = GaussianMixture(jnp.zeros((1, 3)), jnp.diag(jnp.asarray(x0.var(axis=0)))[None])
    exact = MixtureDenoiser(law)
    for t in (0.01, 0.3, 1.0):
        x = jnp.asarray(RNG.normal(size=3))
        np.testing.assert_allclose(denoised(model, x, t), exact(x, t), rtol=1e-5)
        np.testing.assert_allclose(model.standardise(model.decode(x)), x, rtol=1e-12)
    sample = jnp.asarray(VECTORS[0])
    np.testing.assert_allclose(model.standardise(sample), x0[0], rtol=1e-5)


def test_dtypes_are_kept_and_precisions_agree(model):
    x = RNG.normal(size=model.shape)
    times = VariancePreserving().times(8)
    exact = None
    for dtype, tolerance in ((jnp.float64, 0), (jnp.float32, 1e-5), (jnp.float16, 0.01)):
        cast = models.in_precision(model, dtype)
        assert {leaf.dtype for leaf in jax.tree.leaves(cast)} == {jnp.dtype(dtype)}
        point = jnp.asarray(x, dtype)
        program = jax.make_jaxpr(lambda x, t, cast=cast: cast(x, t))(
            point, jnp.asarray(0.4, dtype)
        )
        used = {v.aval.dtype for e in program.jaxpr.eqns for v in e.outvars}
        assert {d for d in used if jnp.issubdtype(d, jnp.floating)} == {jnp.dtype(dtype)}
        generated = eqx.filter_jit(DDIM(cast, cast.schedule, times))(point)
        assert generated.dtype == cast.decode(generated).dtype == dtype
        assert generated.shape == model.shape
        exact = generated if exact is None else exact
        error = jnp.linalg.norm((generated - exact).ravel()) / jnp.linalg.norm(exact.ravel())
        assert error <= tolerance
        assert denoised(model, point, 0.4).dtype == dtype  # weights are float32


def test_the_network_sees_the_time_and_ends_are_finite(model):
    x = jnp.asarray(RNG.normal(size=model.shape))
    np.testing.assert_allclose(denoised(model, x, 0.0), x, rtol=1e-6)
    for t in (1e-3, 1.0):
        assert jnp.isfinite(denoised(model, x, t)).all()
    slope = jax.jit(jax.jacfwd(lambda t: model(x, t)))(0.3)
    h = 1e-5
    difference = (denoised(model, x, 0.3 + h) - denoised(model, x, 0.3 - h)) / (2 * h)
    np.testing.assert_allclose(slope, difference, rtol=1e-4, atol=1e-6)
    early, late = (model.network(x, jnp.full(10, wave)) for wave in (0.0, 1.0))
    assert jnp.abs(early - late).max() > 0.01


def test_new_weights_do_not_retrace(model):
    traces = []

    @eqx.filter_jit
    def generate(generator, z):
        traces.append(1)
        return generator(z)

    times = VariancePreserving().times(3)
    z = jnp.ones(model.shape, jnp.float32)
    other = jax.tree.map(lambda leaf: 1.1 * leaf, model)
    a, b = (generate(DDIM(m, m.schedule, times), z) for m in (model, other))
    assert len(traces) == 1
    assert jnp.abs(a - b).max() > 1e-3


MIXTURE = GaussianMixture(
    jnp.array([[-3.0, 0.0], [2.0, 2.0], [2.0, -1.0]]),
    jnp.array([0.5, 0.8, 0.3]),
    jnp.array([0.4, 0.3, 0.3]),
)


@pytest.fixture(scope="module")
def trained():
    samples = MIXTURE.sample(jax.random.key(0), 20_000)
    model = models.dense_denoiser(samples, key=jax.random.key(1), width=64, blocks=2)
    return models.fit(
        model, samples, key=jax.random.key(2), steps=900, every=300, batch_size=256,
        learning_rate=3e-3, progress=False,
    )  # fmt: skip


def exact_denoiser(model):
    """Of `MIXTURE`, standardised."""
    center, spread = model.center[...], model.spread[...]
    means = (MIXTURE.means - center[None]) / spread
    law = GaussianMixture(means, jnp.sqrt(MIXTURE.variances[:, 0]) / spread, MIXTURE.weights)
    return MixtureDenoiser(law, model.schedule)


def test_training_approaches_the_exact_denoiser(trained):
    assert trained.result == RESULTS.successful
    model = trained.model
    exact = exact_denoiser(model)

    @jax.jit
    def errors(t):
        x = exact.at(t).sample(jax.random.key(5), 2000)
        found, wanted = jax.vmap(model, (0, None))(x, t), jax.vmap(exact, (0, None))(x, t)
        return jnp.sum((found - wanted) ** 2) / jnp.sum(wanted**2)

    relative = np.sqrt([errors(t) for t in (0.01, 0.1, 0.3, 0.6)])
    assert np.all(relative < [0.01, 0.06, 0.06, 0.25])


def test_the_loss_of_the_exact_denoiser_is_the_least(trained):
    model = trained.model
    exact = exact_denoiser(model)

    class Exact(models.DiffusionModel):
        def __call__(self, x, t):
            return exact(x, t).astype(x.dtype)

    samples = MIXTURE.sample(jax.random.key(7), 4000)
    best = Exact(model.network, samples)
    best.center, best.spread, best.deviations = model.center, model.spread, model.deviations
    loss = jax.jit(denoising_loss)
    how = (samples.astype(jnp.float32), models.Denoising(), jax.random.key(8))
    least, found = loss(best, *how), loss(model, *how)
    assert 0.98 * least < found < 1.05 * least


def test_times_are_stratified_and_normal_in_the_level(trained):
    model = trained.model
    times = denoising_times(model, 1000, models.Denoising(0.0, 1.0), jax.random.key(0))
    assert jnp.all(jnp.diff(times) > 0)
    level = np.log(model.schedule.noise_ratio(times))
    np.testing.assert_allclose(
        np.quantile(level, [0.1, 0.5, 0.9]), [-1.2816, 0, 1.2816], atol=0.01
    )


def test_training_resumes_to_the_same_end(tmp_path, monkeypatch):
    model = models.dense_denoiser(VECTORS, key=jax.random.key(0), width=8, blocks=1)
    how = {"key": jax.random.key(1), "every": 20, "progress": False, "batch_size": 16, "steps": 60}
    whole = models.fit(model, VECTORS, **how)
    save = Checkpoint.save

    def stop(self, done, state):
        save(self, done, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            models.fit(model, VECTORS, checkpoint=tmp_path, **how)
    again = models.fit(model, VECTORS, checkpoint=tmp_path, **how)
    jax.tree.map(np.testing.assert_array_equal, again.model, whole.model)
    np.testing.assert_array_equal(again.history["loss"], whole.history["loss"])
    refused = pytest.raises(ValueError, match="belongs to a fit of other data or settings")
    with refused:
        models.fit(model, VECTORS + 1, checkpoint=tmp_path, **how)
    with refused:
        other = models.Denoising(center=1.0)
        models.fit(model, VECTORS, objective=other, checkpoint=tmp_path, **how)
    with refused:
        slow = models.DiffusionModel(model.network, VECTORS, schedule=VariancePreserving(1.0, 1.0))
        models.fit(slow, VECTORS, checkpoint=tmp_path, **how)


@pytest.fixture(scope="module")
def digits():
    values, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(values))
    return values.reshape(-1, 8, 8)[order], classes[order]


@pytest.fixture(scope="module")
def classifier(digits):
    x, c = (a[300:] for a in digits)
    return models.fit_classifier(x, c, key=jax.random.key(0), steps=300, progress=False).model


def test_a_classifier_knows_digits_it_has_not_seen(digits, classifier):
    x, c = (jnp.asarray(a[:300]) for a in digits)
    assert jnp.mean(jax.vmap(classifier.label)(x) == c) > 0.9
    logits = jax.vmap(classifier.logits)(x)
    assert logits.shape == (300, 10)
    features = jax.vmap(classifier.features)(x)
    squares = jnp.sum((features[:, None] - features[None]) ** 2, axis=-1)
    np.testing.assert_allclose(jnp.mean(squares), 1, atol=0.05)
    same = c[:, None] == c[None]
    assert jnp.mean(squares[same]) < 0.5 * jnp.mean(squares[~same])
    head = classifier.head(features[0] * classifier.unit[...])
    np.testing.assert_allclose(head, logits[0], rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_features_of_generated_samples_compose(digits, classifier, dtype):
    model = stirred(models.dense_denoiser(digits[0], key=jax.random.key(0), width=8))
    both = models.in_precision(model, dtype), models.in_precision(classifier, dtype)
    corners = jax.random.normal(jax.random.key(3), (3, 8, 8), dtype)

    def features(t):
        generator = DDIM(both[0], model.schedule, model.schedule.times(4))
        z = corners[0] + t[0] * corners[1] + t[1] * corners[2]
        return both[1].features(both[0].decode(generator(z)))

    points = jnp.asarray([[0.0, 0.1], [0.3, -0.2]], dtype)
    f, df = jax.jit(jax.vmap(lambda t: jax.jvp(features, (t,), (jnp.ones_like(t),))))(points)
    assert f.dtype == df.dtype == dtype
    assert f.shape == df.shape == (2, 64)
    if dtype == jnp.float64:
        h = 1e-5
        sides = jax.jit(jax.vmap(features))(jnp.concatenate([points + h, points - h]))
        np.testing.assert_allclose(df, (sides[:2] - sides[2:]) / (2 * h), rtol=1e-5, atol=1e-8)


ONE = {"key": jax.random.key(0)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.dense_denoiser(np.ones(3), **ONE), r"`samples` must have .* \(3,\)"),
        (lambda: models.dense_denoiser(np.ones((3, 2)), **ONE), "differ, their deviation is 0.0"),
        (lambda: models.dense_denoiser(VECTORS * np.nan, **ONE), "finite .* deviation is nan"),
        (
            lambda: models.convolutional_denoiser(VECTORS, **ONE),
            r"convolutions need samples of shape .* got \(3,\)",
        ),
        (lambda: MAKERS["dense"](**ONE)(jnp.ones(4), 0.5), r"shape \(3,\), got \(4,\)"),
        (
            lambda: models.fit(MAKERS["dense"](**ONE), VECTORS[:, :2], **ONE),
            r"the model is of samples of \(3,\), got \(2,\)",
        ),
        (
            lambda: models.fit(
                MAKERS["dense"](**ONE), VECTORS, objective=models.Evidence(), **ONE
            ),
            "a diffusion model takes no other objective",
        ),
        (
            lambda: models.fit(
                models.dense_vae((3,), 2, **ONE), VECTORS, objective=models.Denoising(), **ONE
            ),
            "`objective` of a VAE must be one of",
        ),
        (
            lambda: models.in_precision(MAKERS["dense"](**ONE), int),
            "must be a floating type .* got int64",
        ),
        (
            lambda: models.fit_classifier(VECTORS, np.zeros(7, int), **ONE),
            r"`classes` must be 50 whole numbers .* shape \(7,\)",
        ),
        (lambda: models.fit_classifier(VECTORS, np.full(50, -1), **ONE), "least -1"),
        (lambda: models.fit_classifier(VECTORS, np.zeros(50), **ONE), "dtype float64"),
        (
            lambda: models.fit_classifier(
                VECTORS, np.zeros(50, int), held_out=(VECTORS, np.ones(50, int)), **ONE
            ),
            "classes below 1, got .* 1",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
