"""From samples to a log-partition function: networks, posteriors, objectives and the fit."""

from .charts import LearnedChart as LearnedChart
from .fit import LogPartitionFit as LogPartitionFit
from .fit import fit_log_partition as fit_log_partition
from .posteriors import BregmanPosterior as BregmanPosterior
from .posteriors import Statistic as Statistic
from .potentials import ConvexPotential as ConvexPotential
from .summaries import Dense as Dense
from .summaries import Identity as Identity
from .summaries import PeriodicConvolution as PeriodicConvolution
from .training import Schedule as Schedule
