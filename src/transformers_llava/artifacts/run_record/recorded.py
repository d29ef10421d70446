"""Turn JSON objects into frozen dataclasses and back, keeping fields that the classes do not declare."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Self

from transformers_llava.artifacts.run_record.field_checks import shown


class RunRecordError(ValueError):
    """A folder has no run record, one of a version that is too old, or a malformed one."""


NOT_RECORDED = {"is_recorded": False}  # metadata of a field that is not written to JSON


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

    Contract: `to_dict` of an object that was read gives back what was read, but for fields that were changed since.
    Fields that the class does not declare are kept, in order; fields that were absent stay absent, so a record of an
    older version does not gain defaults that it never stated; a field that was set to `None` is removed.

    Args:
        recorded (`Mapping`, *optional*): The JSON object that this one was read from; `None` for a new object, whose
            `to_dict` has all fields.
    """

    recorded: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """
        Build the dataclass of a JSON object; `null` counts as absent.

        Nested objects and lists of them must have that form. Types of other values are not checked here, but by
        `check_record`.

        Raises:
            `RunRecordError`: `values` is no JSON object, or a field without a default is absent.
        """
        if not isinstance(values, Mapping):
            raise RunRecordError(f"the run record has {shown(values)} where {_description(cls)} is expected.")
        known = {one.name: _decoded(one, values[one.name]) for one in _fields(cls) if values.get(one.name) is not None}
        try:
            return cls(**known, recorded=values)
        except TypeError as error:
            raise RunRecordError(f"the run record has {_description(cls)} that lacks a field ({error}).") from error

    def to_dict(self) -> dict[str, Any]:
        """The JSON object; see the contract above."""
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


def _description(kind: type) -> str:
    return f"an object with the fields of `{kind.__name__}`"


__all__ = ["NOT_RECORDED", "Recorded", "RunRecordError", "list_of", "object_of"]
