"""What a metric implies at a point or along a curve."""

from jaxgeo.geometry.connection import alpha_christoffel as alpha_christoffel
from jaxgeo.geometry.connection import christoffel as christoffel
from jaxgeo.geometry.connection import christoffel_first as christoffel_first
from jaxgeo.geometry.connection import covariant_derivative as covariant_derivative
from jaxgeo.geometry.connection import geodesic_acceleration as geodesic_acceleration
from jaxgeo.geometry.curvature import ricci as ricci
from jaxgeo.geometry.curvature import riemann as riemann
from jaxgeo.geometry.curvature import scalar_curvature as scalar_curvature
from jaxgeo.geometry.curvature import sectional_curvature as sectional_curvature
from jaxgeo.geometry.curves import energy as energy
from jaxgeo.geometry.curves import length as length
from jaxgeo.geometry.curves import resample as resample
from jaxgeo.geometry.duality import bregman_divergence as bregman_divergence
from jaxgeo.geometry.duality import conjugate_potential as conjugate_potential
from jaxgeo.geometry.duality import expectation_parameters as expectation_parameters
from jaxgeo.geometry.duality import exponential_geodesic as exponential_geodesic
from jaxgeo.geometry.duality import mixture_geodesic as mixture_geodesic
from jaxgeo.geometry.duality import natural_parameters as natural_parameters
from jaxgeo.geometry.duality import symmetrized_divergence as symmetrized_divergence
from jaxgeo.geometry.inner import inner as inner
from jaxgeo.geometry.inner import log_volume_density as log_volume_density
from jaxgeo.geometry.inner import norm as norm
from jaxgeo.geometry.inner import volume_density as volume_density
