"""Known systems and real data, taken the whole way, with a report."""

from jaxgeo.demos.data import Samples as Samples
from jaxgeo.demos.data import digits as digits
from jaxgeo.demos.data import own_samples as own_samples
from jaxgeo.demos.diffusion import diffusion_summary as diffusion_summary
from jaxgeo.demos.diffusion import run_diffusion as run_diffusion
from jaxgeo.demos.ising import ISING_DOMAIN as ISING_DOMAIN
from jaxgeo.demos.ising import PUBLISHED as PUBLISHED
from jaxgeo.demos.ising import exact_ising as exact_ising
from jaxgeo.demos.ising import free_energy as free_energy
from jaxgeo.demos.ising import run_ising as run_ising
from jaxgeo.demos.ising import table as table
from jaxgeo.demos.latent import latent_summary as latent_summary
from jaxgeo.demos.latent import run_latent as run_latent
