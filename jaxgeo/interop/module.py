"""A PyTorch module as a function of one point, and a pytree of its weights."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Shaped

from jaxgeo.interop.bridge import array_of, blueprint_of, bridge, call, tensors_of
from jaxgeo.interop.check import check_against_torch


@final
class TorchModule(eqx.Module):
    """A PyTorch module as a pure JAX function of one point; made by `from_torch`.

    `weights` are its parameters, buffers and constants by their names in PyTorch: leaves, which
    are traced and differentiated, so that new ones do not retrace.

    **Arguments:** `z`, with the shape and the dtype of the example that it was made with.

    **Returns:** what the module returns: an array, or a tuple of arrays.

    **Fails:** `ValueError` on a point of another shape or dtype.

    **Cost:** one forward pass; outside `jax.jit` each operation is compiled on its own.
    """

    weights: dict[str, Shaped[Array, "..."]]
    blueprint: Any = eqx.field(static=True)
    point: jax.ShapeDtypeStruct = eqx.field(static=True)
    batched: bool = eqx.field(static=True)

    def __call__(self, z: Float[Array, "..."]) -> Any:
        if (z.shape, z.dtype) != (self.point.shape, self.point.dtype):
            raise ValueError(
                f"`z` must have shape {self.point.shape} and dtype {self.point.dtype} like the "
                f"example, got shape {z.shape} and dtype {z.dtype}. Batch with `jax.vmap`."
            )
        out = self._answer(z[None] if self.batched else z)
        return jax.tree.map(_only_row, out) if self.batched else out

    def _answer(self, x: Float[Array, "..."]) -> Any:
        """As PyTorch has it: with the batch axis, if there is one."""
        return call(self.blueprint, self.weights, x)

    def with_weights(self, module: Any) -> "TorchModule":
        """The same function with the weights that `module` has now, without a retrace.

        **Arguments:** `module`, a PyTorch module of the same architecture.

        **Fails:** `ValueError`, naming the first weight that is missing or differs in shape or
        dtype.
        """
        given = {name: array_of(name, tensor) for name, tensor in tensors_of(module).items()}
        unmatched = sorted(self.weights.keys() ^ given.keys())
        if unmatched:
            raise ValueError(f"weight {unmatched[0]!r} is in only one of the two modules.")
        for name, old in self.weights.items():
            new = given[name]
            if (new.shape, new.dtype) != (old.shape, old.dtype):
                raise ValueError(
                    f"weight {name!r} must have shape {old.shape} and dtype {old.dtype}, got "
                    f"shape {new.shape} and dtype {new.dtype}."
                )
        return eqx.tree_at(lambda decoder: decoder.weights, self, given)


def from_torch(
    module: Any, example: ArrayLike, *, batched: bool = True, rtol: float | None = None
) -> TorchModule:
    r"""A PyTorch module as a pure JAX function $z \mapsto f(z)$ of one point.

    It is translated operation by operation (by torchax), so that all of JAX applies to it: `jit`,
    `vmap`, derivatives of any order, forward and backward. No translation of a thousand
    operations is without error: value and derivative are compared with PyTorch's at `example`.
    The module is copied in evaluation mode (dropout is off, batch norms use their running
    statistics), and is left as it is; see `TorchModule.with_weights` after more training.

    **Arguments:**

    - `module`: a `torch.nn.Module` of one argument, on any device. Needs
      `pip install "jaxgeo[torch]"`.
    - `example`: a typical point, `(d,)` or of the shape that the module takes, in the dtype of its
      weights. Zero is a poor choice where activations have kinks.
    - `batched`: whether the module wants a leading batch axis; one of length 1 is then put before
      the point and taken from what is returned.
    - `rtol`: how much the translation may differ at `example`, relatively to the largest entry;
      `None` is the root of the dtype's resolution, 3e-4 in float32 and 1.5e-8 in float64, where
      modules that compute in float32 inside need more.

    **Returns:** a `TorchModule`, a pytree of the weights.

    **Fails:** `ImportError` without torch; `ValueError` where the translation fails or differs
    from PyTorch, and if `module` asks for values of its tensors (`if x.sum() > 0`), draws random
    numbers, switches derivatives off (`torch.no_grad`), or returns anything but floats.

    **Cost:** one forward and one backward pass in PyTorch, one compilation of both in JAX.

    **Example:** with `layer = torch.nn.Linear(2, 3)`,

        decoder = jg.interop.from_torch(layer, jnp.array([0.1, 0.2]))
        jg.PullbackMetric(decoder)(z)  # WᵀW, W = decoder.weights["weight"]
    """
    torch = bridge().torch
    module = getattr(module, "_orig_mod", module)  # that of torch.compile
    if not isinstance(module, torch.nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise ValueError(
            "`module` must be a torch.nn.Module, and not a scripted one, got "
            f"{type(module).__name__}."
        )
    z = jnp.asarray(example)
    if not jnp.issubdtype(z.dtype, jnp.floating):
        raise ValueError(f"`example` must hold floats, got dtype {z.dtype}: {example}.")
    weights = {name: array_of(name, tensor) for name, tensor in tensors_of(module).items()}
    floats = (w for w in weights.values() if jnp.issubdtype(w.dtype, jnp.floating) and w.ndim > 0)
    dtypes = {w.dtype.name for w in floats}
    if dtypes and z.dtype.name not in dtypes:
        raise ValueError(
            f"`example` must have the dtype of the weights, {' or '.join(sorted(dtypes))}, got "
            f"{z.dtype}."
        )
    point = jax.ShapeDtypeStruct(z.shape, z.dtype)
    translated = TorchModule(weights, blueprint_of(module), point, batched)
    check_against_torch(translated._answer, module, z[None] if batched else z, rtol)
    jax.eval_shape(translated, z)
    return translated


def _only_row(out: Array) -> Array:
    if out.ndim == 0 or out.shape[0] != 1:
        raise ValueError(
            f"`module` must return a leading batch axis of length 1 for one point, got shape "
            f"{out.shape}. If it takes points without one, set `batched=False`."
        )
    return out[0]
