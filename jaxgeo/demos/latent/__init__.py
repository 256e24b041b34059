"""The latent space of handwritten digits, or of one's own samples: VAE, RHVAE, their geodesics."""

from jaxgeo.demos.latent.run import run_latent as run_latent
from jaxgeo.demos.latent.summary import latent_summary as latent_summary
