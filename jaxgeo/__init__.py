"""jaxgeo: differential geometry of generative models' latent spaces, in JAX.

Samples of a generator → log-partition function → Fisher metric → connection → geodesics →
phases, every step a pure function that composes with `jit`, `vmap` and `grad`.

Whatever needs flax, optax, orbax, scipy or matplotlib is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxgeo._results import RESULTS as RESULTS
from jaxgeo.geodesics import DistanceMap as DistanceMap
from jaxgeo.geodesics import FixedPoint as FixedPoint
from jaxgeo.geodesics import FrechetMean as FrechetMean
from jaxgeo.geodesics import GeodesicSolution as GeodesicSolution
from jaxgeo.geodesics import JacobiField as JacobiField
from jaxgeo.geodesics import KMeans as KMeans
from jaxgeo.geodesics import KMedoids as KMedoids
from jaxgeo.geodesics import Relaxation as Relaxation
from jaxgeo.geodesics import Shooting as Shooting
from jaxgeo.geodesics import TangentPCA as TangentPCA
from jaxgeo.geodesics import alpha_geodesic as alpha_geodesic
from jaxgeo.geodesics import conjugate_time as conjugate_time
from jaxgeo.geodesics import distance as distance
from jaxgeo.geodesics import distance_map as distance_map
from jaxgeo.geodesics import exp as exp
from jaxgeo.geodesics import frechet_mean as frechet_mean
from jaxgeo.geodesics import geodesic_bvp as geodesic_bvp
from jaxgeo.geodesics import geodesic_ivp as geodesic_ivp
from jaxgeo.geodesics import jacobi_field as jacobi_field
from jaxgeo.geodesics import kmeans as kmeans
from jaxgeo.geodesics import kmedoids as kmedoids
from jaxgeo.geodesics import log as log
from jaxgeo.geodesics import pairwise_distances as pairwise_distances
from jaxgeo.geodesics import parallel_transport as parallel_transport
from jaxgeo.geodesics import shortest_path as shortest_path
from jaxgeo.geodesics import tangent_pca as tangent_pca
from jaxgeo.geometry import alpha_christoffel as alpha_christoffel
from jaxgeo.geometry import bregman_divergence as bregman_divergence
from jaxgeo.geometry import christoffel as christoffel
from jaxgeo.geometry import christoffel_first as christoffel_first
from jaxgeo.geometry import conjugate_potential as conjugate_potential
from jaxgeo.geometry import covariant_derivative as covariant_derivative
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
from jaxgeo.geometry import symmetrized_divergence as symmetrized_divergence
from jaxgeo.geometry import volume_density as volume_density
from jaxgeo.grids import GridSpline as GridSpline
from jaxgeo.grids import on_grid as on_grid
from jaxgeo.metrics import ConformalMetric as ConformalMetric
from jaxgeo.metrics import FisherPullbackMetric as FisherPullbackMetric
from jaxgeo.metrics import HessianMetric as HessianMetric
from jaxgeo.metrics import InterpolatedMetric as InterpolatedMetric
from jaxgeo.metrics import KernelMetric as KernelMetric
from jaxgeo.metrics import LocallyAdaptiveMetric as LocallyAdaptiveMetric
from jaxgeo.metrics import OffSupportWarning as OffSupportWarning
from jaxgeo.metrics import ProductMetric as ProductMetric
from jaxgeo.metrics import PullbackMetric as PullbackMetric
from jaxgeo.metrics import RegularizedMetric as RegularizedMetric
from jaxgeo.metrics import ReparametrizedMetric as ReparametrizedMetric
from jaxgeo.metrics import SpacetimeMetric as SpacetimeMetric
from jaxgeo.metrics import SumMetric as SumMetric
from jaxgeo.metrics import expected_pullback_metric as expected_pullback_metric

if TYPE_CHECKING:
    from jaxgeo import diffusion as diffusion
    from jaxgeo import distributions as distributions
    from jaxgeo import interop as interop
    from jaxgeo import likelihoods as likelihoods
    from jaxgeo import models as models
    from jaxgeo import phases as phases
    from jaxgeo import plotting as plotting
    from jaxgeo import problems as problems
    from jaxgeo import reconstruction as reconstruction
    from jaxgeo import slices as slices
    from jaxgeo import systems as systems
    from jaxgeo.geodesics.graphs import graph_path as graph_path
    from jaxgeo.geodesics.neural import NeuralGeodesic as NeuralGeodesic
    from jaxgeo.geodesics.neural import NeuralGeodesicFit as NeuralGeodesicFit
    from jaxgeo.geodesics.neural import fit_neural_geodesics as fit_neural_geodesics
    from jaxgeo.geodesics.spacetime import spacetime_geodesic as spacetime_geodesic
    from jaxgeo.reconstruction import CurvedFamilyFit as CurvedFamilyFit
    from jaxgeo.reconstruction import LogPartitionFit as LogPartitionFit
    from jaxgeo.reconstruction import fit_curved_family as fit_curved_family
    from jaxgeo.reconstruction import fit_log_partition as fit_log_partition

__version__ = "0.1.0"

_MODULES = (
    "diffusion",
    "distributions",
    "interop",
    "likelihoods",
    "models",
    "phases",
    "plotting",
    "problems",
    "reconstruction",
    "slices",
    "systems",
)
_LAZY = {
    "CurvedFamilyFit": "reconstruction",
    "LogPartitionFit": "reconstruction",
    "fit_curved_family": "reconstruction",
    "fit_log_partition": "reconstruction",
    "graph_path": "geodesics.graphs",
    "NeuralGeodesic": "geodesics.neural",
    "NeuralGeodesicFit": "geodesics.neural",
    "fit_neural_geodesics": "geodesics.neural",
    "spacetime_geodesic": "geodesics.spacetime",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"jaxgeo.{name}")
    if name in _LAZY:
        return getattr(importlib.import_module(f"jaxgeo.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'jaxgeo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES, *_LAZY])
