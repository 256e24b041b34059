"""Every link inside the built site leads somewhere: `python docs/_make/links.py out/site`.

mkdocs looks at the links of Markdown files; this looks at what readers get, anchors of the
reference and pictures included. Nothing outside the site may be needed to read it.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

NEEDED = {"script": "src", "img": "src", "link": "href", "iframe": "src"}
"""What a browser loads by itself."""


class Page(HTMLParser):
    """The anchors of a page, where its links lead, and what it loads."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.anchors: set[str] = {""}
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag in NEEDED and NEEDED[tag] in values:
            self.loaded.append(values[NEEDED[tag]])


def dead_links(site: Path) -> list[str]:
    """A line for each link that leads nowhere, and for each thing loaded from elsewhere."""
    site = site.resolve()
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    if not pages:
        return [f"{site} holds no page"]
    wrong = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links are those of the site's root
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loaded:
                    wrong.append(f"{path.relative_to(site)} loads {link}")
                continue
            address, anchor = urldefrag(link)
            target = (path.parent / unquote(address)).resolve() if address else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file() or site not in target.parents:
                wrong.append(f"{path.relative_to(site)}: {link} leads nowhere")
            elif target in pages and unquote(anchor) not in pages[target].anchors:
                wrong.append(f"{path.relative_to(site)}: {link} has no such anchor")
    return wrong


def main() -> None:
    wrong = dead_links(Path(sys.argv[1]))
    print("\n".join(wrong) or "no dead link")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
