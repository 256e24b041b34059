r"""The likeliest sufficient statistic, with the potential that belongs to it.

Let $f = A\varphi$, and let $\psi_A$ be a potential with $\nabla\psi_A(\eta) = E[f|\eta]$, by
regression: linear in A, as $f$ is. Then the probability that sample i belongs to its own
parameter and not to one of K others drawn like it, one out of each cell of the domain but its own,

$$ \frac{\exp(\langle A\varphi_i, \eta_i\rangle - \psi_A(\eta_i))}
        {\sum_j \exp(\langle A\varphi_i, \eta_j\rangle - \psi_A(\eta_j))}, $$

has logits that are linear in A: the likelihood of all samples is concave, and Newton finds its
one maximum. Beside the pairs of `statistic.py`, which know nothing of $\psi$, it also uses that
$E[f|\eta]$ is a gradient and changes by the scatter of $f$.

A ridge keeps A small, raised where the features help no more than noise would and lowered where
they do, until the evidence is greatest.
"""

from typing import NamedTuple

import numpy as np

CHUNK = 2048
"""Samples whose posteriors are held in memory at a time."""
EVIDENCE, GROUP = 3, 8
"""Updates of a ridge towards the greatest evidence; neighbouring features that share it."""
THINNED = 4
"""One sample in so many tells the curvature: good enough to find the way by."""


class Contest(NamedTuple):
    """Samples, and the parameters that compete for them."""

    features: np.ndarray
    """(n, r) of the samples."""
    eta: np.ndarray
    """(n, d), their own parameters, about the mean."""
    potentials: np.ndarray
    """(n, d r): the potential of every entry of A there, A's rows one after the other."""
    candidates: np.ndarray
    """(K,) rows of the samples whose parameters compete, one out of each cell of `spread_out`."""
    cells: np.ndarray
    """(n,) of the samples: each competes in the place of its own cell's candidate."""


def spread_out(points: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (count,) of `points` (n, d), or all if there are no more: a random one out of each of
    as many cells with equally many points, by cuts across the longest side; and every point's
    cell (n,). Sums over all rows are known from these far better than from as many at random.

    **Cost:** O(n log² n)."""
    points = points / points.std(axis=0)
    rng = np.random.default_rng(0)
    cells = np.empty(len(points), np.int64)
    chosen: list[int] = []

    def divide(rows: np.ndarray, count: int) -> None:
        if count == 1:
            cells[rows] = len(chosen)
            chosen.append(rng.choice(rows))
            return
        side = np.argmax(np.ptp(points[rows], axis=0))
        rows = rows[np.argsort(points[rows, side])]
        first = count // 2
        cut = len(rows) * first // count
        divide(rows[:cut], first)
        divide(rows[cut:], count - first)

    divide(np.arange(len(points)), min(count, len(points)))
    return np.array(chosen), cells


def likeliest_readout(
    contest: Contest, start: np.ndarray, penalty: np.ndarray, max_iterations: int = 30
) -> tuple[np.ndarray, np.ndarray]:
    """A (r, d) of the greatest likelihood, less ½ Σ `penalty` A²: Newton with step halving.

    `penalty` has one entry for each of A. With it the information (d r, d r) about A.

    **Fails:** `LinAlgError` after `max_iterations` without a maximum.

    **Cost:** O(n K r) an iteration."""

    def penalised(a):
        value, slope = log_likelihood(contest, a)
        return value - 0.5 * penalty @ a**2, slope - penalty * a

    a = start.ravel().copy()
    value, slope = penalised(a)
    for _ in range(max_iterations):
        information = curvature(contest, a) + np.diag(penalty)
        unit = np.sqrt(np.diagonal(information))
        step = np.linalg.solve(information / np.outer(unit, unit), slope / unit) / unit
        gain, length = slope @ step, 1.0
        while True:
            ahead, ahead_slope = penalised(a + length * step)
            if ahead >= value + 0.1 * length * gain or length < 1e-3:
                break
            length /= 2
        a, value, slope = a + length * step, ahead, ahead_slope
        if gain < 1e-2:
            return a.reshape(start.shape), information
    raise np.linalg.LinAlgError(f"likelihood not at its maximum: {gain:.3g} nats to be gained")


def most_evident_readout(
    contest: Contest, start: np.ndarray, penalty: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The likeliest A (r, d), its `penalty` (r, d) after `EVIDENCE` steps towards the greatest
    evidence (MacKay 1992, Neural Comput. 4, 415), and the information about A."""
    rows, columns = np.indices(penalty.shape)
    groups = (rows // GROUP * penalty.shape[1] + columns).ravel()
    flat = penalty.ravel()
    readout, information = likeliest_readout(contest, start, flat)
    for _ in range(EVIDENCE):
        flat = evident_penalty(flat, readout.ravel(), information, groups)
        readout, information = likeliest_readout(contest, readout, flat)
    return readout, flat.reshape(penalty.shape), information


def unshrunk(contest: Contest, readout: np.ndarray) -> np.ndarray:
    r"""The likeliest R (d, d) of $f = \varphi A R$, A a `readout` that a ridge holds small.

    What A errs by is missing from the scatter of f, so a ridge that makes f an honest guess makes
    its metric too small, by the share of the entries that are determined in what is known of f's
    size. Over R alone the likelihood of the same samples asks for that share back."""
    d = readout.shape[1]
    own = contest._replace(
        features=contest.features @ readout,
        potentials=contest.potentials @ np.kron(readout, np.eye(d)),
    )
    return likeliest_readout(own, np.eye(d), np.zeros(d * d))[0]


def evident_penalty(
    penalty: np.ndarray, found: np.ndarray, information: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """One step towards the `penalty` (m,) of the greatest evidence: over each of the `groups` (m,)
    of coefficients, Σ penalty c² is to be the number of them that the samples, not the penalty,
    determine.

    `found` (m,) are the likeliest c, `information` (m, m) that about them, penalty included."""
    unit = np.sqrt(np.diagonal(information))
    variance = np.diagonal(np.linalg.inv(information / np.outer(unit, unit))) / unit**2
    wanted, seen = (
        np.bincount(groups, weights=a) for a in (1 - penalty * variance, penalty * found**2)
    )
    return penalty * np.clip(wanted / np.maximum(seen, 1e-12), 0.1, 10)[groups]


def log_likelihood(contest: Contest, a: np.ndarray) -> tuple[float, np.ndarray]:
    """Σ log p(own parameter), and its gradient."""
    others = contest.eta[contest.candidates]
    others_potentials = contest.potentials[contest.candidates]
    value, slope = 0.0, np.zeros(len(a))
    for chunk, own, weight, own_weight in _posteriors(contest, a):
        z, e, p = (m[chunk] for m in (contest.features, contest.eta, contest.potentials))
        value += float(own.sum())
        slope += np.sum(outer(z, e - weight @ others - own_weight[:, None] * e), axis=0)
        slope -= (1 - own_weight) @ p - weight.sum(axis=0) @ others_potentials
    return value, slope


def curvature(contest: Contest, a: np.ndarray) -> np.ndarray:
    """About minus the second derivatives of `log_likelihood`, from one sample in `THINNED`."""
    others = contest.eta[contest.candidates]
    others_potentials = contest.potentials[contest.candidates]
    d = others.shape[1]
    found = np.zeros((len(a), len(a)))
    for chunk, _, weight, own_weight in _posteriors(contest, a, THINNED):
        z, e, p = (m[chunk] for m in (contest.features, contest.eta, contest.potentials))
        own_weight = own_weight[:, None]
        expected = outer(z, weight @ others + own_weight * e)
        expected -= weight @ others_potentials + own_weight * p
        found -= expected.T @ expected
        found += others_potentials.T @ (weight.sum(axis=0)[:, None] * others_potentials)
        found += p.T @ (own_weight * p)
        for k in range(d):
            both = weight @ (others[:, k, None] * others_potentials) + own_weight * e[:, [k]] * p
            both = z.T @ both
            found[k::d] -= both
            found[:, k::d] -= both.T
            products = weight @ (others[:, k, None] * others) + own_weight * e[:, [k]] * e
            for m in range(d):
                found[k::d, m::d] += z.T @ (products[:, [m]] * z)
    return THINNED * found


def _posteriors(contest: Contest, a: np.ndarray, step: int = 1):
    """Chunks of every so many samples, with log p(own parameter), and the posteriors of their
    rivals (k, K) and of their own parameters (k,)."""
    features, eta, potentials, candidates, cells = contest
    others, rival = eta[candidates], potentials[candidates] @ a
    rows = np.arange(0, len(eta), step)
    for chunk in np.array_split(rows, -(-len(rows) // CHUNK)):
        f = features[chunk] @ a.reshape(-1, eta.shape[1])
        own = np.sum(f * eta[chunk], axis=1) - potentials[chunk] @ a
        logits = f @ others.T - rival
        logits[np.arange(len(logits)), cells[chunk]] = -np.inf
        top = np.maximum(logits.max(axis=1), own)
        weight = np.exp(logits - top[:, None])
        own_weight = np.exp(own - top)
        total = weight.sum(axis=1) + own_weight
        yield chunk, own - top - np.log(total), weight / total[:, None], own_weight / total


def outer(z, e):
    """(n, r) and (n, d) to (n, d r)."""
    return (z[:, :, None] * e[:, None, :]).reshape(len(z), -1)
