"""Open an original checkpoint: its configuration in our layout, its tokenizer's facts, its processor, its weights.

The one reader of originals: `llava convert` and the hooks of `from_pretrained` (auto_classes.py) both start here; the
hook that gets a configuration already built calls [`read_original_weights`] itself.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers_llava.conversion.configs.layouts import convert_config
from transformers_llava.conversion.conversion_report import ConfigReport
from transformers_llava.conversion.processors.processor_building import (
    TokenizerFacts,
    build_original_processor,
    tokenizer_facts,
)
from transformers_llava.conversion.small_files import reading
from transformers_llava.conversion.weights.lazy_tensors import State
from transformers_llava.conversion.weights.original import OriginalWeights, read_original_weights
from transformers_llava.modeling.configuration_open_llava import OpenLlavaConfig
from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor


@dataclass(frozen=True)
class OriginalCheckpoint:
    """
    An original checkpoint of which the small files are read.

    Attributes:
        folder (`Path`, *optional*): Its folder; `None` if only its configuration is at hand.
        tokenizer_folder (`Path`, *optional*): Where its vocabulary lies: its own folder, or its base's.
        raw (`dict`): Its `config.json` as it stands.
        facts ([`TokenizerFacts`]): What its tokenizer decides.
        config_fields (`dict`): Its configuration in our layout.
        config_report ([`ConfigReport`]): What became of each field.
        is_tower_given (`bool`): Whether the caller chose the vision tower.
    """

    folder: Path | None
    tokenizer_folder: Path | None
    raw: dict[str, Any]
    facts: TokenizerFacts
    config_fields: dict[str, Any]
    config_report: ConfigReport
    is_tower_given: bool = False

    def processor(
        self, config: OpenLlavaConfig, *, template: str | None = None, chat_template: str | None = None
    ) -> OpenLlavaProcessor:
        """Its processor; see [`build_original_processor`]."""
        assert self.tokenizer_folder is not None
        return build_original_processor(
            self.tokenizer_folder, self.raw, config, template=template, chat_template=chat_template
        )

    def weights(
        self, state: State, config: OpenLlavaConfig, join: Callable[[State], State] | None = None
    ) -> OriginalWeights:
        """Its weights, of which `state` holds those of its files or its base's; see [`read_original_weights`]."""
        return read_original_weights(state, self.raw, config, is_tower_given=self.is_tower_given, join=join)


def open_original(
    raw: dict[str, Any],
    folder: str | Path | None,
    *,
    tokenizer_folder: str | Path | None = None,
    vision_tower: str | Path | None = None,
) -> OriginalCheckpoint:
    """
    Reads the small files of an original checkpoint.

    Args:
        raw (`dict`): Its `config.json`.
        folder (`str`, *optional*): Its folder; without one its tokenizer decides nothing.
        tokenizer_folder (`str`, *optional*, defaults to `folder`): The base's, for a LoRA or a projector.
        vision_tower (`str`, *optional*): In place of the tower that the configuration names.

    Raises:
        ValueError: For what the original knows and we do not, and for a tower that cannot be found.
    """
    tokenizer_folder = folder if tokenizer_folder is None else tokenizer_folder
    facts = tokenizer_facts(tokenizer_folder, raw)
    with reading(folder, "config.json") if folder is not None else nullcontext():
        fields, report = convert_config(
            raw,
            folder,
            vision_tower=vision_tower,
            num_tokens=facts.num_tokens,
            image_token_index=facts.image_token_index,
        )
    return OriginalCheckpoint(
        folder=None if folder is None else Path(folder),
        tokenizer_folder=None if tokenizer_folder is None else Path(tokenizer_folder),
        raw=raw,
        facts=facts,
        config_fields=fields,
        config_report=report,
        is_tower_given=vision_tower is not None,
    )


__all__ = ["OriginalCheckpoint", "open_original"]
