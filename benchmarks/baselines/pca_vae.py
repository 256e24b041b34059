"""Principal components of a variational autoencoder as the statistic."""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from baselines.data import Baseline, count_parameters, prepare
from baselines.statistic import family_of
from jaxgeo._typing import Chart, Scalar
from jaxgeo.reconstruction import Schedule
from jaxgeo.reconstruction.fit import DISPERSION, MOMENTS, POSTERIOR
from jaxgeo.training import minimize

TRAINING = Schedule(steps=4_000, learning_rate=1e-3, batch_size=128)


class Autoencoder(nnx.Module):
    """A variational autoencoder of two values a site: two strided convolutions, each way."""

    def __init__(self, shape: tuple[int, ...], latent: int, *, width: int, rngs: nnx.Rngs):
        steps = []
        for side in shape:
            step = max(k for k in (4, 2, 1) if side % k**2 == 0)
            steps.append(step)
        self.shape, self.step, self.latent = shape, tuple(steps), latent
        patch = int(np.prod(steps))
        self.inner = tuple(side // step**2 for side, step in zip(shape, steps, strict=True))
        flat = int(np.prod(self.inner)) * 2 * width
        sizes = {
            "first": (patch, width), "second": (patch * width, 2 * width),
            "code": (flat, 2 * latent), "decode": (latent, flat),
            "third": (2 * width, patch * width), "last": (width, patch),
        }  # fmt: skip
        self.layers = nnx.Dict({k: nnx.Linear(m, n, rngs=rngs) for k, (m, n) in sizes.items()})

    def encode(self, x: Float[Array, "n ..."]) -> tuple[Array, Array]:
        """Mean and log variance of the latent variables."""
        h = jax.nn.silu(self.layers["first"](self._patches(x[..., None])))
        h = jax.nn.silu(self.layers["second"](self._patches(h)))
        code = self.layers["code"](h.reshape(len(x), -1))
        return code[:, : self.latent], code[:, self.latent :]

    def decode(self, z: Float[Array, "n latent"]) -> Float[Array, "n ..."]:
        """Log odds of the upper value at each site."""
        h = jax.nn.silu(self.layers["decode"](z)).reshape(len(z), *self.inner, -1)
        h = jax.nn.silu(self._unpatched(self.layers["third"](h)))
        return self._unpatched(self.layers["last"](h))[..., 0]

    def _patches(self, x: Array) -> Array:
        d, c = len(self.shape), x.shape[-1]
        sides = [n // k for n, k in zip(x.shape[1:-1], self.step, strict=True)]
        split = [side for pair in zip(sides, self.step, strict=True) for side in pair]
        order = [0, *range(1, 2 * d, 2), *range(2, 2 * d + 1, 2), 2 * d + 1]
        return x.reshape(len(x), *split, c).transpose(order).reshape(len(x), *sides, -1)

    def _unpatched(self, x: Array) -> Array:
        d, sides = len(self.shape), x.shape[1:-1]
        order = [0, *(i for k in range(d) for i in (1 + k, 1 + d + k)), 2 * d + 1]
        full = [side * k for side, k in zip(sides, self.step, strict=True)]
        return (
            x.reshape(len(x), *sides, *self.step, -1).transpose(order).reshape(len(x), *full, -1)
        )


def _negative_elbo(model: Autoencoder, rows, constants) -> Scalar:
    """Bernoulli likelihood; the noise of a step follows from which rows its batch holds."""
    bits, key = constants
    x = bits[rows].astype(jnp.float32)
    mean, log_variance = model.encode(2 * x - 1)
    noise = jax.random.normal(jax.random.fold_in(key, jnp.sum(rows)), mean.shape, mean.dtype)
    logits = model.decode(mean + jnp.exp(log_variance / 2) * noise)
    lost = jnp.sum(jax.nn.softplus(logits) - x * logits)
    divergence = jnp.sum(jnp.exp(log_variance) + mean**2 - 1 - log_variance) / 2
    return (lost + divergence) / len(x)


def pca_vae(
    samples: Any,
    parameters: Any,
    *,
    key: jax.Array,
    domain: Any,
    chart: Chart,
    progress: bool = False,
    latent: int = 8,
    components: int = 2,
    variances: bool = True,
    width: int = 32,
    training: Schedule = TRAINING,
    schedules: tuple[Schedule, Schedule, Schedule] = (MOMENTS, POSTERIOR, DISPERSION),
) -> Baseline:
    r"""Principal components of what a VAE encodes: Walker, Tam, Jarrell (2020), Sci. Rep. 10.

    "Deep learning on the 2-dimensional Ising model to extract the crossover region with a
    variational autoencoder". $s(x)$ are the first `components` principal components of the
    encoder's means (and, with `variances`, log variances) in `latent` dimensions;
    $p(x|\eta) \propto \exp(\langle A s(x), \eta\rangle - \psi(\eta))$ is then fitted to them.

    **Changed:** strided convolutions as wide as their stride, which two cores can train; A, ψ and
    the scale are found as for our own statistic (`statistic.family_of`).
    """
    start = time.perf_counter()
    keys = jax.random.split(key, 6)
    data = prepare(samples, parameters, domain, chart, keys[0])
    bits = jnp.asarray(data.samples > data.samples.min())
    model = Autoencoder(bits.shape[1:], latent, width=width, rngs=nnx.Rngs(keys[1]))
    model, trace = minimize(
        _negative_elbo, model, jnp.asarray(data.training), jnp.asarray(data.held_out[:1024]),
        constants=(bits, keys[2]), key=keys[3], schedule=training, label="autoencoder",
        progress=progress,
    )  # fmt: skip
    pieces = [_encode(model, bits[k : k + 512]) for k in range(0, len(bits), 512)]
    means, log_variances = (np.concatenate(some) for some in zip(*pieces, strict=True))
    codes = np.concatenate([means, log_variances], axis=1) if variances else means
    codes = codes.astype(np.float64) - codes.mean(axis=0)
    _, sizes, directions = np.linalg.svd(codes, full_matrices=False)
    statistics = (codes @ directions[:components].T).astype(np.float32)
    fit, more = family_of(statistics, data.t, data, chart, keys[4], schedules, progress)
    seconds = time.perf_counter() - start
    settings = {
        "autoencoder_parameters": count_parameters(model),
        "latent": latent,
        "tuned": "nothing: sizes that two cores can train; the rest as our own fit",
        "negative_elbo": (float(trace.training_loss[-1]), float(trace.held_out_loss.min())),
        "explained_variance": (sizes**2 / np.sum(sizes**2))[: 2 * components].tolist(),
    }
    return Baseline(fit.log_partition, chart, fit.metric, seconds, settings | more)


@eqx.filter_jit
def _encode(model, bits):
    return model.encode(2 * bits.astype(jnp.float32) - 1)
