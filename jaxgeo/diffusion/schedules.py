"""How much noise there is at which time."""

from typing import final

import equinox as eqx
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float


@final
class VariancePreserving(eqx.Module):
    r"""The variance preserving diffusion over t ∈ [0, 1], from data to noise.

    $$ dx = -\tfrac12 \beta(t)\, x\, dt + \sqrt{\beta(t)}\, dW, \qquad
       x_t = \alpha_t x_0 + \sigma_t \varepsilon, \quad \alpha_t = e^{-B(t)/2}, \;
       \sigma_t^2 = 1 - e^{-B(t)} $$

    with β growing linearly from `first` to `last`, and B its integral. Both the same is the
    constant rate of Proposition 4.1 of the paper. Its functions take times of any shape.

    - `first`, `last`: β(0) > 0 and β(1), per unit of time. The defaults leave α₁ = 0.0066 of the
      data in the noise.

    **Example:**

    >>> round(VariancePreserving().alpha(1.0).item(), 4)
    0.0066

    **Reference:** Song et al. (2021), *Score-based generative modeling through SDEs*, eq. 11;
    Ho, Jain & Abbeel (2020) for the same in steps.
    """

    first: float | Float[Array, ""] = 0.1
    last: float | Float[Array, ""] = 20.0

    def rate(self, t: ArrayLike) -> Float[Array, "*s"]:
        """β(t)."""
        t = jnp.asarray(t)
        return self.first + (self.last - self.first) * t

    def integral(self, t: ArrayLike) -> Float[Array, "*s"]:
        """B(t), the rate's integral from 0 to t."""
        t = jnp.asarray(t)
        return t * (self.first + (self.last - self.first) * t / 2)

    def alpha(self, t: ArrayLike) -> Float[Array, "*s"]:
        """α(t), the share of the data."""
        return jnp.exp(-self.integral(t) / 2)

    def sigma(self, t: ArrayLike) -> Float[Array, "*s"]:
        """σ(t), the deviation of the noise. Its derivative at t = 0 is infinite."""
        return jnp.sqrt(-jnp.expm1(-self.integral(t)))

    def noise_ratio(self, t: ArrayLike) -> Float[Array, "*s"]:
        """σ/α: the deviation of the noise in units of the data's."""
        return jnp.sqrt(jnp.expm1(self.integral(t)))

    def time(self, noise_ratio: ArrayLike) -> Float[Array, "*s"]:
        """The time at which σ/α is `noise_ratio`."""
        total = jnp.log1p(jnp.asarray(noise_ratio) ** 2)
        # the root of B(t) = total that does not cancel where the slope of β is small
        slope = self.last - self.first
        return 2 * total / (self.first + jnp.sqrt(self.first**2 + 2 * slope * total))

    def times(
        self, steps: int, *, first: float = 1.0, last: float = 1e-3, even_in: str = "noise"
    ) -> Float[Array, " n"]:
        """`steps` + 1 times from `first` down to `last`, for a sampler.

        - `even_in`: "noise", even steps of log σ/α, which resolves the end; or "time", even steps
          of t, as the first diffusion models took them.
        """
        if steps < 1:
            raise ValueError(f"`steps` must be at least 1, got {steps}.")
        if not 0 <= last < first <= 1:
            raise ValueError(f"times need 0 ≤ last < first ≤ 1, got last {last}, first {first}.")
        if even_in == "time":
            return jnp.linspace(first, last, steps + 1)
        if even_in != "noise":
            raise ValueError(f"`even_in` must be 'noise' or 'time', got {even_in!r}.")
        if last == 0:
            raise ValueError("steps even in log σ/α never end at t = 0: give `last` > 0.")
        ends = (self.noise_ratio(first), self.noise_ratio(last))
        inner = self.time(jnp.exp(jnp.linspace(jnp.log(ends[0]), jnp.log(ends[1]), steps + 1)))
        return inner.at[0].set(first).at[-1].set(last)
