"""Arguments that should not be, and arguments in another guise."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

INVALID, NOT_FINITE, SAME, ANY = "invalid", "not finite", "same", "any"


class Mutation(NamedTuple):
    """An argument in place of a good one.

    `kind`: `INVALID`: has to be refused; `NOT_FINITE`: refused or without an answer; `SAME`:
    refused, or with the answer of the good one to the precision of `tolerance`; `ANY`: any outcome
    but a crash.
    """

    value: Any
    kind: str
    what: str
    tolerance: float = 1e-9


def of_array(
    rng: np.random.Generator, good: np.ndarray, free: bool = False, limits: bool = False
) -> Mutation:
    """In place of an array of floats; `free` if it alone decides how long it is, `limits` if the
    answer may have a limit at infinity."""
    x = np.asarray(good)
    place = tuple(rng.integers(n) for n in x.shape)

    endless = ANY if limits else NOT_FINITE

    def with_entry(entry: float) -> np.ndarray:
        out = np.array(x)
        out[place] = entry
        return out

    makers = {
        "a string": lambda: Mutation("abc", INVALID, "a string"),
        "none": lambda: Mutation(None, INVALID, "None"),
        "object": lambda: Mutation(object(), INVALID, "an object"),
        "objects": lambda: Mutation(np.full(x.shape, None), INVALID, "an array of None"),
        "strings": lambda: Mutation(np.full(x.shape, "a"), INVALID, "an array of strings"),
        "dictionary": lambda: Mutation({"z": 1.0}, INVALID, "a dictionary"),
        "complex": lambda: Mutation(x.astype(complex) + 1j, INVALID, "complex numbers"),
        "bool": lambda: Mutation(np.ones(x.shape, bool), ANY, "booleans"),
        "empty": lambda: Mutation(np.zeros((0,) * max(x.ndim, 1)), INVALID, "an empty array"),
        "one more axis": lambda: Mutation(x[None], INVALID, "one more axis"),
        "one axis less": lambda: Mutation(x[(0,) * x.ndim], INVALID, "one number"),
        "too long": lambda: Mutation(
            np.concatenate([x, x], axis=-1), ANY if free else INVALID, "twice as long"
        ),
        "ragged": lambda: Mutation([[0.0], [0.0, 1.0]], INVALID, "a ragged list"),
        "nan": lambda: Mutation(with_entry(np.nan), NOT_FINITE, "a NaN"),
        "inf": lambda: Mutation(with_entry(np.inf), endless, "an infinity"),
        "-inf": lambda: Mutation(with_entry(-np.inf), endless, "a negative infinity"),
        "all nan": lambda: Mutation(np.full(x.shape, np.nan), NOT_FINITE, "NaNs"),
        "huge": lambda: Mutation(with_entry(1e300), ANY, "a number of 1e300"),
        "large": lambda: Mutation(with_entry(-1e30), ANY, "a number of -1e30"),
        "tiny": lambda: Mutation(with_entry(1e-310), ANY, "a subnormal number"),
        "zeros": lambda: Mutation(np.zeros(x.shape), ANY, "zeros"),
        "list": lambda: Mutation(x.tolist(), SAME, "a list"),
        "numpy": lambda: Mutation(np.asfortranarray(x[..., ::-1])[..., ::-1], SAME, "strides"),
        "jax": lambda: Mutation(jnp.asarray(x), SAME, "a JAX array"),
        "big endian": lambda: Mutation(x.astype(">f8"), SAME, "big endian numbers"),
        "float32": lambda: Mutation(x.astype(np.float32), SAME, "float32", 1e-3),
        "float16": lambda: Mutation(x.astype(np.float16), SAME, "float16", 0.1),
        "bfloat16": lambda: Mutation(jnp.asarray(x, jnp.bfloat16), SAME, "bfloat16", 0.5),
        "integers": lambda: Mutation(np.round(x).astype(int), ANY, "integers"),
    }
    return makers[str(rng.choice(list(makers)))]()


def of_number(rng: np.random.Generator, good: float) -> Mutation:
    """In place of one number, say a tolerance or a time."""
    makers = [
        Mutation("abc", INVALID, "a string"),
        Mutation(object(), INVALID, "an object"),
        Mutation({}, INVALID, "a dictionary"),
        Mutation(1j, INVALID, "a complex number"),
        Mutation(np.full(3, good), INVALID, "three numbers"),
        Mutation(np.nan, NOT_FINITE, "NaN"),
        Mutation(np.inf, ANY, "infinity"),
        Mutation(0.0, ANY, "0"),
        Mutation(-good, ANY, "a negative number"),
        Mutation(1e-300, ANY, "1e-300"),
        Mutation(1e300, ANY, "1e300"),
        Mutation(np.float32(good), SAME, "a float32", 1e-3),
        Mutation(np.asarray(good), SAME, "an array of no axes"),
    ]
    return makers[rng.integers(len(makers))]


def of_count(rng: np.random.Generator, good: int) -> Mutation:
    """In place of a whole number from 1 on."""
    makers = [
        Mutation("3", INVALID, "a string"),
        Mutation(object(), INVALID, "an object"),
        Mutation(good + 0.5, INVALID, "half a count"),
        Mutation(np.full(2, good), INVALID, "two counts"),
        Mutation(np.nan, INVALID, "NaN"),
        Mutation(-1, INVALID, "-1"),
        Mutation(0, ANY, "0"),
        Mutation(1, ANY, "1"),
        Mutation(np.int32(good), SAME, "a numpy integer"),
    ]
    return makers[rng.integers(len(makers))]


def of_function(rng: np.random.Generator, error: type[Exception]) -> Mutation:
    """In place of a function of a point."""

    def raising(*_: Any) -> Any:
        raise error("of the caller's own")

    makers = [
        Mutation(None, INVALID, "None for a function"),
        Mutation("abc", INVALID, "a string for a function"),
        Mutation(np.eye(2), INVALID, "an array for a function"),
        Mutation(raising, INVALID, "a function that raises"),
        Mutation(lambda z: None, INVALID, "a function of no value"),
        Mutation(lambda z: "abc", INVALID, "a function to a string"),
        Mutation(lambda z: jnp.zeros((3, 1)), INVALID, "a function to a wrong shape"),
        Mutation(lambda z: [[1.0, 0.0], [0.0, 1.0]], INVALID, "a function to a list"),
        Mutation(lambda z: jnp.zeros((2, 2, 2)), INVALID, "a function to a cube"),
    ]
    return makers[rng.integers(len(makers))]
