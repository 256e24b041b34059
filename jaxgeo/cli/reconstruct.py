"""`jaxgeo reconstruct`: the Fisher metric of a generator from its samples."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from jaxgeo._files import load_array, writable_directory
from jaxgeo.cli.options import (
    AsJson,
    Checkpoint,
    Out,
    Quiet,
    Resume,
    Seed,
    checkpoints,
    finish,
    interval,
    refuse,
    show,
)


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
    checkpoint: Checkpoint = None,
    resume: Resume = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Learn the Fisher metric of your own generator from samples and their parameters.

    Exit code 0: done; 1: the fit did not succeed (report.json says why); 2: bad input."""
    try:
        facts = _reconstruct(
            load_array(samples), load_array(parameters), writable_directory(out), domain,
            natural_coordinates, seed, nodes, checkpoints(out, checkpoint, resume), not quiet,
        )  # fmt: skip
    except ValueError as error:
        refuse(error)
    show(facts, _summary(facts), as_json)
    finish(out, facts["fit"]["result"])


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
        bounds = np.array([interval(text) for text in domain or []])
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


def _summary(facts: dict[str, Any]) -> str:
    fit = facts["fit"]
    return (
        f"{facts['samples']:,} samples: {fit['result']}; held-out cross-entropy "
        f"{fit['held_out_cross_entropy']:.3f} ± {fit['held_out_cross_entropy_error']:.3f} nats, "
        f"on samples seen {fit['training_cross_entropy']:.3f}; scale of the metric known to "
        f"{100 * fit['calibration_factor_error']:.1f} %"
    )
