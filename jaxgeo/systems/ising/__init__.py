"""The two-dimensional Ising model: fast samples, and exact answers to measure against.

Configurations s = ±1 on a periodic L×L lattice have p(s) ∝ exp(β Σ_⟨ij⟩ s_i s_j + h Σ_i s_i) with
natural coordinates η = (β, h) = (1/T, H/T); parameters and plots use t = (T, H).
"""

from jaxgeo.systems.ising.exact import (
    brute_force_log_partition,
    exact_metric,
    free_energy_per_site,
    kaufman_log_partition_per_site,
    log_partition_per_site,
    natural_coordinates,
    onsager_log_partition_per_site,
    specific_heat_peak,
    temperature_and_field,
)
from jaxgeo.systems.ising.observables import (
    EquilibriumReport,
    energy_per_site,
    equilibrium_check,
    magnetization_per_site,
    sufficient_statistics,
)
from jaxgeo.systems.ising.sampler import CRITICAL_TEMPERATURE, relaxation_sweeps, sample

__all__ = [
    "CRITICAL_TEMPERATURE",
    "EquilibriumReport",
    "brute_force_log_partition",
    "energy_per_site",
    "equilibrium_check",
    "exact_metric",
    "free_energy_per_site",
    "kaufman_log_partition_per_site",
    "log_partition_per_site",
    "magnetization_per_site",
    "natural_coordinates",
    "onsager_log_partition_per_site",
    "relaxation_sweeps",
    "sample",
    "specific_heat_peak",
    "sufficient_statistics",
    "temperature_and_field",
]
