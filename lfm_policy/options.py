"""Options: dataclasses whose fields say what they mean and which values they may take.

Declared once, in the class, beside the code that they are for::

    @options
    class MLPConfig(NetworkConfig):
        width: int = option(192, "features of the residual stream", ge=1, le=16384)

They are ordinary dataclasses to everybody who uses them, and are checked by pydantic whenever one
is made: in Python, or by `checked` from what a file or a command line gave. A mistake is one
`OptionError`, which knows the key: whoever knows where the value came from can say so.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import pydantic
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen, MultipleOf
from pydantic import ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ArgsKwargs, ErrorDetails, core_schema

from lfm_policy.errors import InputError, Key, OptionError, UnknownOptionError
from lfm_policy.plugins import registry
from lfm_runtime.registry import Registry, nearest_names

MAXIMUM_LIST_LENGTH = 64
"""A hostile file cannot ask for unbounded work."""

_RULES = ConfigDict(extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)

OptionsT = TypeVar("OptionsT")
Choices = Sequence[str] | Registry[Any] | str | None


def option(
    default: Any,
    help: str,
    *,
    common: bool = False,
    choices: Choices = None,
    section: Chosen | None = None,
    **bounds: float,
) -> Any:
    """Declare an option: its default, its meaning and the values it may take.

    Args:
        default: the value; a list or dictionary is copied, a class or function is called.
        help: the meaning, for ``--options``.
        common: whether it is one of those that one usually sets.
        choices: what a text, or each text in a list, may be: names, or a registry, or the kind of
            one (see `lfm_policy.plugins`), which is imported when a value is checked.
        section: what a dictionary has the options of.
        bounds: ``ge``, ``gt``, ``le``, ``lt`` and ``multiple_of`` of a number, ``min_length`` and
            ``max_length`` of a list, all as in pydantic. Those of a list's elements stand in its
            type: ``list[Annotated[int, Field(ge=1)]]``.
    """
    metadata: dict[str, Any] = {
        "description": help,
        "json_schema_extra": {"common": common, "choices": choices, "section": section},
        **bounds,
    }
    if isinstance(default, list):
        metadata.setdefault("max_length", MAXIMUM_LIST_LENGTH)
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


if TYPE_CHECKING:  # to a type checker they are what they are to everybody else
    from dataclasses import dataclass as options
else:

    def options(cls):
        """Make a class of options a dataclass that is checked whenever one is made.

        Text that is a number is taken for one, unless the class says ``strict = True``.

        Raises (when one is made):
            OptionError: an option is unknown, of the wrong type or out of bounds, or what
                ``__post_init__`` raises; its key begins with the name of the class.
        """
        cls._read_flags = field_validator("*", mode="before")(classmethod(_read_flags))
        cls._check_choices = field_validator("*", mode="after")(classmethod(_check_choices))
        rules = ConfigDict(**_RULES, strict=getattr(cls, "strict", False))
        made = pydantic.dataclasses.dataclass(config=rules)(cls)
        initialise = made.__init__

        @functools.wraps(initialise)
        def __init__(self, *args, **values):
            try:
                initialise(self, *args, **values)
            except ValidationError as error:
                raise _problem(made, error).under(made.__name__) from None

        made.__init__ = __init__
        return made


def checked(cls: type[OptionsT], given: Mapping[str, Any]) -> OptionsT:
    """Return options of a class from plain values, those of nested sections included.

    Args:
        cls: a class of options.
        given: key -> value; the others have their defaults.

    Raises:
        OptionError: as when one is made in Python, but the key begins in ``given``.
    """
    if not is_options(cls):
        raise TypeError(f"{cls.__module__}.{cls.__qualname__} is no class of options: add @options")
    made = cls.__new__(cls)
    validator = vars(cls)["__pydantic_validator__"]
    try:
        validator.validate_python(ArgsKwargs((), dict(given)), self_instance=made)
    except ValidationError as error:
        raise _problem(cls, error) from None
    return made


def with_changes(base: OptionsT, changes: Mapping[str, Any]) -> OptionsT:
    """Return options like ``base`` but for some changes, key -> value.

    Raises:
        OptionError: an unknown key, a wrong type, or a value out of bounds.
    """
    same = {name: getattr(base, name) for name in declared(type(base))}
    return checked(type(base), same | dict(changes))


def declared(cls: type) -> dict[str, FieldInfo]:
    """Return the options of a class by name, in the order of their declaration."""
    fields: dict[str, FieldInfo] = vars(cls)["__pydantic_fields__"]
    return fields


def is_options(kind: Any) -> bool:
    """Whether something is a class of options."""
    return isinstance(kind, type) and "__pydantic_fields__" in vars(kind)


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The type of a section whose class depends on its key ``name``: `Annotated[Any, Chosen(...)]`.

    Attributes:
        kind: of the registry that has classes of options by name, see `lfm_policy.plugins`.
        default: the name if the section gives none.
    """

    kind: str
    default: str

    @property
    def registry(self) -> Registry[Any]:
        """Classes of options by name; imported when it is needed."""
        return registry(self.kind)

    def options_class(self, given: Mapping[str, Any]) -> type:
        """Return the class that a section chooses.

        Raises:
            OptionError: there is none of this name.
        """
        try:
            chosen: type = self.registry.get(str(given.get("name", self.default)))
        except InputError as error:
            raise OptionError("name", f": {error}") from None
        return chosen

    def defaults(self) -> Any:
        """Return the options of the default name, all with their defaults."""
        return self.options_class({})()

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def _check(self, value: Any) -> Any:
        if is_options(type(value)):
            return value
        if not isinstance(value, Mapping):
            raise OptionError((), _no_section(value, self.options_class({})))
        return checked(self.options_class(value), value)


FLAG_WORDS = {False: ("no", "off"), True: ("yes", "on")}
"""Words that YAML reads as a flag, in files and on the command line."""


def _read_flags(cls: type, value: Any, info: ValidationInfo) -> Any:
    """Take a flag for the word that YAML made it of, and refuse it for a number.

    pydantic takes true and false for 1 and 0.
    """
    assert info.field_name is not None
    field = declared(cls)[info.field_name]
    annotation = field.annotation
    if annotation is str and isinstance(value, bool):
        choices = choices_of(field) or ()
        words = [] if isinstance(choices, str) else FLAG_WORDS[value]
        return next((word for word in words if word in choices), value)
    if {int, float} & set(_leaves(annotation)):
        for key, element in _elements(value):
            if isinstance(element, bool):
                raise OptionError(key, f": found {element}, expected {type_name(annotation)}")
    return value


def _check_choices(cls: type, value: Any, info: ValidationInfo) -> Any:
    assert info.field_name is not None
    field = declared(cls)[info.field_name]
    choices = choices_of(field)
    if choices is None or value is None or value == field.default:
        return value
    if isinstance(choices, str):
        choices = registry(choices)
    for key, element in _elements(value):
        if element not in choices:
            known = list(choices)
            hint = nearest_names(str(element), known)
            meant = "" if hint.startswith("known") else f" ({hint})"
            raise OptionError(key, f"is '{element}', expected one of {', '.join(known)}{meant}")
    return value


def _elements(value: Any) -> list[tuple[Key, Any]]:
    """Return the elements of a list or in braces by key, or else the value itself."""
    if isinstance(value, dict):
        return [((key,), element) for key, element in value.items()]
    return [((i,), e) for i, e in enumerate(value)] if isinstance(value, list) else [((), value)]


def is_common(field: FieldInfo) -> bool:
    """Whether an option is one of those that one usually sets."""
    return bool(_declaration(field).get("common"))


def choices_of(field: FieldInfo) -> Choices:
    """Return what was declared as the choices of an option."""
    choices: Choices = _declaration(field).get("choices")
    return choices


def section_of(field: FieldInfo) -> Chosen | None:
    """Return what the options in an option depend on, if they depend on a name."""
    chosen = [detail for detail in field.metadata if isinstance(detail, Chosen)]
    section: Chosen | None = chosen[0] if chosen else _declaration(field).get("section")
    return section


def _declaration(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


# -- what pydantic finds, in words ----------------------------------------------------------------


def _problem(cls: type, error: ValidationError) -> OptionError:
    """Return the first mistake; a misspelt key before all others, which may follow from it."""
    found = error.errors(include_url=False)
    return _described(cls, min(found, key=lambda e: e["type"] != "unexpected_keyword_argument"))


def _described(cls: type, error: ErrorDetails) -> OptionError:
    key, kind, value = _plain_key(cls, error["loc"]), error["type"], error["input"]
    if kind == "value_error":
        cause = error["ctx"]["error"]
        if isinstance(cause, OptionError):
            return cause.under(*key)
        if isinstance(cause, InputError):
            return OptionError(key, f": {cause}")
        raise cause  # no mistake in what was given
    if kind == "unexpected_keyword_argument":
        owner, _ = _type_at(cls, key[:-1])
        return UnknownOptionError(key, nearest_names(str(key[-1])[:100], list(declared(owner))))
    annotation, bounds = _type_at(cls, key)
    if is_options(annotation):
        return OptionError(key, _no_section(value, annotation))
    if get_origin(annotation) is dict:
        found = f": found {_shown(value)}"
        return OptionError(key, f"{found}, expected keys and values in braces, such as {{a: b}}")
    if kind == "finite_number":
        return OptionError(key, f"is {value}, expected a finite number")
    if kind in ("too_short", "too_long"):
        return OptionError(key, f"has {len(value)} elements, expected {in_words(list, bounds)}")
    if kind.startswith(("greater_than", "less_than", "multiple_of")):
        return OptionError(key, f"is {_shown(value)}, expected {in_words(annotation, bounds)}")
    return OptionError(key, f": found {_shown(value)}, expected {type_name(annotation)}")


def _shown(value: Any) -> str:
    try:
        return repr(value)[:200]
    except ValueError:
        return "a number of thousands of digits"


def _no_section(value: Any, cls: type) -> str:
    return f": found {_shown(value)}, expected keys and values: {', '.join(declared(cls))}"


def _type_at(cls: Any, key: Key) -> tuple[Any, list[Any]]:
    """Return the type and the bounds declared for a key."""
    bounds: list[Any] = []
    for part in key:
        if is_options(cls):
            field = declared(cls)[str(part)]
            cls, bounds = field.annotation, field.metadata
        else:
            cls, bounds = element_type(_alternatives(cls)[0])
    return cls, bounds


def _plain_key(cls: type, key: Key) -> Key:
    """Return a key without what pydantic calls the alternatives of a type such as ``a | b``."""
    plain: Key = ()
    for part in key:
        is_tag = isinstance(part, str) and len(_alternatives(_type_at(cls, plain)[0])) > 1
        plain = plain if is_tag else (*plain, part)
    return plain


def _alternatives(annotation: Any) -> list[Any]:
    """Return the types that a value may be of besides None; the type itself if it is one."""
    is_union = get_origin(annotation) in (Union, types.UnionType)
    parts = get_args(annotation) if is_union else (annotation,)
    return [part for part in parts if part is not type(None)]


def element_type(annotation: Any) -> tuple[Any, list[Any]]:
    """Return the type and the bounds of the elements of a list, or of the values in braces."""
    element = get_args(annotation)[-1] if get_args(annotation) else Any
    if get_origin(element) is not Annotated:
        return element, []
    element, *details = get_args(element)
    return element, [b for d in details for b in (d.metadata if isinstance(d, FieldInfo) else [d])]


def _leaves(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        yield from _leaves(get_args(annotation)[0])
    elif get_origin(annotation) in (list, Union, types.UnionType):
        for part in get_args(annotation):
            yield from _leaves(part)
    else:
        yield annotation


def type_name(annotation: Any) -> str:
    """Return a type as it is written, without bounds, such as ``list[int]`` or ``str | None``."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(parts[0])
    if origin in (Union, types.UnionType):
        return " | ".join(type_name(part) for part in parts)
    if origin is Literal:
        return " or ".join(str(value) for value in parts)
    if origin is not None:
        return f"{origin.__name__}[{', '.join(type_name(part) for part in parts)}]"
    return "None" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))


def in_words(annotation: Any, bounds: Sequence[Any]) -> str:
    """Return the values within bounds in words, such as "an integer from 1 to 64"; "" for any."""
    limits = {type(bound): bound for bound in bounds}
    if MinLen in limits or MaxLen in limits:
        least = limits[MinLen].min_length if MinLen in limits else 0
        most = limits[MaxLen].max_length if MaxLen in limits else None
        return (
            str(least) if least == most else f"{least} to {most}" if most else f"at least {least}"
        )
    noun = "an integer" if set(_leaves(annotation)) & {int, float} == {int} else "a number"
    low = f"{limits[Ge].ge:.15g}" if Ge in limits else ""
    if Gt in limits:
        return f"{noun} above {limits[Gt].gt:.15g}"
    high = f"{limits[Le].le:.15g}" if Le in limits else ""
    if Lt in limits:
        words = f"{noun} from {low} up to but not including {limits[Lt].lt:.15g}"
    elif low and high:
        words = high if low == high else f"{noun} from {low} to {high}"
    elif low or high:
        words = f"at least {low}" if low else f"at most {high}"
    else:
        words = ""
    if MultipleOf in limits:
        words = f"{words or noun} that is a multiple of {limits[MultipleOf].multiple_of}"
    return words
