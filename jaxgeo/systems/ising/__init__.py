"""The two-dimensional Ising model: fast samples, and exact answers to measure against.

Configurations s = ±1 on a periodic L×L square lattice have p(s) ∝ exp(β Σ_⟨ij⟩ s_i s_j + h Σ_i s_i)
with natural coordinates η = (β, h) = (1/T, H/T); the coordinates of parameters and plots are
t = (T, H).
"""

from jaxgeo.systems.ising.exact import (
    log_partition_per_site,
    natural_coordinates,
    temperature_and_field,
)
from jaxgeo.systems.ising.sampler import (
    CRITICAL_TEMPERATURE,
    energy_per_site,
    magnetization_per_site,
    relaxation_sweeps,
    sample,
    sufficient_statistics,
)

__all__ = [
    "CRITICAL_TEMPERATURE",
    "energy_per_site",
    "log_partition_per_site",
    "magnetization_per_site",
    "natural_coordinates",
    "relaxation_sweeps",
    "sample",
    "sufficient_statistics",
    "temperature_and_field",
]
