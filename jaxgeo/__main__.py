"""`python -m jaxgeo` is `jaxgeo`."""

from jaxgeo.cli import app

if __name__ == "__main__":
    app()
