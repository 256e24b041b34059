"""One loop for everything that is trained by gradients: scanned, validated, interruptible."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import orbax.checkpoint as ocp
from flax import nnx
from jax.sharding import Mesh
from tqdm.auto import tqdm

from jaxgeo import _mesh
from jaxgeo._files import writing

Model = TypeVar("Model", bound=nnx.Module)
Objective = Callable[..., jax.Array]
"""(model, batch, constants) -> scalar loss, or (model, batch, constants, key) of one that draws
random numbers. A module-level function, so it is compiled once."""


class Schedule(NamedTuple):
    """How long and how fast to train: `steps` under a cosine that takes the learning rate to zero.

    Progress, validation and checkpoints happen every `every` steps; training stops early after
    `patience` validations without a better held-out loss, and the best model is what is kept.
    Batches are random rows, or with `in_order` consecutive ones, over and over.
    `optimizer` is "adam", or "muon" (Jordan et al. 2024), which makes the update of every weight
    matrix orthogonal and leaves Adam to the rest.
    """

    steps: int
    learning_rate: float
    batch_size: int = 512
    every: int = 250
    patience: int = 8
    optimizer: str = "adam"
    in_order: bool = False


class Trace(NamedTuple):
    """What a run of training saw: one entry per validation."""

    step: np.ndarray
    training_loss: np.ndarray
    held_out_loss: np.ndarray


def _optimizer(schedule: Schedule) -> optax.GradientTransformation:
    decay = optax.cosine_decay_schedule(schedule.learning_rate, schedule.steps)
    if schedule.optimizer == "adam":
        step = optax.adam(decay, b2=0.99)
    elif schedule.optimizer == "muon":
        step = optax.contrib.muon(decay, muon_weight_dimension_numbers=_matrices)
    else:
        raise ValueError(f"optimizer must be 'adam' or 'muon', got {schedule.optimizer!r}")
    return optax.chain(optax.clip_by_global_norm(1.0), step)


def _matrices(params):
    """For Muon: matrices are the last two axes of every array that has two; any before them
    number the layers of a scan."""
    axes = optax.contrib.MuonDimensionNumbers
    return jax.tree.map(lambda p: axes(p.ndim - 2, p.ndim - 1) if p.ndim >= 2 else None, params)


@functools.partial(jax.jit, static_argnames=("graph", "objective", "schedule", "random"))
def _advance(
    graph, objective, schedule, params, rest, opt_state, data, constants, key, start, random=False
):
    """`schedule.every` steps in one scan; the key of a step depends on its number alone."""
    optimizer = _optimizer(schedule)

    count = _mesh.number_of(data)

    def loss(params, batch, noise):
        return objective(nnx.merge(graph, params, rest), batch, constants, *noise)

    def step(carry, number):
        params, opt_state = carry
        own = jax.random.fold_in(key, number)
        if schedule.in_order:
            first = number % count * schedule.batch_size
            chosen = (first + jnp.arange(schedule.batch_size)) % count
        else:
            chosen = jax.random.randint(own, (schedule.batch_size,), 0, count)
        batch = _mesh.take(data, chosen)
        noise = (jax.random.fold_in(own, 0),) if random else ()
        value, gradient = jax.value_and_grad(loss)(params, batch, noise)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return _mesh.on_all(data, (optax.apply_updates(params, updates), opt_state)), value

    numbers = start + jnp.arange(schedule.every)
    (params, opt_state), values = jax.lax.scan(step, (params, opt_state), numbers)
    return params, opt_state, jnp.mean(values)


@functools.partial(jax.jit, static_argnames=("graph", "objective"))
def _evaluate(graph, objective, params, rest, batch, constants, *noise):
    return objective(nnx.merge(graph, params, rest), _mesh.all_rows(batch), constants, *noise)


def minimize(
    objective: Objective,
    model: Model,
    data: Any,
    held_out: Any,
    *,
    constants: Any = None,
    key: jax.Array,
    schedule: Schedule,
    label: str,
    random: bool = False,
    progress: bool = True,
    checkpoint: Path | None = None,
    mesh: Mesh | None = None,
) -> tuple[Model, Trace]:
    """Minimise `objective` over the `nnx.Param`s of `model`, on batches of rows of `data`: a
    pytree of arrays, or a callable that makes fresh ones for the k-th `schedule.every` steps. A
    `random` objective is given a key of its own at every step, and one and the same for what is
    held out.

    Returns the model with the least held-out loss, and the trace of both losses. With a
    `checkpoint` directory the state is written there at every validation, and a run that finds
    one goes on from it to the same end result as if it had never stopped. An interrupt
    (Ctrl-C) ends the run at the next validation at the latest; nothing before it is lost.

    With a `mesh` (`_mesh.automatic`) the rows lie over its devices, which share each batch; of
    several processes all must call, with the same arrays, and the first one writes.
    """
    graph, params, rest = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]
    rest, held_out = _mesh.everywhere(mesh, rest), _mesh.Rows.of(mesh, held_out)
    if not callable(data):
        data = _mesh.Rows.of(mesh, data)
    entries = -(-schedule.steps // schedule.every)
    blank = np.full(entries, np.nan, np.float64)
    state = {
        "params": nnx.to_pure_dict(params),
        "optimizer": _optimizer(schedule).init(nnx.to_pure_dict(params)),
        "best": nnx.to_pure_dict(params),
        "training_loss": blank.copy(),
        "held_out_loss": blank.copy(),
    }
    noise = (jax.random.fold_in(key, schedule.steps),) if random else ()
    done, store = 0, Checkpoint(checkpoint, mesh) if checkpoint else None
    if store:
        done, state = store.restore(state)
    for part in ("params", "optimizer", "best"):
        state[part] = _mesh.everywhere(mesh, state[part])
    bar = tqdm(
        total=entries * schedule.every,
        initial=done * schedule.every,
        desc=label,
        unit="step",
        disable=None if progress and _mesh.is_first(mesh) else True,
    )
    with bar:
        for entry in range(done, entries):
            if _is_stale(state["held_out_loss"][:entry], schedule.patience):
                break
            state["params"], state["optimizer"], loss = _advance(
                graph, objective, schedule, state["params"], rest, state["optimizer"],
                _mesh.Rows.of(mesh, data(entry)) if callable(data) else data,
                constants, key, entry * schedule.every,
                random,
            )  # fmt: skip
            held_out_loss = float(
                _evaluate(graph, objective, state["params"], rest, held_out, constants, *noise)
            )
            if held_out_loss < np.nanmin(state["held_out_loss"], initial=np.inf):
                state["best"] = state["params"]
            state["training_loss"][entry] = float(loss)
            state["held_out_loss"][entry] = held_out_loss
            if store:
                store.save(entry + 1, state)
            bar.update(schedule.every)
            bar.set_postfix_str(f"loss {loss:.5g}, held out {held_out_loss:.5g}")
    if mesh is not None:
        state["best"], rest = _mesh.at_home(state["best"]), _mesh.at_home(rest)
    nnx.replace_by_pure_dict(params, state["best"])
    ran = ~np.isnan(state["training_loss"])
    trace = Trace(
        schedule.every * (1 + np.arange(entries))[ran],
        state["training_loss"][ran],
        state["held_out_loss"][ran],
    )
    return nnx.merge(graph, params, rest), trace


def _is_stale(losses: np.ndarray, patience: int) -> bool:
    """Whether the last `patience` held-out losses brought nothing better (or were not finite)."""
    if len(losses) and not np.isfinite(losses[-1]):
        return True
    if len(losses) <= patience:
        return False
    return bool(np.min(losses[-patience:]) >= np.min(losses[:-patience]))


class Checkpoint:
    """The latest state of one run in a directory, written whole or not at all (by orbax).

    Of several processes of a `mesh` the first one reads and writes; the others need not see the
    directory."""

    def __init__(self, directory: Path, mesh: Mesh | None = None):
        self._mesh = mesh
        self._directory = Path(directory).absolute()
        # orbax would wait for every process, and takes no arrays of one alone
        self._one_of_many = jax.process_count() > 1
        if not _mesh.is_first(mesh):
            return
        if jax.process_index() != 0:
            raise ValueError(
                "of several processes only the first writes checkpoints, and this is process "
                f"{jax.process_index()}: train over a mesh of all, or without a checkpoint"
            )
        processes = ocp.options.MultiprocessingOptions()
        if self._one_of_many:
            processes = ocp.options.MultiprocessingOptions(0, {0}, "jaxgeo")
        options = ocp.CheckpointManagerOptions(
            max_to_keep=1,
            enable_async_checkpointing=False,
            multiprocessing_options=processes,
            create=not self._one_of_many,
        )
        with writing(self._directory):
            if self._one_of_many:
                self._directory.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(self._directory, options=options)

    def restore(self, state: dict) -> tuple[int, dict]:
        """The number of validations done and the state then; (0, `state`) if there is none."""
        return _mesh.by_first(self._mesh, lambda: self._restore(self._plain(state)))

    def _restore(self, state: dict) -> tuple[int, dict]:
        done = self._manager.latest_step()
        if done is None:
            return 0, state
        try:
            return done, self._manager.restore(done, args=ocp.args.StandardRestore(state))
        except Exception as error:  # of many kinds, by what is missing or damaged
            raise ValueError(
                f"the checkpoint in {str(self._directory / str(done))!r} cannot be read, and "
                f"nothing was written over it: {str(error)[:500]}"
            ) from error

    def save(self, done: int, state: dict) -> None:
        if _mesh.is_first(self._mesh):
            with writing(self._directory):
                self._manager.save(done, args=ocp.args.StandardSave(self._plain(state)))

    def _plain(self, state: dict) -> dict:
        host = self._one_of_many or self._mesh is not None
        return jax.tree.map(np.asarray, state) if host else state
