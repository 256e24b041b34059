"""Docstrings of the house as Markdown: what griffe is told before mkdocstrings draws them."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> .*\n(?:.+\n?)*", re.MULTILINE)
INDEXED_TWICE = re.compile(r"(`[^`]*`|^>>> .*$)|\]\[", re.MULTILINE)
RECORDS = re.compile(r"Module|NamedTuple")


def fenced(match: re.Match[str]) -> str:
    """An example as a block of code."""
    return f"```pycon\n{match[0].rstrip()}\n```\n"


def no_link(match: re.Match[str]) -> str:
    """Code as it is; `a[i][j]` outside of it so that Markdown sees no link there."""
    return match[1] or r"]\["


class Docstrings(griffe.Extension):
    """Fences examples, and gives records the signature that their fields make."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            text = INDEXED_TWICE.sub(no_link, obj.docstring.value)
            obj.docstring.value = EXAMPLE.sub(fenced, text)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        if "__init__" in cls.members or not any(RECORDS.search(str(b)) for b in cls.bases):
            return
        fields = [
            griffe.Parameter(
                name,
                annotation=field.annotation,
                default=field.value,
                kind=griffe.ParameterKind.positional_or_keyword,
            )
            for name, field in cls.members.items()
            if field.is_attribute and field.annotation and not name.startswith("_")
        ]
        made = griffe.Function(
            "__init__", parameters=griffe.Parameters(griffe.Parameter("self"), *fields)
        )
        cls.set_member("__init__", made)
