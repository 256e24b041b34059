r"""Noise to data, by a denoiser: the mean $D(x, t) = E[x_0 | x_t = x]$ of the data behind it.

All integrate the same flow. In $y = x/\alpha$ and $\rho = \sigma/\alpha$ it is
$dy/d\rho = (y - D)/\rho$, without the stiff decay of x itself, so that a step may be long.
"""

from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxgeo.diffusion.schedules import VariancePreserving

Denoiser = Callable[[Array, Array], Array]
"""(x, t) to E[x₀ | x_t = x], of the shape of x; any callable."""


def score(denoiser: Denoiser, schedule: VariancePreserving, x: Array, t: ArrayLike) -> Array:
    r"""The gradient of the log-density of noised data, $\nabla\log p_t = (\alpha D - x)/\sigma^2$.

    **Arguments:** `denoiser`; `schedule`; `x`, of any shape; `t` > 0.

    **Returns:** the shape of x. **Fails:** not finite at t = 0, where a denoiser knows no score.

    **Reference:** Efron (2011), *Tweedie's formula and selection bias*.
    """
    t = jnp.asarray(t, x.dtype)
    return (schedule.alpha(t) * denoiser(x, t) - x) / schedule.sigma(t) ** 2


def velocity(denoiser: Denoiser, schedule: VariancePreserving, x: Array, t: ArrayLike) -> Array:
    r"""dx/dt of the probability flow, $-\tfrac12\beta(t)\,(x + \nabla\log p_t(x))$.

    It carries the law of x_t along as the diffusion does, without noise; towards data t falls.

    **Arguments, Returns, Fails:** those of `score`. **Reference:** Song et al. (2021), eq. 13.
    """
    return -schedule.rate(jnp.asarray(t, x.dtype)) / 2 * (x + score(denoiser, schedule, x, t))


def _levels(schedule: VariancePreserving, times: Array) -> tuple[Array, Array, Array]:
    """Times, α and σ, in the precision of the times: those of a sampler in half precision too."""
    times = jnp.asarray(times)
    if times.ndim != 1 or times.size < 2:
        raise ValueError(f"`times` must have shape (n,), n ≥ 2, got {times.shape}.")
    return times, schedule.alpha(times), schedule.sigma(times)


@final
class DDIM(eqx.Module):
    r"""The sampler of denoising diffusion implicit models: a generator, noise to data.

    $$ x_s = \alpha_s D + \sqrt{\sigma_s^2 - \varsigma^2}\;\hat\varepsilon + \varsigma\,\xi, \qquad
       \hat\varepsilon = (x_t - \alpha_t D)/\sigma_t, \quad
       \varsigma = \eta\,\frac{\sigma_s}{\sigma_t}\sqrt{1 - \alpha_t^2/\alpha_s^2} $$

    With η = 0 it is Euler's method for the probability flow; with η = 1 the ancestral sampler of
    denoising diffusion models, nearing the reverse SDE with more steps.

    - `denoiser`, `schedule`.
    - `times`: `(n + 1,)`, falling; `schedule.times(n)`. The last may be 0.
    - `eta`: η ≥ 0. Above 0 a call needs a key.

    **Cost:** n calls of the denoiser, in a scan. Differentiable in both modes.

    **Reference:** Song, Meng & Ermon (2021), *Denoising diffusion implicit models*, eq. 12, 16.
    """

    denoiser: Denoiser
    schedule: VariancePreserving
    times: Float[Array, " n"]
    eta: float = eqx.field(static=True, default=0.0)

    def __check_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"`eta` must lie in [0, 1], got {self.eta}.")

    def __call__(self, z: Array, key: Array | None = None) -> Array:
        """The data that a draw `z` of the noise becomes."""
        if self.eta > 0 and key is None:
            raise ValueError(f"a sampler with eta = {self.eta} draws noise: give a `key`.")
        t, alpha, sigma = _levels(self.schedule, self.times)
        fresh = self.eta * sigma[1:] / sigma[:-1] * jnp.sqrt(1 - (alpha[:-1] / alpha[1:]) ** 2)
        kept = jnp.sqrt(jnp.maximum(sigma[1:] ** 2 - fresh**2, 0)) / sigma[:-1]
        weights = (t[:-1], kept, alpha[1:] - kept * alpha[:-1], fresh)
        t, kept, of_data, fresh = (w.astype(z.dtype) for w in weights)

        def step(x: Array, level: tuple) -> tuple[Array, None]:
            t, kept, of_data, fresh, number = level
            moved = kept * x + of_data * self.denoiser(x, t)
            if key is not None and self.eta > 0:
                own = jax.random.fold_in(key, number)
                moved = moved + fresh * jax.random.normal(own, x.shape, x.dtype)
            return moved, None

        return jax.lax.scan(step, z, (t, kept, of_data, fresh, jnp.arange(t.size)))[0]


@final
class Heun(eqx.Module):
    r"""Heun's method for the probability flow in y = x/α and ρ = σ/α: of second order.

    $$ y' = y + h\,d(y, \rho), \qquad y_{+} = y + \tfrac h2 (d(y, \rho) + d(y', \rho + h)), \qquad
       d = (y - D)/\rho $$

    - `denoiser`, `schedule`, `times`: as of `DDIM`. A step to t = 0 is Euler's, as d is not
      defined there.

    **Cost:** 2n calls of the denoiser, in a scan. Differentiable in both modes.

    **Reference:** Karras et al. (2022), *Elucidating the design space of diffusion-based
    generative models*, algorithm 1.
    """

    denoiser: Denoiser
    schedule: VariancePreserving
    times: Float[Array, " n"]

    def __call__(self, z: Array) -> Array:
        """The data that a draw `z` of the noise becomes."""
        t, alpha, sigma = (level.astype(z.dtype) for level in _levels(self.schedule, self.times))

        def slope(y: Array, t: Array, alpha: Array, ratio: Array) -> Array:
            return (y - self.denoiser(alpha * y, t)) / ratio

        def step(y: Array, level: tuple) -> tuple[Array, None]:
            t, alpha, ratio, next_t, next_alpha, next_ratio = level
            h = next_ratio - ratio
            first = slope(y, t, alpha, ratio)
            # at t = 0 the slope is 0/0: not taken, and its stand-in keeps derivatives finite
            ends = next_ratio == 0
            safe = jnp.where(ends, t, next_t), jnp.where(ends, ratio, next_ratio)
            second = slope(y + h * first, safe[0], next_alpha, safe[1])
            return y + h * jnp.where(ends, first, (first + second) / 2), None

        ratio = sigma / alpha
        levels = (t[:-1], alpha[:-1], ratio[:-1], t[1:], alpha[1:], ratio[1:])
        y = jax.lax.scan(step, z / alpha[0], levels)[0]
        return alpha[-1] * y


@final
class ProbabilityFlow(eqx.Module):
    r"""The probability flow to a tolerance, by an adaptive solver of diffrax, in log σ/α.

    $$ \frac{dy}{d\log\rho} = y - D(\alpha y, t(\rho)), \qquad
       y = x/\alpha, \; \rho = \sigma/\alpha $$

    The exact flow is invertible: with the times exchanged it leads from data back to noise, and
    the pullback of the whole space by it is flat (Karczewski et al. 2025).

    - `denoiser`, `schedule`.
    - `start`, `end`: times, both > 0.
    - `solver`: of diffrax, `Dopri8()` if not given. - `rtol`, `atol`: tolerances of a step.
    - `longest`: a step is no longer in log σ/α. The tolerances are those of the point, not of its
      derivative: exactly on a saddle nothing moves, and steps without this bound would jump over
      all that stretches there. Of a saddle narrower than the default resolves, take less.
    - `max_steps`: after them the call fails.
    - `throw`: raise on failure; otherwise what failed is NaN.

    **Cost:** some 500 to 1,000 calls of the denoiser. Differentiable in both modes (through the
    steps), repeatedly.

    **Reference:** Song et al. (2021), eq. 13; Kidger (2021) for diffrax.
    """

    denoiser: Denoiser
    schedule: VariancePreserving
    start: float = eqx.field(static=True, default=1.0)
    end: float = eqx.field(static=True, default=1e-3)
    solver: Any = eqx.field(static=True, default=None)
    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float = eqx.field(static=True, default=1e-6)
    longest: float = eqx.field(static=True, default=0.25)
    max_steps: int = eqx.field(static=True, default=1024)
    throw: bool = eqx.field(static=True, default=True)

    def __check_init__(self) -> None:
        if not (0 < self.start <= 1 and 0 < self.end <= 1):
            raise ValueError(f"times must lie in (0, 1], got {self.start} and {self.end}.")
        if not self.longest > 0:
            raise ValueError(f"`longest` must be positive, got {self.longest}.")

    def __call__(self, x: Array) -> Array:
        """Where `x`, at time `start`, is carried to by time `end`."""

        def field(log_ratio: Any, y: Array, args: Any) -> Array:
            t = self.schedule.time(jnp.exp(log_ratio))
            return y - self.denoiser(self.schedule.alpha(t) * y, t)

        first, last = (
            jnp.log(self.schedule.noise_ratio(jnp.asarray(t, x.dtype)))
            for t in (self.start, self.end)
        )
        found = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            self.solver or diffrax.Dopri8(),
            first,
            last,
            dt0=None,
            y0=x / self.schedule.alpha(jnp.asarray(self.start, x.dtype)),
            stepsize_controller=diffrax.PIDController(
                rtol=self.rtol, atol=self.atol, dtmax=self.longest
            ),
            adjoint=diffrax.DirectAdjoint(),
            max_steps=self.max_steps,
            throw=self.throw,
        )
        y = found.ys[0] * self.schedule.alpha(jnp.asarray(self.end, x.dtype))
        return jnp.where(found.result == diffrax.RESULTS.successful, y, jnp.nan)


@final
class ReverseSDE(eqx.Module):
    r"""The diffusion run backwards, $dx = -\tfrac12\beta x\,dt - \beta\nabla\log p_t\,dt +
    \sqrt\beta\,d\bar W$, by Euler and Maruyama in steps of equal decay.

    - `denoiser`, `schedule`. - `times`: `(n + 1,)`, falling, the last > 0.

    **Cost:** n calls of the denoiser, in a scan.

    **Reference:** Anderson (1982), *Stoch. Proc. Appl.* 12, 313; Song et al. (2021), eq. 6.
    """

    denoiser: Denoiser
    schedule: VariancePreserving
    times: Float[Array, " n"]

    def __call__(self, z: Array, key: Array) -> Array:
        """A draw of the data, from a draw `z` of the noise."""
        t, _, _ = _levels(self.schedule, self.times)
        decay = -jnp.diff(self.schedule.integral(t)).astype(z.dtype)  # of each step: ∫β dt
        t = t[:-1].astype(z.dtype)

        def step(x: Array, level: tuple) -> tuple[Array, None]:
            t, decay, number = level
            drift = x / 2 + score(self.denoiser, self.schedule, x, t)
            noise = jax.random.normal(jax.random.fold_in(key, number), x.shape, x.dtype)
            return x + decay * drift + jnp.sqrt(decay) * noise, None

        return jax.lax.scan(step, z, (t, decay, jnp.arange(t.size)))[0]
