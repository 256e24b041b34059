"""Probability laws on a manifold: by its volume, by its Brownian motion, and about a mean."""

from jaxgeo.distributions.brownian import BrownianPath as BrownianPath
from jaxgeo.distributions.brownian import brownian_log_density as brownian_log_density
from jaxgeo.distributions.brownian import brownian_motion as brownian_motion
from jaxgeo.distributions.land import Land as Land
from jaxgeo.distributions.land import land_log_density as land_log_density
from jaxgeo.distributions.land import locally_adaptive_normal as locally_adaptive_normal
from jaxgeo.distributions.land import sample_land as sample_land
from jaxgeo.distributions.land_fit import LandFit as LandFit
from jaxgeo.distributions.land_fit import fit_land as fit_land
from jaxgeo.distributions.volume import VolumeSamples as VolumeSamples
from jaxgeo.distributions.volume import sample_volume as sample_volume
