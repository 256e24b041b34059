"""Figures: new ones, and writing them."""

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

FORMATS = (".png", ".pdf", ".svg")


def panels(rows: int = 1, columns: int = 1, *, size: tuple[float, float] = (4.2, 3.4)) -> Any:
    """`(rows, columns)` axes of a new figure, each of `size` inches, that take care of their room.

    >>> panels(2, 3).shape
    (2, 3)
    """
    figure = Figure(figsize=(columns * size[0], rows * size[1]))
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.06)
    return figure.subplots(rows, columns, squeeze=False)


def save(figure: Any, path: str | Path, *, dpi: int = 200) -> Path:
    """Write a figure whole or not at all, as PNG (or PDF, SVG) by the suffix of `path`.

    **Returns:** the path. **Fails:** `ValueError`, quoting the path, on another suffix and where
    nothing can be written.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"a picture's name must end in one of {FORMATS}, got {str(path)!r}.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        figure.draw_without_rendering()  # the layout settles at the second drawing
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=dpi)
        os.replace(temporary, path)
    except OSError as error:
        raise ValueError(f"cannot write the picture {str(path)!r}: {error}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def legend_columns(ax: Axes, handles: Sequence[Any]) -> int:
    """The most columns of a legend in small print that the axes have room for."""
    inches = ax.get_window_extent().width / ax.figure.dpi
    lengths = [len(re.sub(r"[\\${}^_]", "", str(handle.get_label()))) for handle in handles]
    widths = 0.5 + 0.075 * np.array(lengths)
    for n in range(len(widths), 1, -1):
        if sum(column.max() for column in np.array_split(widths, n)) <= inches:
            return n
    return 1
