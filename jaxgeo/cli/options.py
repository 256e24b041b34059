"""What all commands share: options, and how they end."""

import json
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from jaxgeo._files import below, plain, writable_directory

Out = Annotated[Path, typer.Option(help="Directory to write report.json, metric.npz and PNGs to.")]
Seed = Annotated[int, typer.Option(help="Seed of every random number.")]
Checkpoint = Annotated[
    Path | None,
    typer.Option(help="Directory of checkpoints: written to, and gone on from if interrupted."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="As --checkpoint OUT/checkpoint: be interruptible.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


def checkpoints(out: Path, checkpoint: Path | None, resume: bool) -> Path | None:
    """Where checkpoints are kept, if anywhere."""
    return checkpoint or (below(out, "checkpoint") if resume else None)


def usable(out: Path) -> Path:
    """`out` as a directory, or exit code 2."""
    try:
        return writable_directory(out)
    except ValueError as error:
        refuse(error)


def interval(text: str) -> tuple[float, float]:
    """LOWER,UPPER."""
    lower, upper = numbers(text, 2, "domain needs LOWER,UPPER, two numbers")
    return lower, upper


def numbers(text: str, count: int | None, wanted: str) -> tuple[float, ...]:
    """The numbers between commas; a `ValueError` that says what was wanted."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"{wanted}; got {text!r}") from error
    if count is not None and len(values) != count:
        raise ValueError(f"{wanted}; got {text!r}")
    return values


def show(facts: dict[str, Any], summary: str, as_json: bool) -> None:
    """The report on standard output."""
    typer.echo(json.dumps(plain(facts), default=str) if as_json else summary)


def refuse(error: ValueError) -> NoReturn:
    """Bad input: exit code 2."""
    typer.echo(f"jaxgeo: {error}", err=True)
    raise typer.Exit(2) from error


def finish(out: Path | None, result: str) -> None:
    """Exit code 1 unless successful."""
    if out is not None:
        typer.echo(f"written to {out}", err=True)
    if result != "successful":
        typer.echo(f"jaxgeo: {result}", err=True)
        raise typer.Exit(1)
