"""Imports go down the table of rooms only, and `import jaxgeo` stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jaxgeo

ROOMS = (
    "cli",
    "demos",
    "report",
    "plotting",
    "phases",
    "slices",
    "distributions",
    "geodesics",
    "models",
    "reconstruction",
    "training",
    "geometry",
    "metrics",
    "problems",
    "likelihoods",
    "systems",
    "diffusion",
    "interop",
    "grids",
    "_files",
    "_batching",
    "_compilation",
    "_mesh",
    "_results",
    "_linalg",
    "_typing",
)
"""From the top of the house to the ground. A room may import those below it, and itself."""

PACKAGE = Path(jaxgeo.__file__).parent
FILES = sorted(
    path for path in PACKAGE.rglob("*.py")
    if path not in (PACKAGE / "__init__.py", PACKAGE / "__main__.py")
)  # fmt: skip


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms that a file imports; the whole library (`import jaxgeo`) counts as geodesics."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "jaxgeo":
                known = len(parts) > 1 and parts[1] in ROOMS
                rooms.add(parts[1] if known else "geodesics")
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    here = ROOMS.index(room_of(path))
    for room in imported_rooms(path) - {"_version"}:
        if room_of(path) == "cli" and room == "geodesics":
            continue
        assert ROOMS.index(room) >= here, f"{path.name} in {room_of(path)} imports {room}"


def test_import_is_light():
    code = (
        "import sys, jaxgeo; "
        "print([m for m in ('matplotlib', 'tqdm', 'flax', 'optax', 'orbax', 'typer', 'blackjax') "
        "if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_public_names_exist():
    for name in dir(jaxgeo):
        assert getattr(jaxgeo, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        jaxgeo.nothing  # noqa: B018
