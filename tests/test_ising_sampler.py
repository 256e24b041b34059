"""The sampler against exact laws: every state of a 4×4 lattice, and means of larger ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgeo.systems import ising

FIVE_STANDARD_ERRORS = 5.0
CHI_SQUARE_LEVEL = 1e-4  # of four fixed seeds: a correct sampler fails none of them


def exact_law(eta):
    """Distinct (Σ ss, Σ s) of the 4×4 torus and their probabilities, by enumeration."""
    states = (np.arange(2**16)[:, None] >> np.arange(16) & 1).astype(np.int8) * 2 - 1
    totals = np.asarray(ising.sufficient_statistics(jnp.asarray(states.reshape(-1, 4, 4))))
    distinct, counts = np.unique(totals, axis=0, return_counts=True)
    weights = np.log(counts) + distinct @ np.asarray(eta)
    weights = np.exp(weights - weights.max())
    return distinct, weights / weights.sum()


@pytest.mark.parametrize(
    ("temperature", "field"), [(1.6, 0.0), (2.3, 0.02), (3.0, -0.5), (4.5, 0.3)]
)
def test_joint_law_of_energy_and_magnetisation_is_exact_on_4x4(temperature, field):
    n = 8192
    parameters = jnp.tile(jnp.array([[temperature, field]]), (n, 1))
    spins = ising.sample(jax.random.key(7), parameters, size=4, n_sweeps=100)
    drawn = np.asarray(ising.sufficient_statistics(spins))
    distinct, probability = exact_law([1 / temperature, field / temperature])
    index = {tuple(row): i for i, row in enumerate(distinct)}
    observed = np.bincount([index[tuple(row)] for row in drawn], minlength=len(distinct))
    common = n * probability >= 5
    observed = np.append(observed[common], observed[~common].sum())
    expected = n * np.append(probability[common], probability[~common].sum())
    assert stats.chisquare(observed, expected).pvalue > CHI_SQUARE_LEVEL


@pytest.mark.parametrize("temperature", [1.5, 2.1, 2.6, 4.0])
def test_mean_energy_at_zero_field_is_kaufmans(temperature):
    size = 16
    parameters = jnp.tile(jnp.array([[temperature, 0.0]]), (1024, 1))
    spins = ising.sample(jax.random.key(1), parameters, size=size)
    energy = np.asarray(ising.energy_per_site(spins))
    exact = -jax.grad(ising.kaufman_log_partition_per_site)(jnp.array(1 / temperature), size)
    assert abs(energy.mean() - exact) < FIVE_STANDARD_ERRORS * energy.std() / 32
    magnetization = np.asarray(ising.magnetization_per_site(spins))
    assert abs(magnetization.mean()) < FIVE_STANDARD_ERRORS * magnetization.std() / 32


@pytest.mark.parametrize(("temperature", "field"), [(1.2, -1.0), (2.3, 0.1), (3.0, 0.5)])
def test_means_in_a_field_are_the_gradient_of_the_log_partition(temperature, field):
    parameters = jnp.tile(jnp.array([[temperature, field]]), (1024, 1))
    spins = ising.sample(jax.random.key(2), parameters, size=16)
    drawn = np.asarray(ising.sufficient_statistics(spins)) / 16**2
    eta = ising.natural_coordinates(parameters[0])
    exact = jax.grad(ising.log_partition_per_site)(eta, 16)
    error = FIVE_STANDARD_ERRORS * drawn.std(axis=0) / 32
    assert np.all(np.abs(drawn.mean(axis=0) - exact) < error)


def test_both_signs_carry_their_exact_weights_in_a_tiny_field_below_the_critical_temperature():
    size, temperature, field = 16, 1.5, 0.002
    parameters = jnp.tile(jnp.array([[temperature, field]]), (1024, 1))
    spins = ising.sample(jax.random.key(3), parameters, size=size)
    up = float(jnp.mean(ising.magnetization_per_site(spins) > 0))
    # m = 0.9865 at T = 1.5 (Yang 1952)
    expected = 1 / (1 + np.exp(-2 * field / temperature * 0.9865 * size**2))
    assert abs(up - expected) < FIVE_STANDARD_ERRORS * np.sqrt(expected * (1 - expected) / 1024)


def test_each_sample_has_its_own_parameters_whatever_the_chunks():
    temperatures = jnp.linspace(1.0, 5.0, 100)
    fields = jnp.where(jnp.arange(100) % 2 == 0, 1.5, -1.5)
    parameters = jnp.stack([temperatures, fields], axis=1)
    for chunk_size in (32, 1000):
        spins = ising.sample(jax.random.key(0), parameters, size=16, chunk_size=chunk_size)
        magnetization = ising.magnetization_per_site(spins)
        assert jnp.all(jnp.sign(magnetization) == jnp.sign(fields))
        assert jnp.all(jnp.abs(magnetization[:20]) > 0.98)
        assert jnp.mean(jnp.abs(magnetization[-20:])) < 0.8


@pytest.mark.parametrize("make", [
    lambda: jax.random.key(0),
    lambda: jax.random.key(0, impl="rbg"),
    lambda: jax.random.key(0, impl="unsafe_rbg"),
    lambda: jax.random.PRNGKey(0),
])  # fmt: skip
def test_any_key_gives_int8_spins_and_the_same_ones_again(make):
    parameters = jnp.array([[2.0, 0.1], [4.0, 0.0]])
    first = ising.sample(make(), parameters, size=8, n_sweeps=3)
    again = ising.sample(make(), parameters, size=8, n_sweeps=3)
    assert first.dtype == jnp.int8
    assert first.shape == (2, 8, 8)
    assert jnp.all(jnp.abs(first) == 1)
    assert jnp.array_equal(first, again)


def test_keys_and_samples_differ():
    parameters = jnp.tile(jnp.array([[5.0, 0.0]]), (2, 1))
    first = ising.sample(jax.random.key(0), parameters, size=8)
    second = ising.sample(jax.random.key(1), parameters, size=8)
    assert not jnp.array_equal(first, second)
    assert not jnp.array_equal(first[0], first[1])


@pytest.mark.parametrize("size", [4, 8])
def test_continuing_keeps_the_configuration_in_its_place(size):
    # A spin is certain at T = 0.01: one sweep of the heat bath leaves stripes of width two alone.
    columns = jnp.where(jnp.arange(size) // 2 % 2 == 0, 1, -1).astype(jnp.int8)
    start = jnp.stack([jnp.ones((size, size), jnp.int8)] * 3)
    start = start.at[1].set(columns[None, :] * jnp.ones((size, 1), jnp.int8))
    parameters = jnp.tile(jnp.array([[0.01, 0.0]]), (3, 1))
    after = ising.sample(jax.random.key(5), parameters, size=size, n_sweeps=1, initial=start)
    # at H = 0 the global flip chooses either sign
    assert all(
        jnp.array_equal(a, b) or jnp.array_equal(a, -b) for a, b in zip(after, start, strict=True)
    )


def test_continued_chains_stay_at_equilibrium():
    parameters = jnp.tile(jnp.array([[2.6, 0.0]]), (1024, 1))
    spins = ising.sample(jax.random.key(0), parameters, size=16)
    spins = ising.sample(jax.random.key(1), parameters, size=16, n_sweeps=5, initial=spins)
    energy = np.asarray(ising.energy_per_site(spins))
    exact = -jax.grad(ising.kaufman_log_partition_per_site)(jnp.array(1 / 2.6), 16)
    assert abs(energy.mean() - exact) < FIVE_STANDARD_ERRORS * energy.std() / 32


def test_statistics_of_known_configurations():
    board = jnp.asarray((np.indices((6, 6)).sum(0) % 2 * 2 - 1).astype(np.int8))
    assert ising.sufficient_statistics(board).tolist() == [-72, 0]
    assert float(ising.energy_per_site(board)) == 2.0
    assert float(ising.magnetization_per_site(jnp.ones((6, 6), jnp.int8))) == 1.0


def test_new_numbers_do_not_retrace():
    from jaxgeo.systems.ising import sampler

    parameters = jnp.array([[2.0, 0.1], [4.0, 0.0]])
    ising.sample(jax.random.key(0), parameters, size=8)
    before = sampler._sample._cache_size()
    ising.sample(jax.random.key(1), parameters + 0.5, size=8)
    ising.sample(jax.random.key(1), parameters, size=8, n_sweeps=7)
    assert sampler._sample._cache_size() == before


def test_composes_with_jit():
    parameters = jnp.array([[2.0, 0.1], [4.0, 0.0]])
    draw = jax.jit(lambda key, t: ising.sample(key, t, size=8, n_sweeps=4))
    eager = ising.sample(jax.random.key(0), parameters, size=8, n_sweeps=4)
    assert jnp.array_equal(draw(jax.random.key(0), parameters), eager)


@pytest.mark.parametrize(("change", "message"), [
    ({"size": 7}, "got 7"),
    ({"size": 2}, "got 2"),
    ({"n_sweeps": 0}, "got 0"),
    ({"chunk_size": 0}, "got 0"),
    ({"parameters": jnp.array([[2.0, 0.0], [-1.0, 0.5]])}, r"\(-1.0, 0.5\) at index 1"),
    ({"parameters": jnp.array([[2.0, jnp.nan]])}, "nan"),
    ({"parameters": jnp.array([[jnp.inf, 0.0]])}, "inf"),
    ({"parameters": jnp.zeros((0, 2))}, r"\(0, 2\)"),
    ({"initial": jnp.ones((2, 8, 8), jnp.int8)}, r"\(2, 8, 8\)"),
    ({"initial": jnp.zeros((1, 8, 8), jnp.int8)}, "got 0"),
])  # fmt: skip
def test_bad_input_is_refused_with_its_value(change, message):
    arguments = {"parameters": jnp.array([[2.0, 0.0]]), "size": 8} | change
    with pytest.raises(ValueError, match=message):
        ising.sample(jax.random.key(0), **arguments)


def equilibrium_samples():
    low, high = jnp.array([[1.0, -2.0]]), jnp.array([[5.0, 2.0]])
    parameters = low + (high - low) * jax.random.uniform(jax.random.key(1), (1024, 2))
    return ising.sample(jax.random.key(2), parameters, size=16), parameters


def test_equilibrium_check_finds_what_was_planted_and_nothing_else():
    samples, parameters = equilibrium_samples()
    clean = ising.equilibrium_check(samples, parameters)
    assert clean.suspects.size == 0
    assert clean.scores.shape == (1024,)
    temperature, field = np.asarray(parameters).T
    frozen = np.flatnonzero((temperature < 1.8) & (np.abs(field) > 0.3))[:3]
    cold = np.flatnonzero((temperature > 3.8) & (np.abs(field) < 0.5))[:3]
    planted = samples.at[frozen].multiply(-1).at[cold].set(1)
    report = ising.equilibrium_check(planted, parameters)
    assert set(report.suspects) == {*frozen, *cold}
    assert np.all(np.diff(report.scores[report.suspects]) <= 0)


def test_equilibrium_check_accepts_either_sign_at_zero_field():
    parameters = jnp.stack([jnp.linspace(1.5, 3.0, 1024), jnp.zeros(1024)], axis=1)
    samples = ising.sample(jax.random.key(0), parameters, size=16)
    # around T_c one in a thousand 16×16 lattices truly is split by a wall
    assert ising.equilibrium_check(samples, parameters).suspects.size <= 2


def test_equilibrium_check_refuses_bad_input():
    samples, parameters = jnp.ones((50, 4, 4), jnp.int8), jnp.ones((50, 2))
    with pytest.raises(ValueError, match=r"\(50, 3\)"):
        ising.equilibrium_check(samples, jnp.ones((50, 3)))
    with pytest.raises(ValueError, match="got 50"):
        ising.equilibrium_check(samples, parameters, neighbours=50)
