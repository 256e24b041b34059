"""From samples to a log-partition function: networks, posteriors, objectives and the fit."""

from jaxgeo.reconstruction.charts import LearnedChart as LearnedChart
from jaxgeo.reconstruction.curved import CurvedFamilyFit as CurvedFamilyFit
from jaxgeo.reconstruction.curved import fit_curved_family as fit_curved_family
from jaxgeo.reconstruction.fit import LogPartitionFit as LogPartitionFit
from jaxgeo.reconstruction.fit import fit_log_partition as fit_log_partition
from jaxgeo.reconstruction.polynomials import PolynomialPotential as PolynomialPotential
from jaxgeo.reconstruction.posteriors import BregmanPosterior as BregmanPosterior
from jaxgeo.reconstruction.posteriors import Statistic as Statistic
from jaxgeo.reconstruction.potentials import ConvexPotential as ConvexPotential
from jaxgeo.reconstruction.potentials import MeanPotential as MeanPotential
from jaxgeo.reconstruction.splines import SplinePotential as SplinePotential
from jaxgeo.reconstruction.splines import hessian_potential as hessian_potential
from jaxgeo.reconstruction.summaries import Dense as Dense
from jaxgeo.reconstruction.summaries import Exchangeable as Exchangeable
from jaxgeo.reconstruction.summaries import Identity as Identity
from jaxgeo.reconstruction.summaries import PeriodicConvolution as PeriodicConvolution
from jaxgeo.reconstruction.uncertainty import interval as interval
from jaxgeo.training import Schedule as Schedule
