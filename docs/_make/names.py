"""Names of the library in the text become links to the reference: a hook of mkdocs."""

import inspect
import re
from typing import Any

import jaxgeo

ROOMS = (
    *("models", "reconstruction", "diffusion", "slices", "phases", "distributions", "plotting"),
    *("problems", "likelihoods"),
)
CODE = re.compile(r"<code>(?:jg\.|jaxgeo\.)?([\w.]+)(?:\(\))?</code>")
OUTSIDE = re.compile(
    r"(<pre.*?</pre>|<h\d.*?</h\d>|<a[ >].*?</a>|<autoref.*?</autoref>)", re.DOTALL
)
WORDS = {"fit", "log", "exp", "norm", "inner", "length", "energy", "score", "velocity", "save"}
WORDS |= {"panels", "distance", "momentum", "bounded", "overlap", "regions", "comparison"}
"""Names that also mean arguments, fields, or nothing of ours: links only with `jg.` before."""


def public_names() -> dict[str, str]:
    """What the text may call a thing, and its place in the reference."""
    places = {}
    for room in ROOMS:
        module = getattr(jaxgeo, room)
        for name, thing in vars(module).items():
            ours = getattr(thing, "__module__", "").startswith("jaxgeo")
            if not name.startswith("_") and ours and not inspect.ismodule(thing):
                places[f"{room}.{name}"] = f"jaxgeo.{room}.{name}"
                places.setdefault(name, f"jaxgeo.{room}.{name}")
    for name in dir(jaxgeo):
        thing = getattr(jaxgeo, name)
        if not name.startswith("_") and getattr(thing, "__module__", "").startswith("jaxgeo"):
            places[name] = f"jaxgeo.{name}"
    return places


PLACES = public_names()


def linked(match: re.Match[str]) -> str:
    name, code = match[1], match[0]
    if name not in PLACES or (name in WORDS and "jg." not in code):
        return code
    return f'<autoref identifier="{PLACES[name]}" optional>{code}</autoref>'


def on_page_content(html: str, **_: Any) -> str:
    parts = OUTSIDE.split(html)
    parts[::2] = [CODE.sub(linked, part) for part in parts[::2]]
    return "".join(parts)
