"""Phase boundaries: read off a metric."""

from jaxgeo.phases.lines import CriticalPoint as CriticalPoint
from jaxgeo.phases.lines import critical_point as critical_point
from jaxgeo.phases.ridges import Ridge as Ridge
from jaxgeo.phases.ridges import ridges as ridges
