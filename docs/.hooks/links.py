"""Checks the built site: each link and anchor leads somewhere, and no page loads from elsewhere.

mkdocs checks the links of Markdown; this also sees those in HTML, in generated tables and in the
theme.
"""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""What a browser fetches to show a page."""
NOT_FETCHED = {"canonical", "next", "prev", "edit"}
"""Links in the head of a page that no browser follows by itself."""


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        target = given.get(LOADED.get(tag, ""))
        if target and not (tag == "link" and given.get("rel") in NOT_FETCHED):
            self.loaded.append(target)


def on_post_build(config: Any, **_: Any) -> None:
    """Fail the build with every fault of the site."""
    site = Path(config["site_dir"])
    pages = {path: _Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    faults = []
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        faults += [f"{name} loads {url}" for url in page.loaded if urlsplit(url).netloc]
        for link in {*page.links, *page.loaded}:
            target, anchor = _target(site, name, link)
            if target is None:
                continue
            if not target.exists():
                faults.append(f"{name} links to {link}: there is no such file")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                faults.append(f"{name} links to {link}: there is no such anchor")
    if faults:
        raise SystemExit("\n".join(faults))


def _target(site: Path, page: str, link: str) -> tuple[Path | None, str]:
    """Return the file that a link of a page leads to, if it is in the site."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None, ""
    path, anchor = urldefrag(urljoin(f"/{page}", link))
    target = site / unquote(urlsplit(path).path).lstrip("/")
    return (target / "index.html" if target.is_dir() else target), unquote(anchor)
