r"""The totally asymmetric exclusion process with open ends, solved: samples and exact answers.

Particles on L sites enter at the left with rate α where the first site is empty, hop to an empty
right neighbour with rate 1, and leave the last site with rate β; 0 < α, β ≤ 1. A configuration is
τ ∈ {0, 1}^L, and parameters are t = (α, β).

Everything rests on one identity. The matrix product of Derrida, Evans, Hakim and Pasquier (1993)
has, for any α and β, a representation without a negative entry, levels n = 0, 1, …,

$$ D = 1 + \sum_n |n\rangle\langle n{+}1|, \quad E = 1 + a|0\rangle\langle 0|
   + \sum_n |n{+}1\rangle\langle n|, \quad \langle W| = \langle 0|, \quad
   |V\rangle = \sum_n b^n |n\rangle, $$

a = (1 − α)/α, b = (1 − β)/β: its off-diagonal κ² = (α + β − 1)/(αβ), negative below the line
α + β = 1, never appears. Read as a sum over paths it is a second, hidden line ξ ∈ {0, 1}^L (Bryc
and Zatitskii 2024): with S_k = Σ_{i≤k} (τ_i − ξ_i), m = −min S and e = S_L + m,

$$ p(\tau, \xi) = a^m b^e / Z_L . $$

So (τ, ξ) is an exponential family in (log a, log b), and its path is a simple random walk whose
minimum and end alone are weighted: `sample` draws them, then the walk, in O(L). The chain itself
is the marginal, and no exponential family: its score is (E[m|τ] − E[m], E[e|τ] − E[e]) in
(log a, log b), its Fisher metric Cov(m, e) − E[Cov(m, e|τ)].

The current is not the Fisher potential. In the bulk of the low-density phase the stationary state
is a Bernoulli product of density α, of metric L/(α(1 − α)) in α: the potential is the negative
entropy x log x + (1 − x) log(1 − x) a site, x = min(α, β, ½), not the current x(1 − x), whose
second derivative is −2. An affine function of that entropy misses the current on [0.01, 0.99]²
by 0.0056 at best, its gradient by 0.115 (root mean square): no reconstruction of the metric can
come nearer to the current.
"""

from jaxgeo.systems.tasep.exact import (
    COEXISTENCE,
    HIGH_DENSITY,
    LOW_DENSITY,
    MAXIMAL_CURRENT,
    current,
    current_bulk,
    density_profile,
    log_normalization,
    log_prob,
    phase,
)
from jaxgeo.systems.tasep.fisher import FisherEstimate, estimate_fisher_metric, fisher_metric
from jaxgeo.systems.tasep.sampler import KineticMonteCarlo, kinetic_monte_carlo, sample

__all__ = [
    "COEXISTENCE",
    "HIGH_DENSITY",
    "LOW_DENSITY",
    "MAXIMAL_CURRENT",
    "FisherEstimate",
    "KineticMonteCarlo",
    "current",
    "current_bulk",
    "density_profile",
    "estimate_fisher_metric",
    "fisher_metric",
    "kinetic_monte_carlo",
    "log_normalization",
    "log_prob",
    "phase",
    "sample",
]
