"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import pytest

import jaxgeo

EXAMPLES = [
    example
    for module in pkgutil.walk_packages(jaxgeo.__path__, "jaxgeo.")
    for example in doctest.DocTestFinder(exclude_empty=True).find(
        importlib.import_module(module.name), extraglobs={"jax": jax, "jnp": jnp, "jg": jaxgeo}
    )
    if example.examples
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example(example):
    runner = doctest.DocTestRunner()
    runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
