"""Names of the library in the text become links to the reference: a hook of mkdocs."""

import inspect
import re
from collections import defaultdict
from operator import attrgetter
from pathlib import Path
from typing import Any

import jaxgeo

REFERENCE = Path(__file__).parent.parent / "api"
DOCUMENTED = re.compile(r"^::: jaxgeo\.([\w.]+)$", re.MULTILINE)
CODE = re.compile(r"<code>(jg\.|jaxgeo\.)?([\w.]+)(?:\(\))?</code>")
OUTSIDE = re.compile(
    r"(<pre.*?</pre>|<h\d.*?</h\d>|<a[ >].*?</a>|<autoref.*?</autoref>)", re.DOTALL
)
WORDS = {
    *("fit", "log", "exp", "norm", "inner", "length", "energy", "score", "velocity", "save"),
    *("panels", "distance", "momentum", "bounded", "overlap", "regions", "comparison"),
    *("hamiltonian", "current", "sample", "phase", "normal", "beta", "gamma", "growth"),
}
"""Names that also mean arguments, files, or nothing of ours: links only with `jg.` or a room."""


def places() -> dict[str, str]:
    """What the text may call a thing, `ising.sample` say, and where the reference has it."""
    found = defaultdict(set)
    for page in sorted(REFERENCE.glob("*.md")):
        for path in DOCUMENTED.findall(page.read_text(encoding="utf-8")):
            if inspect.ismodule(attrgetter(path)(jaxgeo)):
                continue
            parts = path.split(".")
            for first in range(len(parts)):
                found[".".join(parts[first:])].add(f"jaxgeo.{path}")
    return {name: paths.pop() for name, paths in found.items() if len(paths) == 1}


PLACES = places()


def linked(match: re.Match[str]) -> str:
    code, named, name = match[0], match[1], match[2]
    if name not in PLACES or (name in WORDS and not named):
        return code
    return f'<autoref identifier="{PLACES[name]}">{code}</autoref>'


def on_page_content(html: str, **_: Any) -> str:
    parts = OUTSIDE.split(html)
    parts[::2] = [CODE.sub(linked, part) for part in parts[::2]]
    return "".join(parts)
