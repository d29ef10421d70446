"""Account for every field and weight of our checkpoint in an export to the built-in classes."""

from collections.abc import Iterable
from typing import Any

from transformers_llava.conversion.conversion_report import ConfigReport, KeyAccount
from transformers_llava.conversion.export import KEPT_FIELDS, builtin_config
from transformers_llava.conversion.weights.key_names import CLASSIC
from transformers_llava.conversion.weights.lazy_tensors import State
from transformers_llava.modeling.configuration_open_llava import OpenLlavaConfig


_BY_CLASS = ("model_type", "projector_type", "patch_merge_type")
_DROPPED = {
    "vision_tower_name_or_path": "the tower is inside",
    "transformers_version": "is written anew",
}


def export_fields(config: OpenLlavaConfig) -> ConfigReport:
    """What becomes of every field of our configuration in the built-in class's."""
    exported = builtin_config(config).to_dict()
    report = ConfigReport("open_llava")
    ours: dict[str, Any] = config.to_dict()
    for name, value in sorted(ours.items()):
        if name in KEPT_FIELDS:
            reason = "the built-in class has no such field; read back by this package"
            if name == "image_grid_pinpoints" and exported.get(name):
                reason += f"; {name} has them as (height, width)"
            report.add("MAPPED", name, f"open_llava.{name}", value, reason)
        elif name in _BY_CLASS:
            report.add("MAPPED", name, "architectures", value, f"said by the class {exported['architectures'][0]}")
        elif name in _DROPPED:
            report.add("DROPPED", name, value=value, reason=_DROPPED[name])
        elif name in exported:
            changed = name not in ("text_config", "vision_config") and exported[name] != value
            report.add("MAPPED", name, name, exported[name], f"was {value!r}" if changed and value is not None else "")
        else:
            report.add("DROPPED", name, value=value, reason="the built-in class has no such field")
    rows, have = exported["text_config"]["vocab_size"], ours["text_config"]["vocab_size"]
    if rows != have:
        report.add("MAPPED", "text_config.vocab_size", "text_config.vocab_size", rows, f"was {have}: see the note")
    for name in sorted(set(exported) - set(ours) - {"open_llava"}):
        report.add("DEFAULTED", "", name, exported[name], "what the built-in class asks for beyond ours")
    return report


def export_weights(weights: Iterable[KeyAccount], exported: State) -> list[KeyAccount]:
    """The accounts with the names that the export's file has, and one for each weight that only the export has."""
    named = [
        KeyAccount(one.source, None if one.target is None else CLASSIC.from_ours(one.target), one.reason)
        for one in weights
    ]
    added = sorted(set(exported) - {one.target for one in named})
    reason = "not in ours: the built-in class computes it and reads nothing of it (a copy, ones or zeros)"
    return named + [KeyAccount("", name, reason) for name in added]


__all__ = ["export_fields", "export_weights"]
