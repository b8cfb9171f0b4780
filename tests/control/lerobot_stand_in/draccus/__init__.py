"""Stands for draccus: registries of dataclasses by name, and dataclasses from plain values."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path


class DecodingError(Exception):
    pass


class ParsingError(Exception):
    pass


class ChoiceRegistry:
    _known: typing.ClassVar[dict[str, type]]

    def __init_subclass__(cls, **given):
        super().__init_subclass__(**given)
        if ChoiceRegistry in cls.__bases__:
            cls._known = {}

    @classmethod
    def register_subclass(cls, name):
        def add(subclass):
            cls._known[name] = subclass
            return subclass

        return add

    @classmethod
    def get_known_choices(cls):
        return dict(cls._known)

    @classmethod
    def get_choice_class(cls, name):
        return cls._known[name]

    @classmethod
    def get_choice_name(cls, subclass):
        return next(name for name, known in cls._known.items() if known is subclass)


def decode(cls, raw_value):
    if isinstance(cls, type) and issubclass(cls, ChoiceRegistry) and "type" in raw_value:
        raw_value = dict(raw_value)
        kind = raw_value.pop("type")
        if kind not in cls.get_known_choices():
            raise DecodingError(f"Couldn't find a choice class for '{kind}' in {cls}")
        cls = cls.get_choice_class(kind)
    if dataclasses.is_dataclass(cls):
        hints = typing.get_type_hints(cls)
        if unknown := [key for key in raw_value if key not in hints]:
            raise DecodingError(
                f"The fields `{', '.join(unknown)}` are not valid for {cls.__name__}"
            )
        required = [
            field.name
            for field in dataclasses.fields(cls)
            if field.default is field.default_factory is dataclasses.MISSING
        ]
        if missing := [name for name in required if name not in raw_value]:
            names = ", ".join(missing)
            raise DecodingError(f"Missing required field(s) `{names}` for {cls.__name__}")
        values = {key: decode(hints[key], value) for key, value in raw_value.items()}
        try:
            return cls(**values)
        except ValueError as error:
            raise ParsingError(f"Couldn't instantiate class {cls.__name__}: {error}") from error
    origin, arguments = typing.get_origin(cls), typing.get_args(cls)
    if origin is list and isinstance(raw_value, list):
        return [decode(arguments[0], value) for value in raw_value]
    if origin is dict:
        return {key: decode(arguments[1], value) for key, value in raw_value.items()}
    if origin in (typing.Union, types.UnionType):
        for kind in arguments:
            try:
                return decode(kind, raw_value)
            except DecodingError:
                continue
        raise DecodingError(
            f"Could not decode the value into any of the given types: {raw_value!r}"
        )
    if origin is not None:
        raise DecodingError(f"Couldn't parse {raw_value!r} into a {cls}")
    if cls is type(None):
        if raw_value is None:
            return None
    elif cls is Path:
        if isinstance(raw_value, str):
            return Path(raw_value)
    elif isinstance(raw_value, cls) or (cls is float and isinstance(raw_value, int)):
        return cls(raw_value)
    raise DecodingError(f"Couldn't parse {raw_value!r} into a {cls.__name__}")
