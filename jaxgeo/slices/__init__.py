"""Two-dimensional slices of the latent space of any generator: decode, store, measure."""

from jaxgeo.slices.evaluate import evaluate as evaluate
from jaxgeo.slices.files import load_slice as load_slice
from jaxgeo.slices.files import save_slice as save_slice
from jaxgeo.slices.grid import SliceGrid as SliceGrid
from jaxgeo.slices.interpolation import largest_step as largest_step
from jaxgeo.slices.interpolation import path_length as path_length
from jaxgeo.slices.interpolation import perceptual_path_length as perceptual_path_length
from jaxgeo.slices.interpolation import total_curvature as total_curvature
from jaxgeo.slices.plane import Slice as Slice
from jaxgeo.slices.plane import random_slice as random_slice
from jaxgeo.slices.plane import spherical_interpolation as spherical_interpolation
from jaxgeo.slices.posterior import FeatureMap as FeatureMap
from jaxgeo.slices.posterior import FeatureSimulator as FeatureSimulator
from jaxgeo.slices.posterior import StochasticSimulator as StochasticSimulator
from jaxgeo.slices.posterior import feature_metric as feature_metric
from jaxgeo.slices.posterior import feature_samples as feature_samples
from jaxgeo.slices.posterior import log_posterior as log_posterior
