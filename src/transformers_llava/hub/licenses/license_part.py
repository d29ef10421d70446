"""Hold what one part of a checkpoint says of its license."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LicensePart:
    """
    One thing with a license of its own.

    Args:
        kind (`str`): component, data, images or teacher.
        name (`str`): Of the base model, the source, or the teacher.
        declared (`str`): As it was stated.
        expression (`str`): As it was understood.
        commercial (`str`): yes, conditional, unclear or no.
        why (`str`): Where this comes from, or what decides it.
        evidence (`str`): Address and revision of the statement.
        obligations (`list[str]`): What it asks for.
    """

    kind: str
    name: str
    declared: str
    expression: str
    commercial: str
    why: str = ""
    evidence: str = ""
    obligations: list[str] = field(default_factory=list)


__all__ = ["LicensePart"]
