"""Asks whether the links of the built site to other sites answer: scripts/docs.sh --external."""

from __future__ import annotations

import html
import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LINK = re.compile(r'<a\b[^>]*\bhref="(https?://[^"#]+)')


def links(site: Path) -> dict[str, str]:
    """Return the addresses on other hosts, each with a page that links to it."""
    found: dict[str, str] = {}
    for page in sorted(site.rglob("*.html")):
        for address in LINK.findall(page.read_text(encoding="utf-8")):
            found.setdefault(html.unescape(address), page.relative_to(site).as_posix())
    return found


def answer(address: str) -> str:
    """Return what is wrong with an address, or nothing."""
    request = urllib.request.Request(address, headers={"User-Agent": "Mozilla/5.0"})
    try:
        with urllib.request.urlopen(request, timeout=20):
            return ""
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        return str(error)


def main(site: Path) -> int:
    """Print what every address answers; returns 1 when one of them does not."""
    found = links(site)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(answer, found))
    for (address, page), wrong in zip(found.items(), answers, strict=True):
        print(
            f"{'FAILS' if wrong else 'ok   '} {address}" + (f" ({page}): {wrong}" if wrong else "")
        )
    print(f"{len(found)} links to other sites, {sum(map(bool, answers))} do not answer")
    return int(any(answers))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
