"""Monte Carlo samples of the periodic square-lattice Ising model, 32 lattices to a machine word.

One bit of a `uint32` is one spin of one sample, so a word holds the same site of 32 samples, each
at its own temperature and field. A half-lattice (checkerboard) heat-bath step is then a few
hundred bitwise operations on words: the four neighbours are counted by a bitwise adder, and the
Bernoulli draws compare 24 random bit planes with the 24 bits of each sample's five acceptance
probabilities, all five at once.

Multi-spin coding: Creutz, Bhanot and Neuberger, Phys. Rev. Lett. 43 (1979) 1161 ff. The random
planes come from xoshiro128++ (Blackman and Vigna 2021, arXiv 1805.01407), one generator per word,
seeded in all of its 128 bits by `jax.random`.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Int8, PRNGKeyArray, UInt32

CRITICAL_TEMPERATURE = 2 / math.log1p(math.sqrt(2))
"""T_c of the infinite lattice at H = 0: sinh(2/T_c) = 1 (Onsager 1944)."""

_PLANES = 24  # bits of an acceptance probability: float32's own precision
_WORD = 32
_FLIP_EVERY = 64  # sweeps between two proposals to flip all spins

Planes = UInt32[Array, "rows columns words"]
State = tuple[
    UInt32[Array, "..."], UInt32[Array, "..."], UInt32[Array, "..."], UInt32[Array, "..."]
]


def sample(
    key: PRNGKeyArray | UInt32[Array, "..."],
    parameters: Float[Array, "..."],
    *,
    size: int = 64,
    n_sweeps: int | None = None,
    initial: Int8[Array, "..."] | None = None,
    chunk_size: int = 256,
) -> Int8[Array, "n L L"]:
    """Draw one configuration at each (T, H) from p(s) ∝ exp((Σ_⟨ij⟩ s_i s_j + H Σ_i s_i) / T).

    Each chain starts with all spins along the field (never quenched from high temperature, which
    freezes domains in), and alternates heat-bath sweeps of the two sublattices. Every 64 sweeps,
    and at both ends, all spins are flipped together with the heat-bath probability
    1/(1 + exp(2 H M / T)), M = Σ s: so both signs of the magnetisation carry their exact weights
    at small and zero field, where single spin flips cannot cross between them.

    Parameters
    ----------
    key : any JAX PRNG key; one key gives one result.
    parameters : (n, 2) temperatures T > 0 and fields H, in units of the coupling.
    size : even side L ≥ 4 of the periodic lattice.
    n_sweeps : sweeps of every chain. None takes for each chain what its own relaxation asks,
        `relaxation_sweeps`: tens far from the critical point, 10⁵ at it for L = 64.
    initial : (n, size, size) spins ±1 to continue from, for fresh samples between epochs.
    chunk_size : samples run together, so that their working set stays in the cache.

    Returns
    -------
    (n, size, size) spins ±1 as int8.

    Raises
    ------
    ValueError : T ≤ 0 or parameters not finite, a size odd or below 4, shapes that disagree.
        Values are checked only outside of `jit`.

    Notes
    -----
    Acceptance probabilities are rounded to multiples of 2⁻²⁴. Cost: n L² spin updates a sweep,
    nearly 10⁹ a second on a CPU core; samples are padded to multiples of 32.

    >>> import jax, jax.numpy as jnp
    >>> spins = sample(jax.random.key(0), jnp.array([[1.0, 0.5], [1.0, -0.5]]), size=8)
    >>> spins.shape, spins.mean((1, 2)).round(1).tolist()
    ((2, 8, 8), [1.0, -1.0])
    """
    parameters = jnp.asarray(parameters)
    _check(parameters, size, n_sweeps, initial, chunk_size)
    if n_sweeps is None:
        sweeps = relaxation_sweeps(parameters, size=size)
    else:
        sweeps = jnp.full(parameters.shape[0], n_sweeps, dtype=jnp.int32)
    words = min(-(-chunk_size // _WORD), -(-parameters.shape[0] // _WORD))
    return _sample(key, parameters, sweeps, initial, size, words)


def relaxation_sweeps(parameters: Float[Array, "n 2"], *, size: int) -> Int[Array, " n"]:
    """Heat-bath sweeps that bring an ordered start at each (T, H) to equilibrium.

    sweeps = 64 + 8 min(ξ, L)^2.17, z = 2.17 the dynamic exponent and ξ the correlation length,
    1/ξ = max(1.76 |T − T_c|/T_c, 3 |H/T|^{8/15}), near its scaling forms at the critical point.

    >>> import jax.numpy as jnp
    >>> relaxation_sweeps(jnp.array([[5.0, 0.0], [CRITICAL_TEMPERATURE, 0.0]]), size=64).tolist()
    [65, 66514]
    """
    temperature, field = parameters[:, 0], parameters[:, 1]
    thermal = 1.76 * jnp.abs(temperature / CRITICAL_TEMPERATURE - 1)
    magnetic = 3 * jnp.abs(field / temperature) ** (8 / 15)
    length = jnp.minimum(1 / jnp.maximum(jnp.maximum(thermal, magnetic), 1 / size), size)
    return 64 + (8 * length**2.17).astype(jnp.int32)


def _check(parameters, size, n_sweeps, initial, chunk_size):
    if size < 4 or size % 2:
        raise ValueError(f"size must be an even number, at least 4, got {size}")
    if parameters.ndim != 2 or parameters.shape[1] != 2 or parameters.shape[0] == 0:
        raise ValueError(f"parameters must be (n, 2): T and H; got shape {parameters.shape}")
    if n_sweeps is not None and n_sweeps < 1:
        raise ValueError(f"n_sweeps must be at least 1, got {n_sweeps}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    expected = (parameters.shape[0], size, size)
    if initial is not None and initial.shape != expected:
        raise ValueError(f"initial must have shape {expected}, got {initial.shape}")
    if not isinstance(parameters, jax.core.Tracer):
        values = np.asarray(parameters)
        bad = ~np.isfinite(values).all(1) | ~(values[:, 0] > 0)
        if bad.any():
            i = int(bad.argmax())
            raise ValueError(
                "parameters must be finite with T > 0, "
                f"got (T, H) = {tuple(values[i].tolist())} at index {i}"
            )
    if initial is not None and not isinstance(initial, jax.core.Tracer):
        values = np.asarray(initial)
        wrong = values[np.abs(values) != 1]
        if wrong.size:
            raise ValueError(f"initial must hold spins ±1, got {wrong[0]}")


@partial(jax.jit, static_argnames=("size", "words"))
def _sample(key, parameters, sweeps, initial, size, words):
    """Sort the chains by length, so that a chunk holds chains of like length; run; unsort."""
    n = parameters.shape[0]
    n_chunks = -(-n // (words * _WORD))
    order = jnp.argsort(sweeps)
    # Padding repeats the first, shortest chains.
    index = jnp.concatenate([jnp.resize(order, n_chunks * words * _WORD - n), order])
    index = index.reshape(n_chunks, words * _WORD)

    def chunk(inputs):
        i, key = inputs
        seed, flips, run = jax.random.split(key, 3)
        natural = jnp.stack([1 / parameters[i, 0], parameters[i, 1] / parameters[i, 0]])
        natural = natural.reshape(2, words, _WORD)
        if initial is None:
            start = jnp.full((2, size, size // 2, words), 2**_WORD - 1, jnp.uint32)
        else:
            start = _pack(initial[i].reshape(words, _WORD, size, size))
        random = tuple(jax.random.bits(seed, (4, size, size // 2, words), jnp.uint32))
        start = _flip_all(start[0], start[1], natural[1], flips)
        halves = _chain(start, random, natural, run, jnp.max(sweeps[i]))
        return _unpack(jnp.stack(halves)).reshape(words * _WORD, size, size)

    spins = lax.map(chunk, (index, jax.random.split(key, n_chunks)))
    spins = spins.reshape(-1, size, size)[-n:]
    return jnp.zeros_like(spins).at[order].set(spins, unique_indices=True)


def _chain(halves, random, natural, key, n_sweeps):
    """Half-sweeps in turn: the half drawn last is the condition of the next one."""
    thresholds = _thresholds(natural)[:, :, None, None, :]
    even_rows = (jnp.arange(halves[0].shape[0]) % 2 == 0)[:, None, None]

    def half_sweep(carry):
        i, drawn, other, random = carry
        shifted_left = even_rows == (i % 2 == 0)
        drawn, random = _half_sweep(other, shifted_left, thresholds, random)
        due = ((i + 1) % (2 * _FLIP_EVERY) == 0) | (i + 1 == 2 * n_sweeps)
        drawn, other = lax.cond(
            due,
            lambda: _flip_all(drawn, other, natural[1], jax.random.fold_in(key, i)),
            lambda: (drawn, other),
        )
        return i + 1, other, drawn, random

    carry = (jnp.zeros((), jnp.int32), *halves, random)
    return lax.while_loop(lambda carry: carry[0] < 2 * n_sweeps, half_sweep, carry)[1:3]


def _thresholds(natural: Float[Array, "2 words bits"]) -> UInt32[Array, "planes classes words"]:
    """The bits of P(s = +1 | m of 4 neighbours up), least significant first."""
    beta, field = natural
    neighbours = jnp.arange(-4, 5, 2, dtype=beta.dtype)[:, None, None]
    probability = jax.nn.sigmoid(2 * (beta[None] * neighbours + field[None]))
    scaled = jnp.round(probability * 2**_PLANES)
    integers = jnp.clip(scaled, 0, 2**_PLANES - 1).astype(jnp.uint32)
    bits = integers[None] >> jnp.arange(_PLANES, dtype=jnp.uint32)[:, None, None, None] & 1
    return _pack_bits(bits)


def _half_sweep(
    other: Planes,
    shifted_left: Bool[Array, "rows 1 1"],
    thresholds: UInt32[Array, "planes 5 1 1 words"],
    random: State,
) -> tuple[Planes, State]:
    """Draw every spin of one sublattice given the other one.

    A row of a half-lattice has every second site, so that of a spin's two neighbours in its row
    one has the spin's own index, the other the next or, where `shifted_left`, the last one.
    """
    left, right = jnp.roll(other, 1, 1), jnp.roll(other, -1, 1)
    a, b = other, jnp.where(shifted_left, left, right)
    c, d = jnp.roll(other, 1, 0), jnp.roll(other, -1, 0)
    below = [jnp.zeros_like(other)] * 5
    for bits in thresholds:
        plane, random = _next_plane(random)
        # Is the number so far below the threshold? The majority of (bit, ¬plane, so far).
        below = [(t & (~plane | s)) | (~plane & s) for t, s in zip(bits, below, strict=True)]
    parity, any_pair = a ^ b ^ c ^ d, (a & b) | (c & d)
    all_up, all_down = a & b & c & d, ~(a | b | c | d)
    counts = (
        all_down,
        parity & ~any_pair,
        ~(parity | all_up | all_down),
        parity & any_pair,
        all_up,
    )
    new = jnp.zeros_like(other)
    for count, up in zip(counts, below, strict=True):
        new = new | (count & up)
    return new, random


def _next_plane(state: State) -> tuple[Planes, State]:
    """One step of xoshiro128++."""
    s0, s1, s2, s3 = state
    out = _rotate(s0 + s3, 7) + s0
    s2, s3, shifted = s2 ^ s0, s3 ^ s1, s1 << 9
    return out, (s0 ^ s3, s1 ^ s2, s2 ^ shifted, _rotate(s3, 11))


def _rotate(x, k):
    return (x << k) | (x >> (_WORD - k))


def _flip_all(even, odd, field, key):
    """Flip each sample as a whole with probability 1/(1 + exp(2 h M)): a heat bath of its sign."""
    up = sum(jnp.sum(_bits(half), axis=(0, 1), dtype=jnp.int32) for half in (even, odd))
    magnetization = (2 * up - 2 * even.shape[0] * even.shape[1]).astype(field.dtype)
    probability = jax.nn.sigmoid(-2 * field * magnetization)
    mask = _pack_bits(jax.random.uniform(key, field.shape, field.dtype) < probability)
    return even ^ mask[None, None], odd ^ mask[None, None]


def _pack_bits(bits: Array) -> UInt32[Array, "..."]:
    """(…, 32) bits to (…) words."""
    return jnp.sum(bits.astype(jnp.uint32) << _positions(bits.ndim), axis=-1, dtype=jnp.uint32)


def _bits(words: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """(…) words to (…, 32) bits."""
    return words[..., None] >> _positions(words.ndim + 1) & 1


def _positions(rank):
    return lax.expand_dims(jnp.arange(_WORD, dtype=jnp.uint32), range(rank - 1))


def _pack(spins: Int8[Array, "words bits L L"]) -> UInt32[Array, "2 L half words"]:
    words, bits, size, _ = spins.shape
    pairs = (spins > 0).reshape(words, bits, size, size // 2, 2)
    pairs = pairs.at[:, :, 1::2].set(pairs[:, :, 1::2, :, ::-1])  # odd rows start on the odd half
    return _pack_bits(jnp.transpose(pairs, (4, 2, 3, 0, 1)))


def _unpack(halves: UInt32[Array, "2 L half words"]) -> Int8[Array, "words bits L L"]:
    _, size, _, words = halves.shape
    pairs = jnp.transpose(_bits(halves).astype(jnp.int8) * 2 - 1, (3, 4, 1, 2, 0))
    pairs = pairs.at[:, :, 1::2].set(pairs[:, :, 1::2, :, ::-1])
    return pairs.reshape(words, _WORD, size, size)
