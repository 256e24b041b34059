"""Mathematics to MathML when the site is built: browsers draw it, no script is loaded.

A hook of mkdocs. $ … $ is a formula in the line, $$ … $$ one of its own, in pages and docstrings
alike. Code is left alone. A formula that cannot be converted ends the build.
"""

import re
from typing import Any

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

FORMULA = re.compile(
    r"(?P<code>(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`))"
    r"|\$\$(?P<block>.+?)\$\$"
    r"|(?<![\\\w$])\$(?=[^\s$])(?P<line>[^$]*?[^\s$\\])\$(?![\d$])",
    re.DOTALL,
)
BEFORE_HTML = 24
"""After fenced code (25) has been taken out of the text, before raw HTML (20) is looked for."""
WRITTEN_OTHERWISE = (
    (r"\arg", r"\operatorname{arg}\,"),
    (r"\!", ""),
    (r"\lvert", r"\left|"),
    (r"\rvert", r"\right|"),
    (r"\lVert", r"\left\|"),
    (r"\rVert", r"\right\|"),
)
"""Commands that the converter does not know, or draws askew, and others that draw the same."""
OPERATOR = re.compile(
    r"<m[io]>(?:log|exp|sin|cos|det|arg|div|diag|sym)</m[io]>(?=<m(?:i|n|sub|sup|subsup)>)"
)
"""Functions before what they are of, without parentheses between."""


def to_mathml(latex: str, display: str) -> str:
    """One formula; `ValueError` if some command of it is unknown."""
    plain = " ".join(latex.split())
    for command, other in WRITTEN_OTHERWISE:
        plain = plain.replace(command, other)
    mathml = convert(plain, display=display)
    if "\\" in mathml:
        raise ValueError(f"A formula has a command that cannot be converted: {latex!r}")
    return OPERATOR.sub(r"\g<0><mspace width='0.17em'/>", mathml)


class Formulas(Preprocessor):
    """Replaces the formulas of a page by placeholders of their MathML."""

    def run(self, lines: list[str]) -> list[str]:
        return FORMULA.sub(self.replaced, "\n".join(lines)).split("\n")

    def replaced(self, match: re.Match[str]) -> str:
        if match["code"]:
            return match[0]
        if match["block"]:
            mathml = to_mathml(match["block"], "block")
        else:
            mathml = to_mathml(match["line"], "inline")
        return self.md.htmlStash.store(mathml)


class Mathematics(Extension):
    """The extension of Python-Markdown that pages and docstrings share."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.preprocessors.register(Formulas(md), "formulas", BEFORE_HTML)


def on_config(config: Any) -> Any:
    config.markdown_extensions.append(Mathematics())
    return config
