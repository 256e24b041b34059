"""The tables of the documentation that are made of results: `python docs/_make/tables.py`.

A table stands between comments, `<!-- table: NAME -->` and `<!-- end -->`, and is replaced there.
"""

import collections
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent
RESULTS = DOCS.parent / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Rows in Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def result(name: str) -> Any:
    return json.loads((RESULTS / name).read_text())


def milliseconds(times: dict[str, float]) -> str:
    """The median of several runs."""
    return f"{1e3 * times['median']:,.0f}"


def grids() -> str:
    found = result("speed.json")[-1]["grid"]
    head = ("network", "nodes", "grid, ms", "products, ms", "ratio", "of the least", "of peak")
    return table(
        head,
        [
            (
                name, f"{f['nodes']:,}", milliseconds(f["grid"]), milliseconds(f["products"]),
                f"{f['ratio']:.2f}", f"{f['ratio of least']:.2f}", f"{f['share of peak']:.0%}",
            )
            for name, f in found.items()
        ],
    )  # fmt: skip


def first_calls() -> str:
    found = result("speed.json")[-1]["first"]
    rows = [
        (name, *(" ".join(f"{x:.2f}" for x in sorted(f[part])) for part in ("call", "import")))
        for name, f in found.items()
    ]
    return table(("first call", "seconds", "`import jaxgeo` after jax and diffrax"), rows)


def rates() -> str:
    e = result("speed.json")[-1]
    geodesics, ising = e["geodesics"], e["ising"]
    return table(
        ("what", "rate"),
        [
            ("`christoffel_first` of tanh 3 × 64", f"{e['christoffel']['nodes a second']:.2g} /s"),
            (
                f"geodesics of the half-plane, {geodesics['geodesics']:,} in a batch, greatest "
                f"relative error {geodesics['greatest relative error']:.0e}",
                f"{geodesics['a second']:,.0f} /s",
            ),
            (
                f"Ising spins, heat bath, {ising['lattices']:,} lattices of {ising['size']}²",
                f"{ising['updates a second']:.2g} /s",
            ),
            ("training steps of the default potential", f"{e['fit']['steps a second']:.0f} /s"),
            ("peak memory of a 4096 × 4096 grid", f"{e['memory']['GiB']:.2f} GiB"),
        ],
    )


def outcomes() -> str:
    kinds = ("refused", "code", "right", "failure")
    rows = []
    for subject, functions in result("robustness.json")["outcomes"].items():
        total: collections.Counter = collections.Counter()
        for counts in functions.values():
            total.update(counts)
        rows.append((subject, len(functions), *(f"{total[kind]:,}" for kind in kinds)))
    sums = [sum(int(str(row[i]).replace(",", "")) for row in rows) for i in range(1, 6)]
    rows.append(("all", *(f"{n:,}" for n in sums)))
    return table(("subject", "functions", *kinds), rows)


TABLES = {"grids": grids, "first_calls": first_calls, "rates": rates, "outcomes": outcomes}


def filled(text: str) -> str:
    """A page with its tables as the results are now."""
    return BLOCK.sub(lambda block: block[1] + "\n" + TABLES[block[2]]() + "\n" + block[3], text)


if __name__ == "__main__":
    for page in DOCS.rglob("*.md"):
        text = page.read_text()
        if filled(text) != text:
            page.write_text(filled(text))
