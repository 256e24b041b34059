"""Metrics: any callable from a point to a positive definite matrix is one; these are shipped."""

from jaxgeo.metrics.combinators import ConformalMetric as ConformalMetric
from jaxgeo.metrics.combinators import ProductMetric as ProductMetric
from jaxgeo.metrics.combinators import RegularizedMetric as RegularizedMetric
from jaxgeo.metrics.combinators import ReparametrizedMetric as ReparametrizedMetric
from jaxgeo.metrics.combinators import SumMetric as SumMetric
from jaxgeo.metrics.hessian import HessianMetric as HessianMetric
from jaxgeo.metrics.pullback import PullbackMetric as PullbackMetric
