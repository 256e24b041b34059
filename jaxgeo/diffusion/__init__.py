"""Diffusion: noise schedules, and the samplers that a denoiser gives, exact or learned."""

from jaxgeo.diffusion.samplers import DDIM as DDIM
from jaxgeo.diffusion.samplers import Denoiser as Denoiser
from jaxgeo.diffusion.samplers import Heun as Heun
from jaxgeo.diffusion.samplers import ProbabilityFlow as ProbabilityFlow
from jaxgeo.diffusion.samplers import ReverseSDE as ReverseSDE
from jaxgeo.diffusion.samplers import score as score
from jaxgeo.diffusion.samplers import velocity as velocity
from jaxgeo.diffusion.schedules import VariancePreserving as VariancePreserving
