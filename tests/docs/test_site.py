"""The site: it is built without a warning, and is whole without any other host."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
import yaml

pytest.importorskip("mkdocs", reason="the extra docs is not installed")

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
NAMES = [page.relative_to(DOCS).as_posix() for page in PAGES]
LARGEST_PICTURE = 150 * 1024
MOST_COLUMNS = 8


def hook(name: str) -> ModuleType:
    path = ROOT / "scripts" / "docs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"docs_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def without_code(page: Path) -> str:
    """Return the text of a page with code, fenced and in lines, taken out."""
    text = re.sub(r"^( *)(```+).*?^\1\2[ ]*$", "", page.read_text("utf-8"), flags=re.M | re.S)
    return re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "CODE", text, flags=re.S)


class Page(HTMLParser):
    """What a built page loads and shows.

    Attributes:
        loads: addresses that a browser fetches by itself.
        links: where its links lead.
        pictures: sources of its pictures, each with the text for who does not see it.
        text: of the article itself, without its headings, code and equations.
        equations: how many there are.
    """

    LOADING = frozenset({"src", "srcset", "poster", "data"})
    SILENT = ("script", "style", "math", "code", "h1", "h2", "h3", "h4", "h5", "h6")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.pictures: list[tuple[str, str]] = []
        self.text = ""
        self.equations = 0
        self._in_article = False
        self._silent: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.loads += [given[name] for name in self.LOADING & given.keys()]
        if tag == "link" and given.get("rel") not in ("prev", "next", "canonical"):
            self.loads.append(given.get("href", ""))
        if tag == "a":
            self.links.append(given.get("href", ""))
        if tag == "img":
            self.pictures.append((given.get("src", ""), given.get("alt", "")))
        if tag == "math":
            self.equations += 1
        self._in_article |= tag == "article"
        if tag in self.SILENT:
            self._silent.append(tag)
            self.text += "…" * (tag in ("code", "math"))

    def handle_endtag(self, tag: str) -> None:
        if self._silent and self._silent[-1] == tag:
            self._silent.pop()
        self._in_article &= tag != "article"

    def handle_data(self, data: str) -> None:
        if self._in_article and not self._silent:
            self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; mkdocs itself checks links, anchors and that every page is in the menu."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def built(site: Path) -> dict[str, Page]:
    """Every built page by its name."""
    return {path.relative_to(site).as_posix(): Page(path) for path in sorted(site.rglob("*.html"))}


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site: Path, built: dict[str, Page]) -> None:
    assert len(built) > 30
    for name, page in built.items():
        elsewhere = [a for a in page.loads if re.match(r"(\w+:)?//", a)]
        assert not elsewhere, f"{name} loads {elsewhere}"
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\(['\"]?(https?:)?//", text), style


@pytest.mark.slow
def test_every_equation_is_converted(built: dict[str, Page]) -> None:
    assert sum(page.equations for page in built.values()) > 10
    for name, page in built.items():
        left = re.search(r"\\[(\[]|\$\$|\\(frac|mathcal|mathbf|sum|left)\b", page.text)
        assert not left, f"{name}: {page.text[max(left.start() - 60, 0) : left.end() + 60]}"


@pytest.mark.slow
def test_markdown_is_what_github_and_the_site_both_read(built: dict[str, Page]) -> None:
    """What the one takes for a list, a table or emphasis, the other must not show as text."""
    for name, page in built.items():
        for pattern, what in (
            (r"^\s*(?:[-*]|\d{1,2}\.) \S", "a list: an empty line before it, parts 4 spaces in"),
            (r"\|[ -]*---", "a table: an empty line before it"),
            (r"\]\(", "a link"),
            (r"^!!! ", "a note: its text 4 spaces in"),
            (r"```", "a block"),
        ):
            left = re.search(pattern, page.text, re.MULTILINE)
            assert not left, f"{name}: {what}: {page.text[left.start() : left.start() + 80]!r}"


@pytest.mark.slow
def test_pictures_are_there_and_told(site: Path, built: dict[str, Page]) -> None:
    for name, page in built.items():
        for source, text in page.pictures:
            if source.startswith("data:") or source == "":
                continue
            assert (site / name).parent.joinpath(source).is_file(), f"{name}: {source}"
            assert len(text) > 8, f"{name}: {source} needs a text that says what is seen"


def look(address: str, folder: Path) -> str:
    """Return what a browser makes of a page; without one the test is skipped."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip("there is no chromium to look at pages with")
    done = subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--disable-dev-shm-usage", "--virtual-time-budget=20000", "--dump-dom"),
            *(f"--user-data-dir={folder}", address),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=400,
    )
    return done.stdout


@pytest.mark.browser
def test_search_works_in_pages_read_from_a_disk(site: Path, tmp_path: Path) -> None:
    page = look(f"{(site / 'changelog.html').as_uri()}?q=total_steps", tmp_path)
    found = re.search(r'class="md-search-result__meta">\s*(\d+) matching', page)
    assert found is not None and int(found[1]) > 3


SAYS_HOW_IT_LOOKS = """<script>
addEventListener("load", () => parent.postMessage([
  location.pathname.split(DIVIDER)[1],
  document.documentElement.scrollWidth - document.documentElement.clientWidth,
  [...document.images].filter(image => !image.naturalWidth).length,
], "*"))
</script></body>"""

LISTENS = """<meta charset="utf-8"><pre></pre><script>
addEventListener("message", event => {
  if (Array.isArray(event.data)) document.querySelector("pre").append(event.data.join(" ") + "\\n")
})
</script>"""


@pytest.mark.browser
def test_pages_fit_a_phone(site: Path, built: dict[str, Page], tmp_path: Path) -> None:
    """No page is wider than 390 pixels: what is wide scrolls in itself. All pictures are shown."""
    copy = tmp_path / "pages"
    shutil.copytree(site, copy)
    names = [name for name in built if name != "404.html"]
    for name in names:
        text = (copy / name).read_text(encoding="utf-8")
        script = SAYS_HOW_IT_LOOKS.replace("DIVIDER", '"/pages/"')
        (copy / name).write_text(text.replace("</body>", script), encoding="utf-8")
    frames = "".join(f'<iframe width="390" height="800" src="{name}"></iframe>' for name in names)
    (copy / "all.html").write_text(LISTENS + frames, encoding="utf-8")
    page = look((copy / "all.html").as_uri(), tmp_path / "profile")
    said = dict(re.findall(r"^(?:.*<pre>)?(\S+\.html) (\d+ \d+)$", page, re.MULTILINE))
    assert said == dict.fromkeys(names, "0 0"), "pixels too wide, pictures not shown"


def test_every_page_is_in_the_menu() -> None:
    class Loader(yaml.SafeLoader):
        """Knows the tags of mkdocs.yml, too."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    menu = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)["nav"]
    named: list[str] = []

    def collect(part: object) -> None:
        if isinstance(part, str):
            named.append(part)
        for inner in (
            part.values() if isinstance(part, dict) else part if type(part) is list else ()
        ):
            collect(inner)

    collect(menu)
    assert sorted(set(NAMES) - set(named)) == [] and len(named) == len(set(named))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_page(page: Path) -> None:
    text = without_code(page)
    lines = text.split("\n")
    assert re.match(r"(<!--.*?-->\s*)*# \S", text, re.DOTALL), "its first line is its title"
    assert not re.search(r"<(script|iframe|img|link|style)\b", text)
    assert not re.search(r"!\[[^\]]*\]\((https?:)?//", text), "a picture of another host"
    for number, line in enumerate(lines, 1):
        columns = re.sub(r"\\\|", "", line).strip().strip("|").count("|") + 1
        if re.match(r"\s*\|[ :|-]+\|\s*$", line):
            assert columns <= MOST_COLUMNS, f"table of {columns} columns: {lines[number - 2]}"


def test_pictures_are_small() -> None:
    large = {
        path.relative_to(DOCS).as_posix(): path.stat().st_size // 1024
        for path in DOCS.rglob("*.png")
        if path.stat().st_size > LARGEST_PICTURE
    }
    assert not large, "KB"


GOOD = {
    r"x_t = (1-t)\,x_0 + t x_1": "<msub><mi>x</mi><mi>t</mi></msub>",
    r"\begin{aligned} a &= b \\ c &= d \end{aligned}": "<mtable",
    r"\arg\min_\theta L": "arg&#x02009;min",
    r"\mathrm{d}t": '<mi mathvariant="normal">&#x00064;</mi>',
    r"x \sim y": "<mo>&#x0223C;</mo>",
    r"a < b": 'alttext="a &lt; b"',
}


@pytest.mark.parametrize("tex", GOOD)
def test_an_equation(tex: str) -> None:
    made = hook("equations").mathml(tex, "inline")
    assert made.startswith("<math ") and GOOD[tex] in made


BAD = {
    r"\foo x": r"\\foo is not understood",
    r"\frac{a}": "a fraction without denominator",
    "a_{": "MissingSuperScriptOrSubscript",
    r"\left[ x": "ExtraLeftOrMissingRight",
    "a & b": "& is not understood",
    r"\boldsymbol{x}": "no browser draws bold-italic",
}


@pytest.mark.parametrize("tex", BAD)
def test_an_equation_that_cannot_be_drawn(tex: str) -> None:
    with pytest.raises(ValueError, match=BAD[tex]):
        hook("equations").mathml(tex, "block")


@pytest.mark.parametrize(
    ("page", "text", "fitted"),
    [
        ("contributing.md", "[a](docs/nowhere.md)", "[a](docs/nowhere.md)"),
        ("contributing.md", "[a](docs/extending.md#b)", "[a](extending.md#b)"),
        ("guides/options.md", "[`a`](../../CONTRIBUTING.md)", "[`a`](../contributing.md)"),
        ("guides/options.md", "[a](../../scripts/demo.sh)", "a"),
        ("guides/options.md", "[a](../notebooks/pusht.ipynb)", "[a](../notebooks/pusht.md)"),
        ("guides/options.md", "[a](https://b.org/c.md)", "[a](https://b.org/c.md)"),
        ("guides/options.md", "`x[i](../../LICENSE)`", "`x[i](../../LICENSE)`"),
        ("guides/options.md", "```\n[a](../../LICENSE)\n```", "```\n[a](../../LICENSE)\n```"),
        ("index.md", "![a](../README.md)", "![a](../README.md)"),
        ("index.md", "[a](../nowhere.md)", "[a](../nowhere.md)"),
    ],
)
def test_links_fit_the_site(page: str, text: str, fitted: str) -> None:
    assert hook("links").fit_links(text, page, DOCS) == fitted


def test_a_notebook_as_a_page() -> None:
    page = hook("notebooks").as_markdown(DOCS / "notebooks" / "pusht.ipynb")
    assert page.startswith("# ") and '<a href="pusht.ipynb" download>' in page
    assert page.count("```python\n") == page.count("\n```\n") > 3


def test_links_to_other_sites_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a class="x" href="https://a.org/b?c=1&amp;d=2#e">a</a> <a href="b.html">b</a>'
    )
    assert hook("external").links(tmp_path) == {"https://a.org/b?c=1&d=2": "a.html"}
