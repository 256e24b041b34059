"""Pictures of log-partition functions, metrics and geodesics. Only this room knows matplotlib.

Every function draws on the axes it is given, or on those of a new figure, and returns the axes.
Nothing global is changed and nothing is shown: `save(ax.figure, path)` writes the picture.
"""

from jaxgeo.plotting.fields import comparison as comparison
from jaxgeo.plotting.fields import heat_map as heat_map
from jaxgeo.plotting.figures import panels as panels
from jaxgeo.plotting.figures import save as save
from jaxgeo.plotting.maps import Curve as Curve
from jaxgeo.plotting.maps import geodesic_map as geodesic_map
from jaxgeo.plotting.maps import metric_map as metric_map
from jaxgeo.plotting.training import training_history as training_history
