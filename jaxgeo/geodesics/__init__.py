"""Geodesics: from a point and a velocity, and between two points."""

from jaxgeo.geodesics.bvp import distance as distance
from jaxgeo.geodesics.bvp import geodesic_bvp as geodesic_bvp
from jaxgeo.geodesics.bvp import log as log
from jaxgeo.geodesics.ivp import exp as exp
from jaxgeo.geodesics.ivp import geodesic_ivp as geodesic_ivp
from jaxgeo.geodesics.relaxation import Relaxation as Relaxation
from jaxgeo.geodesics.shooting import Shooting as Shooting
from jaxgeo.geodesics.solution import GeodesicSolution as GeodesicSolution
