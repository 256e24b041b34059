"""Schedules and samplers on the exact denoiser: orders, the transport in closed form, laws."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import TraceCounter
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

import jaxgeo as jg
from jaxgeo.diffusion import DDIM, Heun, ProbabilityFlow, ReverseSDE, VariancePreserving
from jaxgeo.geodesics import Relaxation
from jaxgeo.systems.mixture import GaussianMixture, MixtureDenoiser, saddle_exponent

SCHEDULE = VariancePreserving()
UNEQUAL = GaussianMixture(jnp.array([[-1.0], [1.0]]), 0.3, jnp.array([0.3, 0.7]))
DENOISER = MixtureDenoiser(UNEQUAL, SCHEDULE)
END = 0.05
FLOW = ProbabilityFlow(DENOISER, SCHEDULE, 1.0, END, rtol=1e-10, atol=1e-12)
Z = jnp.array([[-1.7], [-0.6], [0.2], [1.4]])


@pytest.mark.parametrize(("first", "last"), [(0.1, 20.0), (2.0, 2.0)])
def test_schedule_against_quadrature(first, last):
    schedule = VariancePreserving(first, last)
    for t in (0.0, 1e-4, 0.3, 1.0):
        total = quad(lambda s: schedule.rate(s).item(), 0, t)[0]
        np.testing.assert_allclose(schedule.integral(t), total, rtol=1e-12)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        np.testing.assert_allclose([alpha**2, sigma**2], [np.exp(-total), -np.expm1(-total)])
        np.testing.assert_allclose(schedule.noise_ratio(t), sigma / alpha, rtol=1e-12)
        np.testing.assert_allclose(schedule.time(sigma / alpha), t, rtol=1e-12)


def test_times_of_a_sampler():
    noise = SCHEDULE.times(10, last=1e-3)
    np.testing.assert_allclose(np.diff(np.log(SCHEDULE.noise_ratio(noise)), 2), 0, atol=1e-12)
    assert noise[0] == 1
    assert noise[-1] == 1e-3
    np.testing.assert_allclose(
        SCHEDULE.times(4, last=0.0, even_in="time"), [1, 0.75, 0.5, 0.25, 0]
    )


def test_refusals():
    for options, message in [
        ({"steps": 0}, "`steps` must be at least 1, got 0"),
        ({"steps": 3, "last": 1.0}, "times need 0 ≤ last < first ≤ 1, got last 1.0"),
        ({"steps": 3, "first": 1.5}, "first 1.5"),
        ({"steps": 3, "last": 0.0}, "never end at t = 0"),
        ({"steps": 3, "even_in": "space"}, "must be 'noise' or 'time', got 'space'"),
    ]:
        with pytest.raises(ValueError, match=message):
            SCHEDULE.times(**options)
    for eta in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"`eta` must lie in \[0, 1\], got"):
            DDIM(DENOISER, SCHEDULE, SCHEDULE.times(3), eta)
    with pytest.raises(ValueError, match=r"eta = 0.5 draws noise: give a `key`"):
        DDIM(DENOISER, SCHEDULE, SCHEDULE.times(3), 0.5)(Z[0])
    for sampler in (DDIM, Heun):
        with pytest.raises(ValueError, match=r"`times` must have shape \(n,\), n ≥ 2, got \(1,\)"):
            sampler(DENOISER, SCHEDULE, jnp.ones(1))(Z[0])
    for times in ((0.0, 0.5), (1.0, 0.0), (1.5, 0.1)):
        with pytest.raises(ValueError, match=r"times must lie in \(0, 1\], got"):
            ProbabilityFlow(DENOISER, SCHEDULE, *times)


@pytest.mark.parametrize(("sampler", "order"), [(DDIM, 1), (Heun, 2)])
def test_order_of_convergence(sampler, order):
    exact = jax.vmap(FLOW)(Z)

    @jax.jit
    def error(times):
        return jnp.max(jnp.abs(jax.vmap(sampler(DENOISER, SCHEDULE, times))(Z) - exact))

    errors = [error(SCHEDULE.times(n, last=END)) for n in (128, 256, 512)]
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), order, atol=0.1)


def distribution(t):
    """F_t and p_t by scipy."""
    law = DENOISER.at(t)
    parts = [
        (w.item(), norm(m.item(), v.item() ** 0.5))
        for w, m, v in zip(law.weights, law.means[:, 0], law.variances[:, 0], strict=True)
    ]
    return (
        lambda x: sum(w * n.cdf(x) for w, n in parts),
        lambda x: sum(w * n.pdf(x) for w, n in parts),
    )


def test_the_flow_is_the_monotone_transport_and_comes_back():
    (f1, p1), (f0, p0) = distribution(1.0), distribution(END)
    ends = jax.vmap(FLOW)(Z)
    expected = [brentq(lambda x, z=z: f0(x) - f1(z), -5, 5, xtol=1e-14) for z in Z[:, 0].tolist()]
    np.testing.assert_allclose(ends[:, 0], expected, rtol=1e-8)
    slopes = jax.vmap(jax.jacfwd(FLOW))(Z)[:, 0, 0]
    np.testing.assert_allclose(slopes, p1(np.asarray(Z[:, 0])) / p0(np.array(expected)), rtol=1e-7)
    back = ProbabilityFlow(DENOISER, SCHEDULE, END, 1.0, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(jax.vmap(back)(ends), Z, atol=1e-8)
    # unequal weights: the border of the phases is where as much lies below as below the saddle
    saddle = brentq(lambda x: DENOISER.at(END).score(jnp.array([x]))[0].item(), -0.5, 0.5)
    border = brentq(lambda z: f1(z) - f0(saddle), -3, 3, xtol=1e-13)
    np.testing.assert_allclose(FLOW(jnp.array([border])), [saddle], atol=1e-7)
    np.testing.assert_allclose(norm.cdf(border), 0.3, atol=0.01)
    sides = jax.vmap(FLOW)(jnp.array([[border - 0.01], [border + 0.01]]))
    assert jax.vmap(UNEQUAL.component)(sides).tolist() == [0, 1]


@pytest.mark.parametrize("sampler", ["DDIM", "ReverseSDE"])
def test_samplers_with_noise_reproduce_the_law(sampler):
    """Five standard errors of 8,000 draws, and 1/500 for the steps."""
    n, times = 8000, SCHEDULE.times(400, last=0.01)
    take = (
        DDIM(DENOISER, SCHEDULE, times, 1.0)
        if sampler == "DDIM"
        else ReverseSDE(DENOISER, SCHEDULE, times)
    )
    key_z, key = jax.random.split(jax.random.key(11))
    z = jax.random.normal(key_z, (n, 1))
    x = np.asarray(jax.jit(jax.vmap(take))(z, jax.random.split(key, n)))[:, 0]
    law = DENOISER.at(0.01)
    w, m, v = (np.asarray(a).ravel() for a in (law.weights, law.means, law.variances))
    mean = w @ m
    variance = w @ (v + m**2) - mean**2
    slack = 5 / np.sqrt(n)
    assert abs(x.mean() - mean) < slack * variance**0.5 + 0.002
    squares = (x - mean) ** 2
    assert abs(squares.mean() - variance) < slack * squares.std() + 0.01
    assert abs((x < 0).mean() - 0.3) < slack * 0.46 + 0.002
    for k, side in enumerate((x < 0, x > 0)):
        assert abs(x[side].std() / v[k] ** 0.5 - 1) < slack / (2 * w[k]) ** 0.5 + 0.02


def test_heun_and_ddim_end_at_no_noise():
    times = SCHEDULE.times(64, last=0.0, even_in="time")
    for sampler in (DDIM(DENOISER, SCHEDULE, times), Heun(DENOISER, SCHEDULE, times)):
        value, slope = jax.jvp(sampler, (Z[3],), (jnp.ones(1),))
        assert jnp.all(jnp.isfinite(value))
        # the gradient does not divide 0 by 0 either
        np.testing.assert_allclose(jax.grad(lambda z, f=sampler: f(z)[0])(Z[3]), slope, rtol=1e-10)


def test_precision_stays():
    single = GaussianMixture(UNEQUAL.means.astype(jnp.float32), 0.3, UNEQUAL.weights)
    denoiser, times = MixtureDenoiser(single, SCHEDULE), SCHEDULE.times(32).astype(jnp.float32)
    z = Z[0].astype(jnp.float32)
    for take in (
        Heun(denoiser, SCHEDULE, times),
        DDIM(denoiser, SCHEDULE, times),
        ProbabilityFlow(denoiser, SCHEDULE, rtol=1e-4, atol=1e-4),
    ):
        x = eqx.filter_jit(take)(z)
        assert x.dtype == jnp.float32
        np.testing.assert_allclose(x, -1.2, atol=0.3)
    assert ReverseSDE(denoiser, SCHEDULE, times)(z, jax.random.key(0)).dtype == jnp.float32
    half = MixtureDenoiser(
        GaussianMixture(UNEQUAL.means.astype(jnp.float16), 0.3, UNEQUAL.weights), SCHEDULE
    )
    x = DDIM(half, SCHEDULE, times)(Z[0].astype(jnp.float16))
    assert x.dtype == jnp.float16
    np.testing.assert_allclose(x, DDIM(DENOISER, SCHEDULE, times)(Z[0]), atol=0.02)


@pytest.mark.parametrize("kind", ["DDIM", "Heun", "flow"])
def test_derivatives_and_batches(kind):
    times = SCHEDULE.times(16, last=END)
    take = {
        "DDIM": DDIM(DENOISER, SCHEDULE, times),
        "Heun": Heun(DENOISER, SCHEDULE, times),
        "flow": FLOW,
    }[kind]

    def value(z, mean):
        own = eqx.tree_at(lambda s: s.denoiser.mixture.means, take, jnp.array([[-1.0], [mean]]))
        return own(z)[0]

    slopes = jax.jit(jax.grad(value, (0, 1)))(Z[1], 1.0)
    run, h = jax.jit(value), 1e-5
    expected = [
        (run(Z[1] + h, 1.0) - run(Z[1] - h, 1.0)) / (2 * h),
        (run(Z[1], 1.0 + h) - run(Z[1], 1.0 - h)) / (2 * h),
    ]
    tolerance = 1e-5 if kind == "flow" else 1e-7  # differences see each change of its steps
    np.testing.assert_allclose([slopes[0][0], slopes[1]], expected, rtol=tolerance)
    batch = jax.jit(jax.vmap(take))(Z)
    np.testing.assert_allclose(batch[1, 0], run(Z[1], 1.0), rtol=1e-8)


def test_a_step_does_not_trace_anew():
    class Counted(eqx.Module):
        denoiser: MixtureDenoiser
        counter: TraceCounter = eqx.field(static=True)

        def __call__(self, x, t):
            self.counter.count += 1
            return self.denoiser(x, t)

    counter = TraceCounter(None)
    run = eqx.filter_jit(lambda sampler, z: sampler(z))
    counts = []
    for steps, mean in ((8, 1.0), (8, 1.5)):
        mixture = GaussianMixture(jnp.array([[-1.0], [mean]]), 0.3)
        own = Counted(MixtureDenoiser(mixture, SCHEDULE), counter)
        run(Heun(own, SCHEDULE, SCHEDULE.times(steps)), Z[0])
        counts.append(counter.count)
    assert counts[0] == counts[1] <= 4  # not one for each step


def test_a_flow_without_enough_steps_fails():
    with pytest.raises(Exception, match="maximum number of solver steps"):
        ProbabilityFlow(DENOISER, SCHEDULE, max_steps=3)(Z[0])
    assert jnp.isnan(ProbabilityFlow(DENOISER, SCHEDULE, max_steps=3, throw=False)(Z[0])[0])


def test_the_flow_knows_its_derivative_on_a_saddle():
    """There nothing moves, and no error of the point bounds the steps."""
    denoiser = MixtureDenoiser(GaussianMixture(jnp.array([[-1.0], [1.0]]), 0.05), SCHEDULE)
    expected = quad(lambda t: saddle_exponent(0.05, t, SCHEDULE).item(), END, 1.0)[0]

    def stretch(**options):
        flow = ProbabilityFlow(denoiser, SCHEDULE, 1.0, END, **options)
        return jax.jit(lambda z: jax.jvp(flow, (z,), (jnp.ones(1),))[1][0])(jnp.zeros(1))

    np.testing.assert_allclose(jnp.log(stretch()), expected, rtol=0.01)
    assert not jnp.abs(jnp.log(stretch(longest=4.0)) / expected - 1) < 0.1
    with pytest.raises(ValueError, match=r"`longest` must be positive, got 0.0"):
        ProbabilityFlow(denoiser, SCHEDULE, longest=0.0)


# a sampler that can be inverted pulls back a flat metric


def invertible(kind, d):
    means = np.random.default_rng(d).normal(size=(3, d))
    denoiser = MixtureDenoiser(GaussianMixture(jnp.asarray(means), 0.5), SCHEDULE)
    if kind == "Heun":
        return Heun(denoiser, SCHEDULE, SCHEDULE.times(6, last=0.2))
    options = {"solver": diffrax.Dopri5(), "rtol": 1e-9, "atol": 1e-11, "max_steps": 128}
    return ProbabilityFlow(denoiser, SCHEDULE, 1.0, 0.2, **options)


@pytest.mark.parametrize(("kind", "d"), [("Heun", 2), ("Heun", 3), ("flow", 2)])
def test_the_pullback_of_the_invertible_flow_is_flat(kind, d):
    """Curvature in units of what cancels in it, |Γ|², all in an orthonormal frame."""
    metric, z = jg.PullbackMetric(invertible(kind, d)), jnp.linspace(-0.4, 0.5, d)

    def by_differences(z):
        """Of fourth order: three derivatives through an adaptive solver compile for minutes."""
        h, steps = 0.004, jnp.array([-2.0, -1.0, 1.0, 2.0])
        moved = z[None, None, :] + h * steps[None, :, None] * jnp.eye(d)[:, None, :]
        around = jax.lax.map(lambda z: jg.christoffel(metric, z), moved.reshape(-1, d))
        weights = jnp.array([1.0, -8.0, 8.0, -1.0]) / (12 * h)
        slopes = jnp.einsum("lsijk,s->ijkl", around.reshape(d, 4, d, d, d), weights)
        gamma = jg.christoffel(metric, z)
        half = slopes.transpose(0, 1, 3, 2) + jnp.einsum("ikm,mlj->ijkl", gamma, gamma)
        return half - half.transpose(0, 1, 3, 2)

    @jax.jit
    def measured(z):
        riemann = jg.riemann(metric, z) if kind == "Heun" else by_differences(z)
        return metric(z), jg.christoffel(metric, z), riemann

    g, gamma, curvature = (np.asarray(a) for a in measured(z))
    frame = np.linalg.inv(np.linalg.cholesky(g)).T
    back = np.linalg.inv(frame)
    gamma = np.einsum("kij,ak,ib,jc->abc", gamma, back, frame, frame)
    curvature = np.einsum("kijl,ak,ib,jc,ld->abcd", curvature, back, frame, frame, frame)
    scale = np.max(np.abs(gamma)) ** 2
    assert scale > 1e-2  # the coordinates are curved
    assert np.max(np.abs(curvature)) < 1e-5 * scale
    assert abs(np.einsum("abab->", curvature)) < 1e-5 * scale


@pytest.mark.parametrize("d", [2, 3])
def test_geodesics_of_the_invertible_sampler_decode_to_straight_segments(d):
    take = invertible("Heun", d)
    a, b = jnp.full(d, -0.5), jnp.linspace(0.1, 0.7, d)
    found = jg.geodesic_bvp(
        jg.PullbackMetric(take), a, b, solver=jg.Shooting(Relaxation(16, n_starts=1))
    )
    x = jax.vmap(take)(found.points)
    chord = x[-1] - x[0]
    straight = x[0][None, :] + found.ts[:, None] * chord[None, :]
    size = jnp.linalg.norm(chord)
    np.testing.assert_allclose(x, straight, atol=1e-4 * size)
    np.testing.assert_allclose(found.stats["length"], size, rtol=1e-4)
    # and are not straight before they are decoded
    line = a[None, :] + found.ts[:, None] * (b - a)[None, :]
    assert jnp.max(jnp.abs(found.points - line)) > 1e-2
