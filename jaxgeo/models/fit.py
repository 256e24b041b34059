"""The training of every model: with a latent space, or of diffusion."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo._files import claim, fingerprint
from jaxgeo._results import RESULTS
from jaxgeo._typing import as_array, as_count
from jaxgeo.models.diffusion import DiffusionModel
from jaxgeo.models.hvae import HVAE, RHVAE
from jaxgeo.models.objectives import (
    Criticised,
    Denoising,
    Evidence,
    MaximumMeanDiscrepancy,
    MutualInformation,
    Objective,
    Reconstruction,
    denoising_loss,
    discrepancy_loss,
    information_loss,
    negative_elbo,
    negative_log_weight,
    reconstruction_loss,
)
from jaxgeo.models.vae import VAE, draw
from jaxgeo.training import Schedule, Trace, minimize

Model = TypeVar("Model", VAE, HVAE, RHVAE, DiffusionModel)


class ModelFit(NamedTuple):
    """A trained model, and how its training went.

    - `model`: that of the least held-out loss.
    - `history`: "loss", a `Trace` of what was minimised, one entry per validation.
    - `result`: a `RESULTS` member.
    """

    model: Any
    history: dict[str, Trace]
    result: Any


def fit(
    model: Model,
    samples: ArrayLike,
    *,
    key: Array,
    objective: Objective | None = None,
    held_out: ArrayLike | None = None,
    steps: int = 5000,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    every: int = 250,
    patience: int = 8,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    throw: bool = True,
) -> ModelFit:
    r"""Train a model on samples by Adam: a VAE, HVAE or RHVAE on (minus) its evidence lower bound,
    a `DiffusionModel` on the error of its denoising.

    **Arguments:**

    - `model`: as it is; it is not changed.
    - `samples`: `(n, *shape)`.
    - `key`: for batches, draws of posteriors or noise, and which samples are held out.
    - `objective`: `Evidence()` if not given, or `Denoising()` for a `DiffusionModel`;
      `Reconstruction`, `MaximumMeanDiscrepancy` and `MutualInformation` are for a `VAE`.
    - `held_out`: samples to validate on; a tenth of `samples`, at random, if not given.
    - `steps`, `batch_size`, `learning_rate`: of Adam, the rate falling to zero on a cosine,
      gradients clipped to a norm of 1, batches drawn with replacement.
    - `every`, `patience`: validate after so many steps, stop after so many validations without
      a better one. What is kept is the best.
    - `checkpoint`: a directory; a run that finds its own state there goes on from it.
    - `progress`: show a bar, if on a terminal. - `throw`: raise on failure.

    **Returns:** `ModelFit`.

    **Fails:** `ValueError` on shapes and settings, and on a `checkpoint` of another fit;
    `nonfinite` if no validation was finite.

    **Cost:** `steps` gradients of a batch: for a VAE one encoding and decoding a sample, for
    Hamiltonian models `n_leapfrog` + 1 gradients of the decoder beside, and their gradients; for
    a diffusion model one denoising.
    """
    data = as_array(samples, "samples")
    if data.ndim < 2 or len(data) < 2:
        raise ValueError(f"`samples` must have shape (n, ...), n ≥ 2, got {data.shape}.")
    if isinstance(model, DiffusionModel) and data.shape[1:] != model.shape:
        raise ValueError(f"the model is of samples of {model.shape}, got {data.shape[1:]}.")
    key_split, key_train, key_critic = jax.random.split(key, 3)
    if held_out is None:
        data, unseen = held_apart(data, key_split)
    else:
        unseen = as_array(held_out, "held_out")
        if unseen.shape[1:] != data.shape[1:]:
            raise ValueError(
                f"`held_out` must hold samples of shape {data.shape[1:]}, got {unseen.shape[1:]}."
            )
    if isinstance(objective, MaximumMeanDiscrepancy) and min(len(unseen), batch_size) < 2:
        raise ValueError(
            f"a discrepancy needs 2 samples at least, in a batch and held out: got {batch_size} "
            f"and {len(unseen)}."
        )
    loss, trained, constants = _problem(model, objective, data, key_critic)
    fitted = train(
        loss, trained, data, unseen, constants=constants, key=key_train,
        schedule=Schedule(steps, learning_rate, batch_size, every, patience),
        label=type(model).__name__, progress=progress, checkpoint=checkpoint, throw=throw,
        settings=(objective, getattr(model, "schedule", None)),
    )  # fmt: skip
    if isinstance(fitted.model, Criticised):
        return fitted._replace(model=fitted.model.vae)
    return fitted


def held_apart(data: Any, key: Array) -> tuple[Any, Any]:
    """Rows to train on, and a tenth to validate on."""
    n = len(jax.tree.leaves(data)[0])
    order = jax.random.permutation(key, n)
    cut = max(1, n // 10)
    seen, unseen = order[cut:], order[:cut]
    return jax.tree.map(lambda a: a[seen], data), jax.tree.map(lambda a: a[unseen], data)


def train(
    loss: Callable[..., Array],
    model: nnx.Module,
    data: Any,
    unseen: Any,
    *,
    constants: Any,
    key: Array,
    schedule: Schedule,
    settings: Any,
    checkpoint: str | Path | None,
    throw: bool,
    **shown: Any,
) -> ModelFit:
    """`minimize` a random loss over rows of `data`. The checkpoint belongs to these arrays, the
    model as it is, the schedule, and whatever else `settings` name."""
    for name in ("steps", "batch_size", "every"):
        as_count(getattr(schedule, name), name)
    checkpoint = None if checkpoint is None else Path(checkpoint)
    arrays = map(np.asarray, jax.tree.leaves((data, unseen, jax.random.key_data(key), model)))
    claim(checkpoint, fingerprint(*arrays, schedule=schedule, settings=repr(settings)))
    trained, trace = minimize(
        loss, model, data, unseen, constants=constants, key=key, random=True, schedule=schedule,
        checkpoint=checkpoint, **shown,
    )  # fmt: skip
    finite = bool(np.any(np.isfinite(trace.held_out_loss)))
    result = RESULTS.where(finite, RESULTS.successful, RESULTS.nonfinite)
    fitted = ModelFit(trained, {"loss": trace}, result)
    return result.error_if(fitted, result != RESULTS.successful) if throw else fitted


def _problem(model: Any, objective: Objective | None, data: Array, key: Array) -> Any:
    """The loss, what it trains, and its constants."""
    if isinstance(model, DiffusionModel):
        objective = Denoising() if objective is None else objective
        if not isinstance(objective, Denoising):
            raise ValueError(f"a diffusion model takes no other objective, got {objective}.")
        return denoising_loss, model, objective
    objective = Evidence() if objective is None else objective  # an empty one is false
    if isinstance(model, HVAE | RHVAE):
        if objective != Evidence():
            raise ValueError(f"a Hamiltonian VAE takes no other objective, got {objective}.")
        return negative_log_weight, model, None
    match objective:
        case Evidence():
            return negative_elbo, model, objective
        case Reconstruction():
            return reconstruction_loss, model, objective
        case MaximumMeanDiscrepancy():
            return discrepancy_loss, model, objective
        case MutualInformation():
            critic = Criticised(model, data, objective.width, key=key)
            return information_loss, critic, objective
    raise ValueError(f"`objective` of a VAE must be one of {Objective}, got {objective!r}.")


class Encoded(NamedTuple):
    """Encoded samples: `mean`, `log_deviation` and one draw `z` of q(z|x), all `(n, d)`."""

    mean: Float[Array, "n d"]
    log_deviation: Float[Array, "n d"]
    z: Float[Array, "n d"]


def encode_samples(
    model: VAE | HVAE | RHVAE, samples: ArrayLike, *, key: Array, batch_size: int = 1024
) -> Encoded:
    """The latent laws of many samples, a batch at a time, with one draw of each.

    Of a Hamiltonian model where its flow begins; `model.flow` leads on.

    **Arguments:** `model`; `samples`, `(n, *shape)`; `key`, of the draws; `batch_size`.

    **Returns:** `Encoded`. **Cost:** n encodings.
    """
    vae = model if isinstance(model, VAE) else model.vae
    data = jnp.asarray(samples)
    return _encode(vae, data, jax.random.split(key, len(data)), batch_size)


@functools.partial(jax.jit, static_argnames="batch_size")
def _encode(vae: VAE, samples: Array, keys: Array, batch_size: int) -> Encoded:
    def one(pair: tuple[Array, Array]) -> Encoded:
        x, own = pair
        mean, log_deviation = vae.encode(x)
        return Encoded(mean, log_deviation, draw(mean, log_deviation, own)[0])

    return jax.lax.map(one, (samples, keys), batch_size=batch_size)
