"""The exclusion process against its Markov generator, enumeration, and the process itself."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgeo.systems import tasep

ROUNDING = 1e-11  # of sums of up to 2⁸ terms, and of a null vector, in float64
DIFFERENCES = 1e-7  # error of central differences of fourth order
FIVE_STANDARD_ERRORS = 5.0
CHI_SQUARE_LEVEL = 1e-4  # of fixed seeds: a correct sampler fails none of them
RATES = [(0.3, 0.4), (0.8, 0.9), (0.25, 0.75), (0.15, 0.15), (0.6, 0.2), (1.0, 0.35), (1.0, 1.0)]

log_prob = jax.jit(tasep.log_prob)
score = jax.jit(jax.grad(tasep.log_prob, argnums=1))
log_probs = jax.jit(jax.vmap(tasep.log_prob, (0, None)))
metric = jax.jit(tasep.fisher_metric, static_argnames="size")
estimate = jax.jit(tasep.estimate_fisher_metric, static_argnames=("size", "n_samples"))
hessian = jax.jit(jax.jacfwd(jax.grad(tasep.log_prob, argnums=1), argnums=1))
scores = jax.jit(jax.vmap(jax.grad(tasep.log_prob, argnums=1), (0, None)))
normalization = jax.jit(tasep.log_normalization, static_argnames="size")
current = jax.jit(tasep.current, static_argnames="size")
profile = jax.jit(tasep.density_profile, static_argnames="size")


def all_configurations(size):
    return (np.arange(2**size)[:, None] >> np.arange(size) & 1).astype(np.int8)


def null_vector(rates, size):
    """The stationary law of the dense Markov generator."""
    alpha, beta = rates
    states = [tuple(row) for row in all_configurations(size).tolist()]
    index = {state: i for i, state in enumerate(states)}
    generator = np.zeros((len(states), len(states)))
    for state in states:
        moves = [((1, *state[1:]), alpha)] if state[0] == 0 else []
        moves += [((*state[:-1], 0), beta)] if state[-1] == 1 else []
        for i in range(size - 1):
            if state[i : i + 2] == (1, 0):
                moves.append(((*state[:i], 0, 1, *state[i + 2 :]), 1.0))
        for target, rate in moves:
            generator[index[target], index[state]] += rate
            generator[index[state], index[state]] -= rate
    generator[-1] = 1  # instead of one equation that follows from the others
    right = np.zeros(len(states))
    right[-1] = 1
    return np.linalg.solve(generator, right)


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("size", [1, 4, 6, 8])
def test_probabilities_are_the_null_vector_of_the_generator(rates, size):
    configurations = all_configurations(size)
    found = np.exp(log_probs(jnp.asarray(configurations), jnp.array(rates)))
    expected = null_vector(rates, size)
    np.testing.assert_allclose(found, expected, rtol=ROUNDING)
    assert abs(found.sum() - 1) < ROUNDING
    density = profile(jnp.array(rates), size=size)
    np.testing.assert_allclose(density, expected @ configurations, rtol=ROUNDING)


def sum_of_method(alpha, beta, size):
    """Z_L as a ratio of differences, for α ≠ β."""
    total = 0.0
    for p in range(1, size + 1):
        count = p * math.factorial(2 * size - 1 - p)
        count /= math.factorial(size) * math.factorial(size - p)
        total += count * (beta ** -(p + 1) - alpha ** -(p + 1)) / (1 / beta - 1 / alpha)
    return total


@pytest.mark.parametrize("rates", [(0.3, 0.4), (0.8, 0.9), (0.25, 0.75), (0.02, 0.98)])
@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_normalization_is_the_closed_sum(rates, size):
    expected = math.log(sum_of_method(*rates, size))
    found = normalization(jnp.array(rates), size=size)
    assert abs(found - expected) < ROUNDING
    ratio = sum_of_method(*rates, size - 1) / sum_of_method(*rates, size) if size > 1 else None
    if ratio is not None:
        assert abs(current(jnp.array(rates), size=size) / ratio - 1) < ROUNDING


def test_normalization_at_unit_rates_is_a_catalan_number():
    for size in (1, 5, 200):
        catalan = math.comb(2 * size + 2, size + 1) // (size + 2)
        found = normalization(jnp.ones(2), size=size)
        assert abs(found - math.log(catalan)) < ROUNDING
    assert normalization(jnp.ones(2), size=0) == 0


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("size", [2, 150])
def test_current_enters_leaves_and_tends_to_that_of_the_bulk(rates, size):
    t = jnp.array(rates)
    density, flow = profile(t, size=size), current(t, size=size)
    np.testing.assert_allclose(rates[0] * (1 - density[0]), flow, rtol=1e-10)
    np.testing.assert_allclose(rates[1] * density[-1], flow, rtol=1e-10)
    if size == 150:
        # the maximal current is approached as 3/(8 L), the others exponentially fast or as 1/L
        assert abs(flow - tasep.current_bulk(t)) < 1 / size
        assert flow > 0.99 * tasep.current_bulk(t)


@pytest.mark.parametrize("rates", RATES)
def test_current_is_that_of_every_bond(rates):
    configurations = all_configurations(6)
    hops = configurations[:, :-1] * (1 - configurations[:, 1:])
    found = np.exp(log_probs(jnp.asarray(configurations), jnp.array(rates))) @ hops
    np.testing.assert_allclose(found, current(jnp.array(rates), size=6), rtol=ROUNDING)


CHAIN = jnp.asarray((np.arange(70) % 3 == 0) | (np.arange(70) > 52))
"""Thinly filled up to a shock."""


@pytest.mark.parametrize("rates", RATES[:5])
def test_derivatives_against_differences(rates):
    t, chain, scale = jnp.array(rates), CHAIN, CHAIN.size / min(rates)
    h = 0.02 / scale
    curvatures = hessian(chain, t)
    for i, direction in enumerate(np.eye(2)):
        points = [t + k * h * direction for k in (-2, -1, 1, 2)]
        weights = np.array([1, -8, 8, -1]) / (12 * h)
        slope = weights @ np.array([log_prob(chain, point) for point in points])
        curvature = weights @ np.array([score(chain, point) for point in points])
        assert abs(score(chain, t)[i] - slope) < DIFFERENCES * scale
        np.testing.assert_allclose(curvatures[i], curvature, atol=DIFFERENCES * scale**2)


def test_derivatives_at_unit_rates_are_limits_from_within():
    chain = CHAIN
    for corner, inside in (((1.0, 1.0), (1 - 1e-7, 1 - 1e-7)), ((0.4, 1.0), (0.4, 1 - 1e-7))):
        at, near = (hessian(chain, jnp.array(t)) for t in (corner, inside))
        np.testing.assert_allclose(at, near, rtol=1e-4)
        near, at = score(chain, jnp.array(inside)), score(chain, jnp.array(corner))
        np.testing.assert_allclose(at, near, rtol=1e-4)


def test_derivative_of_the_profile_is_the_covariance_with_the_score():
    t, size = jnp.array([0.35, 0.8]), 6
    configurations = jnp.asarray(all_configurations(size))
    probabilities = jnp.exp(log_probs(configurations, t))
    expected = (probabilities[:, None] * configurations).T @ scores(configurations, t)
    found = jax.jacfwd(profile)(t, size=size)
    np.testing.assert_allclose(found, expected, atol=ROUNDING)


CHAINS = {
    "full": np.ones(300, bool),
    "empty": np.zeros(300, bool),
    "shock": np.arange(300) >= 150,
    "antishock": np.arange(300) < 150,
    "teeth": np.arange(300) // 50 % 2 == 0,
}


def exact_weight(chain, alpha, beta):
    """The matrix product in integers: α = 1/(1 + a) and β = 1/(1 + b) with a, b whole."""
    a, b = round(1 / alpha) - 1, round(1 / beta) - 1
    weights = [1]
    for particle in chain:
        if particle:
            pairs = itertools.pairwise([0, *weights, 0])
            weights = [below + here for below, here in pairs]
        else:
            above = [*weights[1:], 0]
            weights = [here + up for here, up in zip(weights, above, strict=True)]
            weights[0] += a * (weights[0] - above[0])
    return sum(weight * b**n for n, weight in enumerate(weights))


@pytest.mark.parametrize("rates", [(0.02, 0.02), (0.02, 1.0), (1.0, 0.02), (0.5, 0.01)])
@pytest.mark.parametrize("name", CHAINS)
def test_improbable_configurations_of_long_chains(rates, name):
    t = jnp.array(rates)
    expected = math.log(exact_weight(CHAINS[name], *rates))
    total = normalization(t, size=300)
    found = log_prob(jnp.asarray(CHAINS[name]), t) + total
    assert abs(found - expected) < 1e-11 * expected + ROUNDING
    single = log_prob(jnp.asarray(CHAINS[name]), t.astype(jnp.float32))
    assert single.dtype == jnp.float32
    assert abs(single + total - expected) < 1e-3


@pytest.mark.parametrize("rates", [(0.1, 0.4), (0.05, 0.05), (0.7, 0.6)])
def test_score_of_long_chains_has_mean_zero(rates):
    n, t = 200, jnp.array(rates)
    chains = tasep.sample(jax.random.key(3), jnp.tile(t[None], (n, 1)), size=300)
    found = np.asarray(scores(chains, t))
    assert np.all(np.isfinite(found))
    assert np.all(np.abs(found.mean(0)) < FIVE_STANDARD_ERRORS * found.std(0) / math.sqrt(n))


@pytest.mark.parametrize("rates", RATES)
def test_particles_and_holes_change_places(rates):
    t = jnp.array(rates)
    chain = jnp.array([1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 1])
    mirrored = 1 - chain[::-1]
    assert abs(log_prob(chain, t) - log_prob(mirrored, t[::-1])) < ROUNDING
    density, other = (profile(x, size=40) for x in (t, t[::-1]))
    np.testing.assert_allclose(density, 1 - other[::-1], rtol=1e-9)
    swapped = metric(t[::-1], size=6)[::-1, ::-1]
    np.testing.assert_allclose(metric(t, size=6), swapped, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_samples_follow_the_exact_law_of_five_sites(rates, dtype):
    n = 20_000
    parameters = jnp.tile(jnp.array([rates], dtype), (n, 1))
    chains = np.asarray(tasep.sample(jax.random.key(1), parameters, size=5))
    observed = np.bincount(chains @ 2 ** np.arange(5), minlength=32)
    expected = n * np.exp(log_probs(jnp.asarray(all_configurations(5)), jnp.array(rates)))
    common = expected >= 5
    observed = np.append(observed[common], observed[~common].sum())
    expected = np.append(expected[common], expected[~common].sum())
    kept = expected > 0
    assert np.all(observed[~kept] == 0)
    assert stats.chisquare(observed[kept], expected[kept]).pvalue > CHI_SQUARE_LEVEL


@pytest.mark.parametrize("rates", [(0.1, 0.7), (0.2, 0.2), (0.9, 0.8), (0.7, 0.3)])
def test_samples_have_the_exact_density_of_64_sites(rates):
    n, t = 8192, jnp.array(rates)
    chains = np.asarray(tasep.sample(jax.random.key(2), jnp.tile(t[None], (n, 1)), size=64))
    expected = np.asarray(profile(t, size=64))
    errors = np.sqrt(expected * (1 - expected) / n)
    assert np.all(np.abs(chains.mean(0) - expected) < FIVE_STANDARD_ERRORS * errors)
    hops = chains[:, :-1] * (1 - chains[:, 1:])
    flow = float(current(t, size=64))
    errors = math.sqrt(flow * (1 - flow) / n)
    assert np.all(np.abs(hops.mean(0) - flow) < FIVE_STANDARD_ERRORS * errors)


def test_each_sample_has_its_own_parameters_whatever_the_chunks():
    rates = jnp.where(jnp.arange(100) % 2 == 0, 0.02, 0.98)
    parameters = jnp.stack([rates, 1 - rates], axis=1)
    for chunk_size in (7, 1000):
        draw = tasep.sample(jax.random.key(0), parameters, size=200, chunk_size=chunk_size)
        assert draw.shape == (100, 200)
        assert draw.dtype == jnp.int8
        assert jnp.all(jnp.abs(draw.mean(1) - rates) < 0.08)
    assert not jnp.array_equal(draw[0], draw[2])


def test_sampling_composes_with_jit_and_new_numbers_do_not_retrace():
    from jaxgeo.systems.tasep import sampler

    parameters = jnp.array([[0.2, 0.9], [0.4, 0.3]])
    eager = tasep.sample(jax.random.key(0), parameters, size=9)
    before = sampler._sample._cache_size()
    other = tasep.sample(jax.random.key(1), parameters / 2, size=9)
    assert sampler._sample._cache_size() == before
    assert not jnp.array_equal(eager, other)
    draw = jax.jit(lambda key, t: tasep.sample(key, t, size=9))
    assert jnp.array_equal(draw(jax.random.key(0), parameters), eager)


@pytest.mark.parametrize("rates", [(0.3, 0.8), (0.8, 0.7), (0.6, 0.25)])
def test_the_process_itself_has_the_exact_density_and_current(rates):
    n, size, t = 64, 12, jnp.array(rates)
    run = tasep.kinetic_monte_carlo(
        jax.random.key(4), jnp.tile(t[None], (n, 1)), size=size, n_sweeps=300, burn_in=150
    )
    assert run.configuration.dtype == jnp.int8
    assert run.density.dtype == jnp.float64
    density, expected = np.asarray(run.density), np.asarray(profile(t, size=size))
    errors = density.std(0) / math.sqrt(n)
    assert np.all(np.abs(density.mean(0) - expected) < FIVE_STANDARD_ERRORS * errors)
    flow = np.asarray(run.current)
    error = FIVE_STANDARD_ERRORS * flow.std() / math.sqrt(n)
    assert abs(flow.mean() - current(t, size=size)) < error
    assert error < 0.02


@pytest.mark.parametrize("rates", [(0.3, 0.4), (0.8, 0.9), (0.25, 0.75)])
def test_metric_is_the_second_derivative_of_the_divergence(rates):
    size, t, h = 6, jnp.array(rates), 1e-2
    configurations = jnp.asarray(all_configurations(size))
    logs = log_probs(configurations, t)
    found = metric(t, size=size)
    for u in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
        total = 0.0  # KL(p‖p_{t + s}) + KL(p‖p_{t − s}) = s² g + s⁴ …, the latter extrapolated
        for step, weight in ((h, -1 / 3), (h / 2, 16 / 3)):
            for sign in (1, -1):
                moved = log_probs(configurations, t + sign * step * jnp.array(u))
                total += weight * float(jnp.exp(logs) @ (logs - moved)) / h**2
        assert abs(jnp.array(u) @ found @ jnp.array(u) - total) < 1e-4 * abs(total)


def test_metric_of_one_site_is_bernoullis_and_differentiates():
    # p(1) = α/(α + β)
    for alpha, beta in ((0.3, 0.4), (1.0, 0.2)):
        expected = np.array([[beta / alpha, -1], [-1, alpha / beta]]) / (alpha + beta) ** 2
        np.testing.assert_allclose(metric(jnp.array([alpha, beta]), size=1), expected)
    slope = jax.jacfwd(metric)(jnp.array([0.3, 0.4]), size=1)[0, 1]
    np.testing.assert_allclose(slope, 2 / 0.7**3, rtol=ROUNDING)


@pytest.mark.parametrize("rates", [(0.3, 0.4), (0.8, 0.9), (0.15, 0.15), (1.0, 1.0), (0.1, 0.8)])
def test_estimated_metric_is_the_enumerated_one_within_its_error(rates):
    t = jnp.array(rates)
    exact = metric(t, size=10)
    found = estimate(t, size=10, key=jax.random.key(5), n_samples=256)
    assert jnp.all(jnp.abs(found.metric - exact) < FIVE_STANDARD_ERRORS * found.standard_error)
    scale = jnp.sqrt(jnp.outer(jnp.diag(exact), jnp.diag(exact)))
    assert jnp.all(found.standard_error < 0.15 * scale)


def test_an_estimate_from_samples_refuses_to_be_differentiated():
    with pytest.raises(NotImplementedError, match="drawn at the parameters"):
        jax.grad(lambda p: estimate(p, size=5, key=jax.random.key(0), n_samples=64).metric[0, 0])(
            jnp.array([0.3, 0.4])
        )


def test_standard_error_is_the_spread_of_estimates():
    t = jnp.array([0.4, 0.7])
    keys = jax.random.split(jax.random.key(6), 200)
    each = [estimate(t, size=10, key=key, n_samples=256) for key in keys]
    found = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    spread = jnp.std(found.metric, axis=0)
    stated = jnp.sqrt(jnp.mean(found.standard_error**2, axis=0))
    # 200 estimates know their spread to 5 %; heavy tails take the rest
    np.testing.assert_allclose(spread, stated, rtol=0.3)
    error = FIVE_STANDARD_ERRORS * spread / math.sqrt(200)
    assert jnp.all(jnp.abs(found.metric.mean(0) - metric(t, size=10)) < error + 0.01 * spread)


@pytest.mark.parametrize("rates", [(0.98, 0.02), (0.5, 0.02)])
def test_stated_error_is_honest_where_rare_events_carry_the_information(rates):
    t = jnp.array(rates)
    exact = metric(t, size=10)
    keys = jax.random.split(jax.random.key(8), 40)
    each = [estimate(t, size=10, key=key, n_samples=256) for key in keys]
    errors = np.array([found.metric - exact for found in each])
    stated = np.array([found.standard_error for found in each])
    # a regression that is not cross-fitted states errors hundreds of times too small
    assert np.all(np.sqrt(np.mean(errors**2, 0)) < 4 * np.sqrt(np.mean(stated**2, 0)))
    # events too rare for all 10,240 samples move no entry by more than a thousandth
    unseen = 1e-3 * np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    bound = FIVE_STANDARD_ERRORS * errors.std(0) / math.sqrt(40) + unseen
    assert np.all(np.abs(errors.mean(0)) < bound)


def test_metric_in_the_bulk_is_that_of_a_bernoulli_product_not_of_the_current():
    alpha, size = 0.2, 128
    t = jnp.array([alpha, 0.7], jnp.float32)
    found = estimate(t, size=size, key=jax.random.key(7), n_samples=256)
    assert found.metric.dtype == found.standard_error.dtype == jnp.float32
    per_site = float(found.metric[0, 0]) / size
    # boundary terms are of order 1/L
    assert abs(per_site * alpha * (1 - alpha) - 1) < 2 / size
    assert found.standard_error[0, 0] < 1e-3 * found.metric[0, 0]
    assert float(found.metric[1, 1]) / size < 0.02 * per_site


def test_phases():
    points = {
        (0.2, 0.6): tasep.LOW_DENSITY,
        (0.2, 0.21): tasep.LOW_DENSITY,
        (0.6, 0.2): tasep.HIGH_DENSITY,
        (1.0, 0.49): tasep.HIGH_DENSITY,
        (0.5, 0.5): tasep.MAXIMAL_CURRENT,
        (0.7, 1.0): tasep.MAXIMAL_CURRENT,
        (0.3, 0.3): tasep.COEXISTENCE,
    }
    found = jax.vmap(tasep.phase)(jnp.array(list(points)))
    assert found.tolist() == list(points.values())
    flows = jax.vmap(tasep.current_bulk)(jnp.array(list(points)))
    np.testing.assert_allclose(flows, [0.16, 0.16, 0.16, 0.2499, 0.25, 0.25, 0.21])


def test_float32_stays_float32():
    t = jnp.array([0.1, 0.3], jnp.float32)
    wide = t.astype(jnp.float64)
    single = log_prob(CHAIN, t)
    assert single.dtype == tasep.current_bulk(t).dtype == jnp.float32
    assert abs(single - log_prob(CHAIN, wide)) < 1e-4
    for f, size in ((normalization, 40), (current, 150), (profile, 64)):
        assert f(t, size=size).dtype == jnp.float32
        np.testing.assert_allclose(f(t, size=size), f(wide, size=size), rtol=1e-3)


def test_jit_and_vmap_are_loops():
    chains = jnp.asarray(all_configurations(4))[3:7]
    ts = jnp.array([[0.2, 0.3], [0.5, 0.9], [0.7, 0.1], [1.0, 0.4]])
    together = jax.jit(jax.vmap(tasep.log_prob))(chains, ts)
    apart = jnp.stack([log_prob(chain, t) for chain, t in zip(chains, ts, strict=True)])
    np.testing.assert_allclose(together, apart, rtol=1e-12)
    together = jax.vmap(lambda t: profile(t, size=6))(ts)
    apart = jnp.stack([profile(t, size=6) for t in ts])
    np.testing.assert_allclose(together, apart, rtol=1e-12)
    np.testing.assert_allclose(tasep.density_profile(ts[0], size=6), apart[0], rtol=1e-12)


HALF = jnp.array([0.5, 0.5])


@pytest.mark.parametrize(("call", "message"), [
    (lambda: tasep.log_prob(jnp.array([1, 0]), jnp.array([0.0, 0.5])), r"\(0.0, 0.5\)"),
    (lambda: tasep.log_prob(jnp.array([1, 2]), HALF), "got 2"),
    (lambda: tasep.current_bulk(jnp.array([0.5, 1.5])), r"\(0.5, 1.5\)"),
    (lambda: tasep.phase(jnp.array([jnp.nan, 0.5])), "nan"),
    (lambda: tasep.log_normalization(HALF, size=-1), "got -1"),
    (lambda: tasep.current(HALF, size=0), "got 0"),
    (lambda: tasep.density_profile(HALF, size=0), "got 0"),
    (lambda: tasep.fisher_metric(HALF, size=13), "got 13"),
    (lambda: tasep.estimate_fisher_metric(HALF, size=5, key=jax.random.key(0), n_samples=9), "9"),
    (lambda: tasep.sample(jax.random.key(0), HALF[None], size=0), "got 0"),
    (lambda: tasep.sample(jax.random.key(0), HALF[None], chunk_size=0), "got 0"),
    (lambda: tasep.sample(jax.random.key(0), jnp.zeros((0, 2))), r"\(0, 2\)"),
    (lambda: tasep.sample(jax.random.key(0), jnp.array([[0.5, 0.5], [0.1, 2.0]])), "2.0"),
    (
        lambda: tasep.kinetic_monte_carlo(jax.random.key(0), HALF[None], size=3, n_sweeps=0),
        "got 0",
    ),
])  # fmt: skip
def test_bad_input_is_refused_with_its_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_rates_out_of_range_are_nan_where_they_cannot_be_refused():
    assert jnp.isnan(log_prob(jnp.array([1, 0]), jnp.array([0.5, 1.1])))
    assert jnp.isnan(jax.jit(tasep.current_bulk)(jnp.array([-0.5, 0.1])))
