"""PyTorch operations on JAX arrays, by torchax. Nothing here imports torch before it is used."""

import contextlib
import copy
import functools
import os
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

INSTALL = 'pip install "jaxgeo[torch]"'

_VALUES_NEEDED = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def translator() -> str:
    """Its name and version, for messages."""
    return f"torchax {metadata.version('torchax')}"


class Bridge(NamedTuple):
    torch: Any
    environment: Any
    """Of torchax, but without a random number generator."""
    untranslated: type[Exception]
    """What torchax raises where it does not know an operation."""


@functools.cache
def bridge() -> Bridge:
    """torch, and an environment of torchax that is ours alone; `ImportError` without them."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"PyTorch modules need torch and torchax: {INSTALL}.") from error
    with _nothing_changed(torch):
        try:
            import torchax  # noqa: F401
            from torchax.ops.ops_registry import all_aten_ops
            from torchax.tensor import Environment, OperatorNotFound

            class Deterministic(Environment):
                def get_and_rotate_prng_key(self, generator: Any = None) -> Any:
                    raise ValueError(
                        "`module` draws random numbers when it is called: a point must have one "
                        "image. Give it its noise as a buffer."
                    )

            environment = Deterministic()
        except ImportError as error:
            raise ImportError(f"PyTorch modules need torch and torchax: {INSTALL}.") from error
        except (AttributeError, RuntimeError) as error:
            raise ImportError(
                f"{translator()} does not load beside torch {torch.__version__}: {error}. "
                f"Versions that fit: {INSTALL}."
            ) from error

    convolution = _of_all_groups(environment, all_aten_ops[torch.ops.aten.convolution].func)
    environment.override_op_definition(torch.ops.aten.convolution.default, convolution)
    return Bridge(torch, environment, OperatorNotFound)


def _of_all_groups(environment: Any, convolution: Callable[..., Array]) -> Callable[..., Any]:
    """torchax 0.0.13 mixes up the groups of a transposed convolution: here one after another."""

    def corrected(x: Any, weight: Any, bias: Any, *options: Any) -> Any:
        x, weight, bias = environment.t2j_iso((x, weight, bias))
        *same, transposed, output_padding, groups = options
        if not transposed or groups == 1:
            return environment.j2t_iso(convolution(x, weight, bias, *options))
        parts = zip(jnp.split(x, groups, axis=1), jnp.split(weight, groups), strict=True)
        out = jnp.concatenate(
            [convolution(*part, None, *same, True, output_padding, 1) for part in parts], axis=1
        )
        if bias is not None:
            out = out + bias.reshape(-1, *(1,) * (out.ndim - 2))
        return environment.j2t_iso(out)

    return corrected


@contextlib.contextmanager
def _nothing_changed(torch: Any) -> Iterator[None]:
    """What an import of torchax sets for the whole process is set back."""
    variables, option = dict(os.environ), "jax_pjrt_client_create_options"
    client, fast = getattr(jax.config, option, None), torch.backends.mha.get_fastpath_enabled()
    try:
        yield
    finally:
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]
        if getattr(jax.config, option, None) != client:
            jax.config.update(option, client)
        torch.backends.mha.set_fastpath_enabled(fast)


@contextlib.contextmanager
def _torch_runs_jax() -> Iterator[None]:
    """Every operation of PyTorch is one of JAX in here, under the promotion rules of PyTorch."""
    torch, environment, _ = bridge()
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # fused kernels that have no translation
    try:
        with (
            jax.numpy_rank_promotion("allow"),
            jax.numpy_dtype_promotion("standard"),
            warnings.catch_warnings(),
            environment,
            torch.no_grad(),
            torch.device("jax"),
        ):
            # integers of PyTorch have 64 bits, those of JAX have 32 by default
            warnings.filterwarnings("ignore", "Explicitly requested dtype", UserWarning)
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def tensors_of(module: Any) -> dict[str, Any]:
    """Parameters, buffers and other tensors among a module's attributes, each once, by name."""
    torch = bridge().torch
    found = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    known = {id(tensor) for tensor in found.values()}
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if isinstance(value, torch.Tensor) and id(value) not in known:
                found[f"{path}.{name}".lstrip(".")] = value
                known.add(id(value))
    return found


def array_of(name: str, tensor: Any) -> Shaped[Array, "..."]:
    """The numbers of a tensor, copied; `ValueError` if JAX cannot hold them now."""
    torch, environment, _ = bridge()
    if torch.nn.parameter.is_lazy(tensor):
        raise ValueError(f"weight {name!r} has no shape yet: call `module` once.")
    if tensor.device.type == "meta":
        raise ValueError(f"weight {name!r} has no values, its device is 'meta'.")
    tensor = tensor.detach().cpu().clone()
    array = environment.t2j_copy(tensor)
    dtype = str(tensor.dtype).removeprefix("torch.")
    if str(array.dtype) != dtype:
        if tensor.is_floating_point() or tensor.is_complex():
            raise ValueError(
                f"weight {name!r} has dtype {dtype}, which JAX holds only with jax_enable_x64: "
                "turn that on, or give `module.float()`."
            )
        if not torch.equal(torch.tensor(np.asarray(array)).to(tensor.dtype), tensor):
            raise ValueError(
                f"weight {name!r} holds integers beyond 32 bits: turn jax_enable_x64 on."
            )
    return array


def tensor_of(array: Float[Array, "..."]) -> Any:
    """The numbers of an array as a tensor of the same dtype, bfloat16 included."""
    torch = bridge().torch
    numbers = torch.tensor(np.asarray(array, np.float64))
    return numbers.to(getattr(torch, array.dtype.name))


def blueprint_of(module: Any) -> Any:
    """The module without its weights, in evaluation mode: what a call is traced with."""
    torch = bridge().torch
    tensors, memo = tensors_of(module), {}
    for tensor in tensors.values():
        empty = torch.empty_like(tensor, device="meta", requires_grad=False)
        if isinstance(tensor, torch.nn.Parameter):
            empty = torch.nn.Parameter(empty, requires_grad=False)
        memo[id(tensor)] = empty
    blueprint = copy.deepcopy(module, memo)
    for part in blueprint.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, torch.Tensor):
                del part.__dict__[name]
                part.register_buffer(name, value)
    return blueprint.eval()


def call(blueprint: Any, weights: dict[str, Array], x: Array) -> Any:
    """What the module answers to `x`, an array or a tuple of them: a pure function."""
    torch, environment, untranslated = bridge()
    module = copy.deepcopy(blueprint)  # whatever a call stores in the module is forgotten
    try:
        with _torch_runs_jax():
            out = torch.func.functional_call(
                module, environment.j2t_iso(weights), (environment.j2t_iso(x),)
            )
            answer = environment.t2j_iso(tuple(out) if isinstance(out, list) else out)
    except untranslated as error:
        name = str(error).removeprefix("Operator with name ").removesuffix(" has no lowering")
        raise ValueError(
            f"`module` uses the operation {name}, which {translator()} cannot translate to JAX."
        ) from error
    except _VALUES_NEEDED as error:
        raise ValueError(
            "`module` asks for the value of a tensor (by `if`, `while`, an index of booleans, "
            ".item(), .tolist(), .numpy() or .cpu()), which is not known where JAX traces one "
            "program for all points: use torch.where."
        ) from error
    except AssertionError as error:
        if "mixed math" not in str(error):
            raise
        raise ValueError(
            "`module` uses a tensor that it keeps in a list, a dictionary or a closure, or puts "
            "on a device by name: make it a buffer (`register_buffer`), or use `x.device`."
        ) from error
    return answer
