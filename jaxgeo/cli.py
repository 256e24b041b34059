"""The command line: `jaxgeo demo ising`, `latent` and `diffusion`, and `jaxgeo reconstruct`."""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from jaxgeo import __version__
from jaxgeo._files import load_array, writable_directory

app = typer.Typer(
    help="Differential geometry of generative models: samples to Fisher metric and geodesics.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
demo = typer.Typer(
    help="Known systems, with a report against the exact answer.", no_args_is_help=True
)
app.add_typer(demo, name="demo")

Out = Annotated[Path, typer.Option(help="Directory to write report.json, metric.npz and PNGs to.")]
Seed = Annotated[int, typer.Option(help="Seed of every random number.")]
OwnSamples = Annotated[
    Path | None,
    typer.Option(help=".npy array (n, ...) of your own; scikit-learn's digits if not given."),
]
OwnClasses = Annotated[
    Path | None, typer.Option(help=".npy array (n,) of your samples' classes, whole numbers.")
]
Resume = Annotated[
    Path | None,
    typer.Option(help="Directory of checkpoints: written to, and gone on from if interrupted."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        typer.echo(__version__)
        raise typer.Exit()


@demo.command("ising")
def demo_ising(
    out: Out,
    seed: Seed = 0,
    samples: Annotated[int, typer.Option(help="How many lattices to sample.")] = 16_384,
    size: Annotated[int, typer.Option(help="Side of the lattice, a power of two.")] = 64,
    checkpoint: Resume = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Learn the Fisher metric of (T, H) from Ising samples; compare it with exact physics.

    Exit code 0: done; 1: the fit did not succeed (report.json says why); 2: bad input."""
    directory = _usable(out)
    from jaxgeo import demos

    facts = demos.run_ising(
        directory,
        seed=seed,
        n_samples=samples,
        size=size,
        checkpoint=checkpoint,
        progress=not quiet,
    )
    typer.echo(json.dumps(facts, default=str) if as_json else demos.table(facts))
    _finish(directory, facts)


@demo.command("latent")
def demo_latent(
    out: Out,
    seed: Seed = 0,
    samples: OwnSamples = None,
    classes: OwnClasses = None,
    likelihood: Annotated[
        str | None,
        typer.Option(help="bernoulli, binomial:N, poisson or gaussian:SIGMA, of your samples."),
    ] = None,
    pairs: Annotated[int, typer.Option(help="How many geodesics to compare.")] = 120,
    steps: Annotated[int, typer.Option(help="Steps that train the VAE.")] = 3000,
    flow_steps: Annotated[int, typer.Option(help="Steps that train the RHVAE.")] = 300,
    checkpoint: Resume = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train VAE and RHVAE on handwritten digits; do geodesics keep closer to the data?

    Exit code 0: done; 1: training did not succeed (report.json says why); 2: bad input."""
    directory = _usable(out)
    from jaxgeo import demos

    try:
        data = _own_samples(samples, classes, likelihood)
        if min(pairs, steps, flow_steps) < 1:
            raise ValueError(
                f"pairs, steps and flow steps must be ≥ 1, got {pairs}, {steps}, {flow_steps}"
            )
        facts = demos.run_latent(
            directory, samples=data, seed=seed, n_pairs=pairs, steps=steps,
            hamiltonian_steps=flow_steps, checkpoint=checkpoint, progress=not quiet,
        )  # fmt: skip
    except ValueError as error:
        _refuse(error)
    typer.echo(json.dumps(facts, default=str) if as_json else demos.latent_summary(facts))
    _finish(directory, facts)


@demo.command("diffusion")
def demo_diffusion(
    out: Out,
    seed: Seed = 0,
    samples: OwnSamples = None,
    classes: OwnClasses = None,
    slices: Annotated[int, typer.Option(help="How many slices of the latent space.")] = 3,
    pairs: Annotated[int, typer.Option(help="How many pairs of points to join, over all.")] = 120,
    steps: Annotated[int, typer.Option(help="Steps that train the denoiser.")] = 8_000,
    checkpoint: Resume = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a diffusion model; find the phases, metric and geodesics of its latent space.

    Exit code 0: done; 1: training did not succeed (report.json says why); 2: bad input."""
    directory = _usable(out)
    from jaxgeo import demos

    try:
        if min(slices, pairs, steps) < 1:
            raise ValueError(
                f"slices, pairs and steps must be ≥ 1, got {slices}, {pairs}, {steps}"
            )
        facts = demos.run_diffusion(
            directory, samples=_own_samples(samples, classes, None), seed=seed, n_slices=slices,
            n_pairs=pairs, steps=steps, checkpoint=checkpoint, progress=not quiet,
        )  # fmt: skip
    except ValueError as error:
        _refuse(error)
    typer.echo(json.dumps(facts, default=str) if as_json else demos.diffusion_summary(facts))
    _finish(directory, facts)


def _own_samples(samples: Path | None, classes: Path | None, likelihood: str | None) -> Any:
    """A user's samples, or None."""
    from jaxgeo import demos

    if samples is not None:
        kinds = None if classes is None else load_array(classes)
        return demos.own_samples(load_array(samples), kinds, _likelihood(likelihood))
    if classes is not None or likelihood is not None:
        raise ValueError("classes and likelihood belong to samples of your own: give --samples")
    return None


def _likelihood(text: str | None) -> Any:
    """The law that a word names."""
    from jaxgeo import likelihoods

    if text is None:
        return None
    name, _, number = text.partition(":")
    makers = {
        "bernoulli": lambda: likelihoods.Bernoulli(),
        "poisson": lambda: likelihoods.Poisson(),
        "binomial": lambda: likelihoods.Binomial(int(number)),
        "gaussian": lambda: likelihoods.FixedGaussian(float(number)),
    }
    try:
        return makers[name]()
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"a likelihood is bernoulli, binomial:N, poisson or gaussian:SIGMA, got {text!r}"
        ) from error


@app.command()
def reconstruct(
    samples: Annotated[Path, typer.Option(help=".npy array (n, ...): one sample a row.")],
    parameters: Annotated[Path, typer.Option(help=".npy array (n, d): what each was drawn at.")],
    out: Out,
    domain: Annotated[
        list[str] | None,
        typer.Option(help="LOWER,UPPER of one parameter; once for each. Default: their range."),
    ] = None,
    natural_coordinates: Annotated[
        str, typer.Option(help="'identity', or 'learned' for families without natural ones.")
    ] = "identity",
    seed: Seed = 0,
    nodes: Annotated[int, typer.Option(help="Nodes a side of the grid in metric.npz.")] = 40,
    checkpoint: Resume = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Learn the Fisher metric of your own generator from samples and their parameters.

    Exit code 0: done; 1: the fit did not succeed (report.json says why); 2: bad input."""
    try:
        facts = _reconstruct(
            load_array(samples), load_array(parameters), writable_directory(out), domain,
            natural_coordinates, seed, nodes, checkpoint, not quiet,
        )  # fmt: skip
    except ValueError as error:
        _refuse(error)
    typer.echo(json.dumps(facts, default=str) if as_json else _summary(facts))
    _finish(out, facts)


def _reconstruct(
    samples: np.ndarray,
    parameters: np.ndarray,
    out: Path,
    domain: list[str] | None,
    natural_coordinates: str,
    seed: int,
    nodes: int,
    checkpoint: Path | None,
    progress: bool,
) -> dict[str, Any]:
    if natural_coordinates not in ("identity", "learned"):
        raise ValueError(
            f"natural coordinates must be 'identity' or 'learned', got {natural_coordinates!r}"
        )
    if nodes < 4:
        raise ValueError(f"the grid needs at least 4 nodes a side, got {nodes}")
    if domain is None and parameters.ndim == 2 and len(parameters):
        bounds = np.stack([parameters.min(axis=0), parameters.max(axis=0)], axis=1)
    else:
        bounds = np.array([_interval(text) for text in domain or []])
    import jax

    import jaxgeo as jg
    from jaxgeo import report

    learned = natural_coordinates == "learned"
    fit = jg.fit_log_partition(
        samples, parameters.astype(np.float32), key=jax.random.key(seed), domain=bounds,
        natural_coordinates="learned" if learned else None, checkpoint=checkpoint,
        progress=progress, throw=False,
    )  # fmt: skip
    d = len(bounds)
    found = report.on_nodes(fit, bounds, nodes if d <= 2 else max(4, int(nodes ** (2 / d))))
    facts: dict[str, Any] = {
        "samples": len(samples),
        "domain": bounds,
        "fit": report.facts_of(fit),
    }
    pairs = []
    if d == 2:
        low, high = bounds.T
        facts["geodesics"] = {}
        for name, a, b in (
            ("diagonal", (0.2, 0.2), (0.8, 0.8)),
            ("anti-diagonal", (0.2, 0.8), (0.8, 0.2)),
        ):
            start, end = ((low + np.array(f) * (high - low)).tolist() for f in (a, b))
            curves, facts["geodesics"][name] = report.curves_between(
                fit, start, end, bounds, None if learned else _same
            )
            pairs.append(curves)
    fields = {"log Z": found.log_partition}
    fields |= {f"dlogZ/deta{k + 1}": found.gradient[..., k] for k in range(d)}
    labels = tuple(f"parameter {k + 1}" for k in range(d))
    report.write(out, facts, found, fit, labels=labels, fields=fields, pairs=pairs)
    return facts


def _same(x):
    return x


def _interval(text: str) -> tuple[float, float]:
    try:
        lower, upper = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"domain needs LOWER,UPPER, two numbers; got {text!r}") from error
    return lower, upper


def _summary(facts: dict[str, Any]) -> str:
    fit = facts["fit"]
    return (
        f"{facts['samples']:,} samples: {fit['result']}; held-out cross-entropy "
        f"{fit['held_out_cross_entropy']:.3f} ± {fit['held_out_cross_entropy_error']:.3f} nats, "
        f"on samples seen {fit['training_cross_entropy']:.3f}; scale of the metric known to "
        f"{100 * fit['calibration_factor_error']:.1f} %"
    )


def _usable(out: Path) -> Path:
    try:
        return writable_directory(out)
    except ValueError as error:
        _refuse(error)
        raise


def _refuse(error: ValueError) -> None:
    typer.echo(f"jaxgeo: {error}", err=True)
    raise typer.Exit(2) from error


def _finish(out: Path, facts: dict[str, Any]) -> None:
    typer.echo(f"written to {out}", err=True)
    if facts["fit"]["result"] != "successful":
        typer.echo(f"jaxgeo: {facts['fit']['result']}", err=True)
        raise typer.Exit(1)
