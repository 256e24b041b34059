"""Every test runs in float64, with no silent rank promotion and warnings as errors."""

import os

os.environ.setdefault("JAX_PLATFORMS", os.environ.get("JAXGEO_TEST_PLATFORM", "cpu"))

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
