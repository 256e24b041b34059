"""jaxgeo: differential geometry of generative models' latent spaces, in JAX.

Samples of a generator → log-partition function → Fisher metric → connection → geodesics →
phases, every step a pure function that composes with `jit`, `vmap` and `grad`.

Whatever needs flax, optax, orbax or matplotlib is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxgeo._results import RESULTS as RESULTS
from jaxgeo.geodesics import GeodesicSolution as GeodesicSolution
from jaxgeo.geodesics import Relaxation as Relaxation
from jaxgeo.geodesics import Shooting as Shooting
from jaxgeo.geodesics import distance as distance
from jaxgeo.geodesics import exp as exp
from jaxgeo.geodesics import geodesic_bvp as geodesic_bvp
from jaxgeo.geodesics import geodesic_ivp as geodesic_ivp
from jaxgeo.geodesics import log as log
from jaxgeo.geometry import bregman_divergence as bregman_divergence
from jaxgeo.geometry import christoffel as christoffel
from jaxgeo.geometry import christoffel_first as christoffel_first
from jaxgeo.geometry import energy as energy
from jaxgeo.geometry import expectation_parameters as expectation_parameters
from jaxgeo.geometry import exponential_geodesic as exponential_geodesic
from jaxgeo.geometry import geodesic_acceleration as geodesic_acceleration
from jaxgeo.geometry import inner as inner
from jaxgeo.geometry import length as length
from jaxgeo.geometry import log_volume_density as log_volume_density
from jaxgeo.geometry import mixture_geodesic as mixture_geodesic
from jaxgeo.geometry import natural_parameters as natural_parameters
from jaxgeo.geometry import norm as norm
from jaxgeo.geometry import resample as resample
from jaxgeo.geometry import ricci as ricci
from jaxgeo.geometry import riemann as riemann
from jaxgeo.geometry import scalar_curvature as scalar_curvature
from jaxgeo.geometry import sectional_curvature as sectional_curvature
from jaxgeo.geometry import volume_density as volume_density
from jaxgeo.grids import on_grid as on_grid
from jaxgeo.metrics import HessianMetric as HessianMetric
from jaxgeo.metrics import PullbackMetric as PullbackMetric
from jaxgeo.metrics import RegularizedMetric as RegularizedMetric
from jaxgeo.metrics import ReparametrizedMetric as ReparametrizedMetric

if TYPE_CHECKING:
    from jaxgeo import phases as phases
    from jaxgeo import plotting as plotting
    from jaxgeo import problems as problems
    from jaxgeo import reconstruction as reconstruction
    from jaxgeo import systems as systems
    from jaxgeo.reconstruction import LogPartitionFit as LogPartitionFit
    from jaxgeo.reconstruction import fit_log_partition as fit_log_partition

__version__ = "0.1.0"

_MODULES = ("phases", "plotting", "problems", "reconstruction", "systems")
_FROM_RECONSTRUCTION = ("LogPartitionFit", "fit_log_partition")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"jaxgeo.{name}")
    if name in _FROM_RECONSTRUCTION:
        return getattr(importlib.import_module("jaxgeo.reconstruction"), name)
    raise AttributeError(f"module 'jaxgeo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES, *_FROM_RECONSTRUCTION])
