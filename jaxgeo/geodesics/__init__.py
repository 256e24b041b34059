"""Geodesics: from a point and a velocity, between two points, and what is carried along them."""

from jaxgeo.geodesics.bvp import distance as distance
from jaxgeo.geodesics.bvp import geodesic_bvp as geodesic_bvp
from jaxgeo.geodesics.bvp import log as log
from jaxgeo.geodesics.clusters import KMeans as KMeans
from jaxgeo.geodesics.clusters import KMedoids as KMedoids
from jaxgeo.geodesics.clusters import kmeans as kmeans
from jaxgeo.geodesics.clusters import kmedoids as kmedoids
from jaxgeo.geodesics.dual import alpha_geodesic as alpha_geodesic
from jaxgeo.geodesics.fixed_point import FixedPoint as FixedPoint
from jaxgeo.geodesics.fronts import DistanceMap as DistanceMap
from jaxgeo.geodesics.fronts import distance_map as distance_map
from jaxgeo.geodesics.fronts import shortest_path as shortest_path
from jaxgeo.geodesics.ivp import exp as exp
from jaxgeo.geodesics.ivp import geodesic_ivp as geodesic_ivp
from jaxgeo.geodesics.relaxation import Relaxation as Relaxation
from jaxgeo.geodesics.shooting import Shooting as Shooting
from jaxgeo.geodesics.solution import GeodesicSolution as GeodesicSolution
from jaxgeo.geodesics.statistics import FrechetMean as FrechetMean
from jaxgeo.geodesics.statistics import TangentPCA as TangentPCA
from jaxgeo.geodesics.statistics import frechet_mean as frechet_mean
from jaxgeo.geodesics.statistics import pairwise_distances as pairwise_distances
from jaxgeo.geodesics.statistics import tangent_pca as tangent_pca
from jaxgeo.geodesics.transport import JacobiField as JacobiField
from jaxgeo.geodesics.transport import conjugate_time as conjugate_time
from jaxgeo.geodesics.transport import jacobi_field as jacobi_field
from jaxgeo.geodesics.transport import parallel_transport as parallel_transport
