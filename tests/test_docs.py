"""The documentation: its code runs, it names everything public, and it cites what it lists."""

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import run_page

import jaxgeo

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md"])
RUNNABLE = [page for page in PAGES if run_page.BLOCK.search(page.read_text())]
TORCH = importlib.util.find_spec("torch") and importlib.util.find_spec("torchax")
REFERENCE = "\n".join(page.read_text() for page in sorted((DOCS / "api").glob("*.md")))


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_code_of_a_page_runs_and_gives_what_it_says(page, tmp_path):
    """As the reader runs it: a process of its own, in float32, in an empty folder."""
    if re.search("^import torch$", page.read_text(), re.MULTILINE) and not TORCH:
        pytest.skip("PyTorch is not installed")
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONPATH": paths}
    ran = subprocess.run(
        [sys.executable, run_page.__file__, page],
        capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_tables_are_of_the_results_that_are_there():
    spec = importlib.util.spec_from_file_location("tables", DOCS / "_make" / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    pages = {page: page.read_text() for page in DOCS.rglob("*.md")}
    assert any(tables.BLOCK.search(text) for text in pages.values())
    for page, text in pages.items():
        assert tables.filled(text) == text, f"{page}: python docs/_make/tables.py"


@pytest.mark.parametrize(
    ("found", "said", "same"),
    [
        ("0.96242", "0.9624", True),
        ("0.9631", "0.9624", False),
        ("[ 1.00001 -2.]", "[1.0 -2.0]", True),
        ("True", "False", False),
        ("0.5 0.25", "0.5", False),
        ("3.2e-08", "3e-8", True),
    ],
)
def test_results_are_compared_to_the_digits_shown(found, said, same):
    assert run_page.agrees(found, said) == same


def exports(module, prefix):
    """Public functions, classes, modules and constants of a room, by their names."""
    package = hasattr(module, "__path__")
    for name, thing in vars(module).items():
        home = getattr(thing, "__module__", "")
        if name.startswith("_") or inspect.ismodule(thing):
            continue
        written_here = package or home == module.__name__
        if written_here and str(home).startswith("jaxgeo"):
            yield f"{prefix}.{name}", thing


def public_things():
    """Everything that a user may import by a public path, once."""
    rooms = [name for name in dir(jaxgeo) if inspect.ismodule(getattr(jaxgeo, name))]
    rooms = [room for room in rooms if not room.startswith("_")]
    things = {}
    for name in dir(jaxgeo):
        thing = getattr(jaxgeo, name)
        if not name.startswith("_") and getattr(thing, "__module__", "").startswith("jaxgeo"):
            things[id(thing)] = f"jaxgeo.{name}"
    # attributes once something has imported them; training and grids give their names to others
    private = {"importlib", "training", "grids", "cli", "demos", "report"}
    for room in sorted(set(rooms) - private):
        module = getattr(jaxgeo, room)
        parts = {f"jaxgeo.{room}": module}
        if room == "systems":
            parts |= {
                f"jaxgeo.systems.{part}": getattr(module, part)
                for part in ("families", "ising", "mixture", "tasep")
            }
        for prefix, part in parts.items():
            for path, thing in exports(part, prefix):
                things.setdefault(id(thing), path)
            for name in getattr(part, "__all__", ()):
                things.setdefault((prefix, name), f"{prefix}.{name}")
    return things


def resolved(path):
    thing = jaxgeo
    for part in path.split(".")[1:]:
        thing = getattr(thing, part)
    return thing


DOCUMENTED = {id(resolved(path)) for path in re.findall(r"^::: (jaxgeo[\w.]*)$", REFERENCE, re.M)}


@pytest.mark.parametrize("path", sorted(set(public_things().values())))
def test_the_reference_has_every_public_name(path):
    thing = resolved(path)
    by_name = path.split(".")[-1]
    constant = isinstance(thing, int | float | tuple | str)
    if constant:
        assert re.search(rf"\b{by_name}\b", REFERENCE)
    else:
        assert id(thing) in DOCUMENTED


def test_the_reference_finds_what_is_missing():
    assert id(jaxgeo.geodesics.starts.start_curves) not in DOCUMENTED


REFERENCES = re.compile(r"\*\*Reference:\*\*(.*?)(?:\n\s*\n|\"\"\")", re.DOTALL)
CITED = re.compile(r"([^\s()][^()]{2,90}?) \(((?:1[89]|20)\d\d)\)")
NAMES = re.compile(r"[A-ZÀ-Þ][\w’-]+")


def citations():
    """Of every **Reference:** of a docstring, the names before a year, and the year."""
    for path in sorted((ROOT / "jaxgeo").rglob("*.py")):
        for paragraph in REFERENCES.findall(path.read_text()):
            for who, year in CITED.findall(" ".join(paragraph.split())):
                yield path.name, who, year


def test_the_bibliography_has_what_docstrings_cite():
    listed = (DOCS / "bibliography.md").read_text().splitlines()
    missing, seen = [], 0
    for path, who, year in citations():
        seen += 1
        names = NAMES.findall(who)
        if not any(year in line and names and names[-1] in line for line in listed):
            missing.append(f"{path}: {who} ({year})")
    assert not missing
    assert seen > 90


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_names_a_place_of_one_machine(page):
    assert not re.search(r"(?<![\w.])/(work|tmp|home|root|usr)/", page.read_text())


def test_a_dead_link_is_found(tmp_path):
    spec = importlib.util.spec_from_file_location("links", DOCS / "_make" / "links.py")
    links = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(links)
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="b.html#in">good</a><a href="#top">good</a>'
        '<a href="b.html#out">no anchor</a><a href="c.html">no page</a>'
        '<a href="https://example.org">elsewhere</a><img src="https://example.org/a.png">'
    )
    (tmp_path / "b.html").write_text('<p id="in">B</p><a href="a.html">good</a>')
    assert links.dead_links(tmp_path) == [
        "a.html: b.html#out has no such anchor",
        "a.html: c.html leads nowhere",
        "a.html loads https://example.org/a.png",
    ]
