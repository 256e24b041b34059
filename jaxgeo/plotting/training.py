"""How a fit was trained."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from jaxgeo.plotting.figures import panels

STYLES = {"training": ("#0072B2", "--"), "held out": ("#D55E00", "-")}


def training_history(history: Mapping[str, Any], *, axes: Any = None) -> Any:
    """The losses of a fit: one panel for each part that was trained, one for the ridges tried.

    A scale is logarithmic if all its losses are positive. The best held-out loss, whose model was
    kept, is marked, or the row that an entry calls "kept"; losses that are not finite are named in
    the legend.

    **Arguments:**

    - `history`: of a `LogPartitionFit`: names to `Trace`s, and perhaps "ridges".
    - `axes`: an array of as many axes; if not given, those of a new figure, at most four in a row.

    **Returns:** the axes, an array of as many as there are entries. **Fails:** `ValueError` on an
    empty history, an entry that is no trace, or another number of axes.
    """
    entries = {name: _losses(name, entry) for name, entry in history.items()}
    if not entries:
        raise ValueError(f"`history` must hold at least one trace, got {dict(history)}.")
    if axes is None:
        columns = min(len(entries), 4)
        grid = panels(-(-len(entries) // columns), columns, size=(4.0, 3.2)).ravel()
        axes, spare = np.split(grid, [len(entries)])
        for ax in spare:
            ax.remove()
    axes = np.asarray(axes)
    if axes.size != len(entries):
        raise ValueError(f"`axes` must hold {len(entries)} axes, got shape {axes.shape}.")
    for ax, (name, (steps, losses)) in zip(axes.ravel(), entries.items(), strict=True):
        for label, loss in losses.items():
            color, style = STYLES[label]
            bad = int(np.sum(~np.isfinite(loss)))
            note = f" ({bad} not finite)" if bad else ""
            ax.plot(steps, loss, style, color=color, label=label + note, marker=".", ms=4, lw=1.5)
        held_out = losses["held out"]
        if np.any(np.isfinite(held_out)):
            best = int(np.nanargmin(np.where(np.isfinite(held_out), held_out, np.nan)))
            if isinstance(history[name], Mapping):
                best = history[name].get("kept", best)
            ax.plot(steps[best], held_out[best], "o", ms=9, mfc="none", mec="black", label="kept")
        values = np.concatenate(list(losses.values()))
        _scale(ax, values[np.isfinite(values)])
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        tried = isinstance(history[name], Mapping)
        ax.set_xlabel("penalty, in order tried" if tried else "step")
        ax.set_ylabel("loss")
        ax.set_title(name, fontsize="medium")
        ax.grid(which="both", color="0.9")
        ax.legend(fontsize="small")
    return axes


def _losses(name: str, entry: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The steps of one entry of a history, and its losses by name."""
    if isinstance(entry, Mapping) and "held_out" in entry:
        losses = {"held out": np.asarray(entry["held_out"], np.float64)}
        return 1 + np.arange(losses["held out"].size), losses
    try:
        steps = np.asarray(entry.step)
        losses = {"training": entry.training_loss, "held out": entry.held_out_loss}
    except AttributeError:
        raise ValueError(f"history[{name!r}] is no trace of losses: {entry!r}.") from None
    return steps, {label: np.asarray(loss, np.float64) for label, loss in losses.items()}


def _scale(ax: Axes, values: np.ndarray) -> None:
    """A logarithmic scale where it can be, with plain numbers where it spans little."""
    if values.size == 0 or np.any(values <= 0):
        return
    ax.set_yscale("log")
    if values.max() < 10 * values.min():
        ax.yaxis.set_major_locator(MaxNLocator(5))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_locator(NullLocator())
