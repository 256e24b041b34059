"""A diffusion model of handwritten digits, or one's own samples: phases of its latent space."""

from jaxgeo.demos.diffusion.run import run_diffusion as run_diffusion
from jaxgeo.demos.diffusion.summary import diffusion_summary as diffusion_summary
