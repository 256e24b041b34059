"""Runs the python code of one page as its reader would, and checks what the page says it gives.

Blocks share one namespace. A statement whose line ends in `# → text` is a value, or prints
something, that reads `text`; numbers agree to the digits that are shown.
"""

import ast
import contextlib
import io
import re
import sys
from pathlib import Path

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAID = re.compile(r"#\s*→\s*(.*)$")
NUMBER = re.compile(r"[-−]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?")


def half_a_digit(number: str) -> float:
    """What the last digit of a number leaves open, and a little for rounding."""
    mantissa, _, exponent = number.partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 0.51 * 10.0 ** (int(exponent or 0) - decimals)


def agrees(found: str, said: str) -> bool:
    """Whether two texts are the same up to the digits of numbers that are not said."""
    if NUMBER.sub("", "".join(found.split())) != NUMBER.sub("", "".join(said.split())):
        return False
    numbers = NUMBER.findall(found.replace("−", "-")), NUMBER.findall(said.replace("−", "-"))
    if len(numbers[0]) != len(numbers[1]):
        return False
    pairs = zip(*numbers, strict=True)
    return all(abs(float(a) - float(b)) <= half_a_digit(b) for a, b in pairs)


def value_of(statement: ast.stmt, namespace: dict) -> str:
    """What a statement prints, or else the text of its value."""
    if not isinstance(statement, ast.Expr):
        raise SyntaxError(f"line {statement.lineno} has a result, but is no expression")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        value = eval(compile(ast.Expression(statement.value), "<page>", "eval"), namespace)
    return printed.getvalue().strip() if value is None else str(value)


def run(page: Path) -> list[str]:
    """One line for each result that is not as the page says."""
    text, namespace, wrong = page.read_text(encoding="utf-8"), {"__name__": "__main__"}, []
    for block in BLOCK.finditer(text):
        first = text[: block.start(1)].count("\n")
        lines = block[1].splitlines()
        for statement in ast.parse(block[1]).body:
            said = SAID.search(lines[statement.end_lineno - 1])
            if said is None:
                exec(compile(ast.Module([statement], []), str(page), "exec"), namespace)
                continue
            found = value_of(statement, namespace)
            if not agrees(found, said[1]):
                line = first + statement.end_lineno
                wrong.append(f"{page.name}, line {line}: {said[1]!r}, but it is {found!r}")
    return wrong


if __name__ == "__main__":
    failures = run(Path(sys.argv[1]))
    print("\n".join(failures))
    sys.exit(bool(failures))
