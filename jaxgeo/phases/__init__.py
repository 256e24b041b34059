"""Phase boundaries: where a metric peaks, where a label changes, and how rough they are."""

from jaxgeo.phases.bisection import BoundaryPoint as BoundaryPoint
from jaxgeo.phases.bisection import boundary_point as boundary_point
from jaxgeo.phases.boundaries import Boundary as Boundary
from jaxgeo.phases.boundaries import boundaries as boundaries
from jaxgeo.phases.dimension import BoxDimension as BoxDimension
from jaxgeo.phases.dimension import box_dimension as box_dimension
from jaxgeo.phases.lines import CriticalPoint as CriticalPoint
from jaxgeo.phases.lines import critical_point as critical_point
from jaxgeo.phases.lipschitz import GrowthExponent as GrowthExponent
from jaxgeo.phases.lipschitz import LipschitzConstant as LipschitzConstant
from jaxgeo.phases.lipschitz import growth_exponent as growth_exponent
from jaxgeo.phases.lipschitz import lipschitz_constant as lipschitz_constant
from jaxgeo.phases.overlap import Overlap as Overlap
from jaxgeo.phases.overlap import overlap as overlap
from jaxgeo.phases.regions import Regions as Regions
from jaxgeo.phases.regions import regions as regions
from jaxgeo.phases.ridges import Ridge as Ridge
from jaxgeo.phases.ridges import ridges as ridges
from jaxgeo.phases.uncertainty import UncertaintyDimension as UncertaintyDimension
from jaxgeo.phases.uncertainty import uncertainty_dimension as uncertainty_dimension
from jaxgeo.phases.zoom import ZoomLevel as ZoomLevel
from jaxgeo.phases.zoom import zoom_series as zoom_series
