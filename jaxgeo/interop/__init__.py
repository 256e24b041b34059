"""Models of other frameworks as pure JAX functions. Models of JAX itself need nothing of this."""

from jaxgeo.interop.module import TorchModule as TorchModule
from jaxgeo.interop.module import from_torch as from_torch
