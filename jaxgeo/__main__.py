"""`python -m jaxgeo` is `jaxgeo`."""

from jaxgeo.cli import app

app()
