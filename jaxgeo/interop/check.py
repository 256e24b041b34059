"""Whether a translated module is the module: its value and derivative beside those of PyTorch."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgeo.interop.bridge import blueprint_of, bridge, tensor_of, tensors_of, translator


def check_against_torch(
    translated: Callable[[Array], Any], module: Any, x: Array, rtol: float | None
) -> None:
    """`ValueError` unless `translated` has the value and the derivative of `module` at `x`.

    The derivative is that of one weighted sum of all numbers that are returned, backward, which
    every operation of PyTorch has. What is compared is what PyTorch takes and returns, the batch
    axis included.
    """
    expected = _of_torch(module, x)
    with jax.default_matmul_precision("highest"):
        found = _of_jax(translated, x)
    names = ["value"] * (len(expected) - 1) + ["derivative"]
    for name, ours, theirs in zip(names, found, expected, strict=True):
        _compare(name, np.asarray(ours), np.asarray(theirs), rtol)


def _compare(name: str, found: np.ndarray, expected: np.ndarray, rtol: float | None) -> None:
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        raise ValueError(
            f"the {name} of `module` at `example` has shape {expected.shape} and dtype "
            f"{expected.dtype}, that of its translation by {translator()} shape {found.shape} "
            f"and dtype {found.dtype}."
        )
    if not np.isfinite(expected).all():
        raise ValueError(f"the {name} of `module` at `example` is not finite.")
    scale = float(np.abs(expected).max(initial=0))
    error = float(np.abs(found - expected).max(initial=0))
    allowed = float(jnp.finfo(expected.dtype).eps) ** 0.5 if rtol is None else rtol
    if not error <= allowed * scale:
        raise ValueError(
            f"the {name} of `module` at `example` and that of its translation by {translator()} "
            f"differ by {error:.2g}, where the largest entry is {scale:.2g}: more than "
            f"`rtol` = {allowed:.2g}."
        )


def _weights(shape: tuple[int, ...], dtype: jnp.dtype) -> Float[Array, "..."]:
    """Of the sum that is derived: all different, so that no two errors cancel."""
    return jnp.cos(jnp.arange(np.prod(shape), dtype=dtype)).reshape(shape)


@eqx.filter_jit
def _of_jax(translated: Callable[[Array], Any], x: Array) -> tuple[Array, ...]:
    values, pull = jax.vjp(lambda y: tuple(jax.tree.leaves(translated(y))), x)
    return (*values, *pull(tuple(_weights(value.shape, value.dtype) for value in values)))


def _of_torch(module: Any, x: Array) -> tuple[Array, ...]:
    """By the module's own weights on their own device, in evaluation mode; it is left as it is."""
    torch, environment, _ = bridge()
    tensors = {
        name: tensor.detach() if isinstance(tensor, torch.nn.Parameter) else tensor.clone()
        for name, tensor in tensors_of(module).items()
    }
    device = next((tensor.device for tensor in tensors.values()), None)
    point = tensor_of(x).to(device).requires_grad_()
    with torch.enable_grad():
        out = torch.func.functional_call(blueprint_of(module), tensors, (point.clone(),))
        values = tuple(out) if isinstance(out, (tuple, list)) else (out,)
        total = torch.zeros((), dtype=point.dtype, device=device)
        for value in values:
            if not (isinstance(value, torch.Tensor) and value.is_floating_point()):
                raise ValueError(
                    "`module` must return a tensor of floats or a tuple of them, got "
                    f"{_described(value)}. Wrap it in a module whose `forward` picks them."
                )
            array = environment.t2j_copy(value.detach())
            weights = tensor_of(_weights(array.shape, array.dtype))
            total = total + (value * weights.to(value.device)).sum()
        derivative = torch.zeros_like(point)
        if total.requires_grad:
            derivative = torch.autograd.grad(total, point, materialize_grads=True)[0]
    return tuple(environment.t2j_copy(tensor.detach()) for tensor in (*values, derivative))


def _described(value: Any) -> str:
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ if dtype is None else f"dtype {dtype}"
