"""Turn JSON objects into frozen dataclasses and back, without losing what the classes do not know."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Self

from transformers_llava.artifacts.run_record.field_checks import shown


class RunRecordError(ValueError):
    """A folder was not made by a run that recorded itself, by too old a version, or its record is malformed."""


NOT_RECORDED = {"is_recorded": False}  # metadata of a field that JSON does not have


def object_of(kind: "type[Recorded]") -> dict[str, Any]:
    """Metadata of a field that holds an object of another recorded class."""
    return {"of": kind, "is_list": False}


def list_of(kind: "type[Recorded]") -> dict[str, Any]:
    """Metadata of a field that holds a list of such objects, as a tuple."""
    return {"of": kind, "is_list": True}


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """
    One object of `run.json`.

    Contract: what was read is written as it was read. Fields that a class does not know stay, in their places; absent
    ones stay absent, for an older record did not say them; a field that is set to `None` goes.

    Args:
        recorded (`Mapping`, *optional*): The object that this one was read from; `None` for a new one, which writes
            all its fields.
    """

    recorded: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """
        The object that a JSON object stands for; `null` counts as absent.

        Of the kinds of values only those are looked at that give the record its form: lists of objects, and objects.
        `check_record` looks at all of them.

        Raises:
            `RunRecordError`: it is no object, or lacks what it cannot be without.
        """
        if not isinstance(values, Mapping):
            raise RunRecordError(f"the run record has {shown(values)} where {_words(cls)} is expected.")
        known = {one.name: _decoded(one, values[one.name]) for one in _fields(cls) if values.get(one.name) is not None}
        try:
            return cls(**known, recorded=values)
        except TypeError as error:
            raise RunRecordError(f"the run record has {_words(cls)} that lacks a field ({error}).") from error

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        if self.recorded is None:
            return {one.name: _encoded(getattr(self, one.name)) for one in _fields(type(self))}
        values = dict(self.recorded)
        for one in _fields(type(self)):
            value, was = getattr(self, one.name), values.get(one.name)
            if value == (_default(one) if was is None else _decoded(one, was)):
                continue
            if value is None:
                del values[one.name]
            else:
                values[one.name] = _encoded(value)
        return values


def _fields(kind: "type[Recorded]") -> "list[Field[Any]]":
    return [one for one in fields(kind) if one.name != "recorded" and one.metadata.get("is_recorded", True)]


def _default(one: "Field[Any]") -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


def _decoded(one: "Field[Any]", value: Any) -> Any:
    kind: type[Recorded] | None = one.metadata.get("of")
    if kind is None:
        return value
    if not one.metadata["is_list"]:
        return kind.from_dict(value)
    if not isinstance(value, list | tuple):
        raise RunRecordError(f"the run record has {shown(value)} as its `{one.name}`, which is a list.")
    return tuple(kind.from_dict(item) for item in value)


def _encoded(value: Any) -> Any:
    if isinstance(value, Recorded):
        return value.to_dict()
    return [_encoded(item) for item in value] if isinstance(value, tuple) else value


def _words(kind: type) -> str:
    return f"an object with the fields of `{kind.__name__}`"


__all__ = ["NOT_RECORDED", "Recorded", "RunRecordError", "list_of", "object_of"]
