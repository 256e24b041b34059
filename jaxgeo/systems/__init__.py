"""Generators whose samples come with exact answers to measure a reconstruction against."""

from jaxgeo.systems import families as families
from jaxgeo.systems import ising as ising
from jaxgeo.systems import mixture as mixture
from jaxgeo.systems import tasep as tasep
