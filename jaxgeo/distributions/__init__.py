"""Probability laws on a manifold: by its volume, by its Brownian motion, and about a mean."""

from jaxgeo.distributions.brownian import BrownianPath as BrownianPath
from jaxgeo.distributions.brownian import brownian_log_density as brownian_log_density
from jaxgeo.distributions.brownian import brownian_motion as brownian_motion
from jaxgeo.distributions.volume import VolumeSamples as VolumeSamples
from jaxgeo.distributions.volume import sample_volume as sample_volume
