"""Metrics: any callable from a point to a positive definite matrix is one; these are shipped."""

from jaxgeo.metrics.adaptive import LocallyAdaptiveMetric as LocallyAdaptiveMetric
from jaxgeo.metrics.combinators import ConformalMetric as ConformalMetric
from jaxgeo.metrics.combinators import ProductMetric as ProductMetric
from jaxgeo.metrics.combinators import RegularizedMetric as RegularizedMetric
from jaxgeo.metrics.combinators import ReparametrizedMetric as ReparametrizedMetric
from jaxgeo.metrics.combinators import SumMetric as SumMetric
from jaxgeo.metrics.hessian import HessianMetric as HessianMetric
from jaxgeo.metrics.interpolated import InterpolatedMetric as InterpolatedMetric
from jaxgeo.metrics.kernel import KernelMetric as KernelMetric
from jaxgeo.metrics.kernel import OffSupportWarning as OffSupportWarning
from jaxgeo.metrics.kernel import warn_off_support as warn_off_support
from jaxgeo.metrics.likelihood import FisherPullbackMetric as FisherPullbackMetric
from jaxgeo.metrics.likelihood import expected_pullback_metric as expected_pullback_metric
from jaxgeo.metrics.pullback import PullbackMetric as PullbackMetric
from jaxgeo.metrics.spacetime import SpacetimeMetric as SpacetimeMetric
