"""What stands in files, rendered from the data: pages, marked numbers, model cards, figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cached_property
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import jinja2
import yaml
from bundled_cards import card_of
from listed import listed_studies

from lfm_policy.assets import POLICIES
from lfm_policy.errors import InputError
from lfm_policy.text.numbers import duration
from resultpages import ROOT, TEMPLATES, subjects
from resultpages.cells import StudyResults
from resultpages.marks import filled, marked_files
from resultpages.notes import read_notes
from resultpages.numbers import exponent, interval, signed, three
from resultpages.pictures import Picture
from resultpages.tables import comparisons, costs, everything, policies, table

NUMBERS = ROOT / "scripts" / "results" / "numbers.yaml"
"""Names of numbers that other pages mark, and the expressions that give them."""


class Results:
    """All that is made of the data of one copy of the repository."""

    def __init__(self, root: Path = ROOT) -> None:
        """Take the data, and the files that numbers stand in, from ``root``."""
        self.root = root
        self.data = root / "docs" / "results" / "data"
        self.figures = root / "docs" / "results" / "figures"

    @cached_property
    def pictures(self) -> dict[str, Picture]:
        """All figures by name."""
        found: dict[str, Picture] = {}
        for module in _subjects():
            for picture in getattr(module, "pictures", lambda data: [])(self.data):
                if picture.name in found:
                    raise InputError(f"two figures are called {picture.name!r}")
                found[picture.name] = picture
        return found

    def texts(self) -> Iterator[tuple[Path, str]]:
        """Yield every file that has numbers, and what it should say."""
        for template in sorted(TEMPLATES.glob("*.md")):
            yield self.root / "docs" / "results" / template.name, self.page(template.stem)
        for path in marked_files(self.root):
            text = path.read_text()
            shown = path.relative_to(self.root).as_posix()
            if (expected := filled(text, shown, self.number)) != text:
                yield path, expected
        for name in POLICIES:
            yield self.root / "lfm_policy" / "assets" / name / "README.md", card_of(name)

    def page(self, name: str) -> str:
        """Return a page of docs/results/.

        Raises:
            InputError: its template is wrong, naming the line.
        """
        try:
            return self._environment.get_template(f"{name}.md").render()
        except jinja2.TemplateSyntaxError as error:
            raise InputError(f"scripts/results/pages/{name}.md:{error.lineno}: {error}") from error
        except (jinja2.TemplateError, InputError, ValueError, TypeError, KeyError) as error:
            line = _template_line(error, name)
            raise InputError(f"scripts/results/pages/{name}.md:{line}: {error}") from error

    def number(self, name: str) -> str:
        """Return a number of numbers.yaml.

        Raises:
            InputError: there is none, or its expression is wrong.
        """
        if name not in self._numbers:
            raise InputError(f"scripts/results/numbers.yaml has no number {name!r}")
        try:
            expression = self._environment.compile_expression(
                self._numbers[name], undefined_to_none=False
            )
            return str(expression())
        except jinja2.TemplateError as error:
            raise InputError(f"scripts/results/numbers.yaml: {name}: {error}") from error

    @cached_property
    def _numbers(self) -> dict[str, str]:
        return yaml.safe_load(NUMBERS.read_text()) or {}

    @cached_property
    def _environment(self) -> jinja2.Environment:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,  # markdown
        )
        studies = {name: StudyResults(s, self.data) for name, s in listed_studies().items()}
        environment.globals |= {
            **studies,
            "notes": read_notes(self.data),
            "read": self._read,
            "table": table,
            "policies": policies,
            "comparisons": comparisons,
            "costs": costs,
            "everything": everything,
            "details": details,
            "figure": self._figure,
            "number": self.number,
        }
        for module in _subjects():
            names: dict[str, Any] = getattr(module, "names", lambda data: {})(self.data)
            if twice := names.keys() & environment.globals.keys():
                name = min(twice)
                raise InputError(f"{module.__name__}: {name!r} is a name in templates already")
            environment.globals |= names
        environment.filters |= {
            "three": three,
            "signed": signed,
            "interval": interval,
            "exponent": exponent,
            "duration": duration,
            "commas": lambda value: f"{value:,.0f}",
            "rows": columns_of,
            "digits": lambda value, digits: f"{value:.{digits}f}",
        }
        return environment

    def _figure(self, name: str) -> str:
        if name not in self.pictures:
            raise InputError(f"there is no figure {name!r}, only {', '.join(self.pictures)}")
        return f"![{self.pictures[name].alt}](figures/{name}.png)"

    def _read(self, name: str) -> Any:
        return json.loads((self.data / f"{name}.json").read_text())


def details(title: str, text: str) -> str:
    """Return what a reader opens who wants to know more; HTML, which GitHub shows as well."""
    return f'<details markdown="1">\n<summary>{title}</summary>\n\n{text.strip()}\n\n</details>'


def columns_of(rows: list[dict[str, Any]], *columns: str) -> list[list[str]]:
    """Return the rows of a table from those of notes, ``key`` or ``key:filter`` for each column.

    What is null or not there is left out.
    """
    formats: dict[str, Callable[[Any], str]] = {
        "": str,
        "three": three,
        "commas": lambda value: f"{value:,.0f}",
        "interval": interval,
        "exponent": exponent,
        "one": lambda value: f"{value:.1f}",
        "two": lambda value: f"{value:.2f}",
    }
    named = [column.partition(":") for column in columns]
    return [
        ["" if row.get(key) is None else formats[form](row[key]) for key, _, form in named]
        for row in rows
    ]


def _subjects() -> list[Any]:
    return [
        import_module(f"resultpages.subjects.{module.name}")
        for module in iter_modules(subjects.__path__)
    ]


def _template_line(error: BaseException, name: str) -> int:
    """Return the last line of a template that an error came through."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.endswith(f"pages/{name}.md"):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
