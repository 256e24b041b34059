"""Pictures of potentials, metrics, geodesics and latent spaces. Only this room knows matplotlib.

Every function draws on the axes it is given, or on those of a new figure, and returns the axes.
Nothing global is changed and nothing is shown: `save(ax.figure, path)` writes the picture.
"""

from jaxgeo.plotting.contours import curvature_map as curvature_map
from jaxgeo.plotting.contours import posterior_map as posterior_map
from jaxgeo.plotting.contours import wavefronts as wavefronts
from jaxgeo.plotting.fields import comparison as comparison
from jaxgeo.plotting.fields import heat_map as heat_map
from jaxgeo.plotting.figures import panels as panels
from jaxgeo.plotting.figures import save as save
from jaxgeo.plotting.latent import distance_matrices as distance_matrices
from jaxgeo.plotting.latent import image_grids as image_grids
from jaxgeo.plotting.latent import image_strips as image_strips
from jaxgeo.plotting.latent import latent_map as latent_map
from jaxgeo.plotting.maps import Curve as Curve
from jaxgeo.plotting.maps import geodesic_map as geodesic_map
from jaxgeo.plotting.maps import metric_map as metric_map
from jaxgeo.plotting.slices import box_counts as box_counts
from jaxgeo.plotting.slices import growth as growth
from jaxgeo.plotting.slices import image_map as image_map
from jaxgeo.plotting.slices import phase_map as phase_map
from jaxgeo.plotting.slices import zoom_strip as zoom_strip
from jaxgeo.plotting.training import training_history as training_history
