"""The command line: `jaxgeo demo`, `reconstruct`, `grid` and `geodesic`."""

from typing import Annotated

import typer

from jaxgeo import __version__
from jaxgeo.cli.demo import demo
from jaxgeo.cli.geodesic import geodesic
from jaxgeo.cli.grid import grid
from jaxgeo.cli.reconstruct import reconstruct

app = typer.Typer(
    help="Differential geometry of generative models: samples to Fisher metric and geodesics.\n\n"
    "Exit codes: 0 done, 1 no success (the report says why), 2 bad input.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(demo, name="demo")
app.command()(reconstruct)
app.command()(grid)
app.command()(geodesic)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        typer.echo(__version__)
        raise typer.Exit()
