"""Pictures that measurements have made are shown where they are: a hook of mkdocs."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

MADE = "benchmarks/results"


def on_files(files: Any, config: Any) -> Any:
    for path in sorted((Path(config.config_file_path).parent / MADE).glob("*.png")):
        files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links that work in the repository, as links that work in the site."""
    return markdown.replace(f"](../{MADE}/", "](results/")
