"""`jaxgeo demo ising`, `latent` and `diffusion`: known systems end to end."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jaxgeo._files import load_array
from jaxgeo.cli.options import (
    AsJson,
    Checkpoint,
    Out,
    Quiet,
    Resume,
    Seed,
    checkpoints,
    finish,
    refuse,
    show,
    usable,
)

demo = typer.Typer(
    help="Known systems, with a report against the exact answer.", no_args_is_help=True
)

OwnSamples = Annotated[
    Path | None,
    typer.Option(help=".npy array (n, ...) of your own; scikit-learn's digits if not given."),
]
OwnClasses = Annotated[
    Path | None, typer.Option(help=".npy array (n,) of your samples' classes, whole numbers.")
]


@demo.command("ising")
def demo_ising(
    out: Out,
    seed: Seed = 0,
    samples: Annotated[int, typer.Option(help="How many lattices to sample.")] = 16_384,
    size: Annotated[int, typer.Option(help="Side of the lattice, a power of two.")] = 64,
    checkpoint: Checkpoint = None,
    resume: Resume = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Learn the Fisher metric of (T, H) from Ising samples; compare it with exact physics.

    Exit code 0: done; 1: the fit did not succeed (report.json says why); 2: bad input."""
    directory = usable(out)
    from jaxgeo import demos

    facts = demos.run_ising(
        directory,
        seed=seed,
        n_samples=samples,
        size=size,
        checkpoint=checkpoints(out, checkpoint, resume),
        progress=not quiet,
    )
    show(facts, demos.table(facts), as_json)
    finish(directory, facts["fit"]["result"])


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
    checkpoint: Checkpoint = None,
    resume: Resume = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train VAE and RHVAE on handwritten digits; do geodesics keep closer to the data?

    Exit code 0: done; 1: training did not succeed (report.json says why); 2: bad input."""
    directory = usable(out)
    from jaxgeo import demos

    try:
        data = _own_samples(samples, classes, likelihood)
        if min(pairs, steps, flow_steps) < 1:
            raise ValueError(
                f"pairs, steps and flow steps must be ≥ 1, got {pairs}, {steps}, {flow_steps}"
            )
        facts = demos.run_latent(
            directory, samples=data, seed=seed, n_pairs=pairs, steps=steps,
            hamiltonian_steps=flow_steps, checkpoint=checkpoints(out, checkpoint, resume),
            progress=not quiet,
        )  # fmt: skip
    except ValueError as error:
        refuse(error)
    show(facts, demos.latent_summary(facts), as_json)
    finish(directory, facts["fit"]["result"])


@demo.command("diffusion")
def demo_diffusion(
    out: Out,
    seed: Seed = 0,
    samples: OwnSamples = None,
    classes: OwnClasses = None,
    slices: Annotated[int, typer.Option(help="How many slices of the latent space.")] = 3,
    pairs: Annotated[int, typer.Option(help="How many pairs of points to join, over all.")] = 120,
    steps: Annotated[int, typer.Option(help="Steps that train the denoiser.")] = 8_000,
    checkpoint: Checkpoint = None,
    resume: Resume = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a diffusion model; find the phases, metric and geodesics of its latent space.

    Exit code 0: done; 1: training did not succeed (report.json says why); 2: bad input."""
    directory = usable(out)
    from jaxgeo import demos

    try:
        if min(slices, pairs, steps) < 1:
            raise ValueError(
                f"slices, pairs and steps must be ≥ 1, got {slices}, {pairs}, {steps}"
            )
        facts = demos.run_diffusion(
            directory, samples=_own_samples(samples, classes, None), seed=seed, n_slices=slices,
            n_pairs=pairs, steps=steps, checkpoint=checkpoints(out, checkpoint, resume),
            progress=not quiet,
        )  # fmt: skip
    except ValueError as error:
        refuse(error)
    show(facts, demos.diffusion_summary(facts), as_json)
    finish(directory, facts["fit"]["result"])


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
