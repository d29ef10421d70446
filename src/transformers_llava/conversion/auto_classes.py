"""Let `from_pretrained` and the Auto classes read original and llava-hf checkpoints as they lie on disk.

[`register_formats`] is called by `transformers_llava.registration.register`; it adds hooks to our own classes, and
names to the registries of transformers. Built-in `llava` stays what it is: the dispatcher under that name answers only
for flat configurations, which the built-in class cannot read (it would build a random 7B model from them).
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoConfig, LlavaConfig, PreTrainedModel
from transformers.configuration_utils import PreTrainedConfig
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING, PROCESSOR_MAPPING_NAMES

from transformers_llava.conversion.configs.layouts import (
    BUILTIN_TYPES,
    ORIGINAL_TYPES,
    convert_config,
    layout_of,
    normalize_config_dict,
    read_config,
)
from transformers_llava.conversion.small_files import optional_json
from transformers_llava.conversion.weights.key_check import rename_unchecked
from transformers_llava.conversion.weights.key_names import detect_mapping, loading_rules
from transformers_llava.conversion.weights.original import fit_embeddings, read_original_weights, scale_as_original
from transformers_llava.conversion.weights.tensor_files import map_files, open_files
from transformers_llava.modeling.configuration_open_llava import OpenLlavaConfig
from transformers_llava.modeling.modeling_open_llava import OpenLlavaPreTrainedModel
from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor


logger = logging.getLogger(__name__)


def register_formats() -> None:
    """Adds reading of other layouts; doing it twice changes nothing."""
    _append(OpenLlavaConfig.dict_normalizers, normalize_config)
    _append(OpenLlavaProcessor.fallback_builders, build_processor)
    _append(OpenLlavaPreTrainedModel.state_dict_adapters, adapt_state_dict)
    register_checkpoint_conversion_mapping(OpenLlavaConfig.model_type, list(loading_rules()), overwrite=True)
    for model_type in ORIGINAL_TYPES:
        AutoConfig.register(model_type, _alias(model_type), exist_ok=True)
    _install_flat_dispatcher()


def normalize_config(config_dict: dict[str, Any], source: str | None) -> dict[str, Any]:
    """[`normalize_config_dict`] with what the tokenizer beside an original configuration decides."""
    if layout_of(config_dict) != "original":
        return normalize_config_dict(config_dict, source)
    from transformers_llava.artifacts.snapshots import local_folder
    from transformers_llava.conversion.original_checkpoint import open_original

    return open_original(config_dict, local_folder(source)).config_fields


def build_processor(pretrained_model_name_or_path: Any, **kwargs: Any) -> OpenLlavaProcessor | None:
    """
    The processor of a checkpoint that has no processor files of ours; `None` for one that has, or that is no LLaVA.

    Contract: one of `OpenLlavaProcessor.fallback_builders`.

    Args:
        pretrained_model_name_or_path (`str`): Folder or Hub id of an original or a llava-hf checkpoint.
        chat_template (`str`, *optional*): Jinja source in place of the one that its architecture names.
    """
    from transformers_llava.artifacts.snapshots import local_folder
    from transformers_llava.conversion.original_checkpoint import open_original
    from transformers_llava.conversion.processors.processor_building import build_builtin_processor

    folder = local_folder(pretrained_model_name_or_path, kwargs.get("revision"), kwargs.get("token"))
    if folder is None or not (folder / "config.json").is_file() or _has_own_processor(folder):
        return None
    raw = read_config(folder)
    layout = layout_of(raw)
    chat_template = kwargs.get("chat_template")
    if layout == "original":
        original = open_original(raw, folder)
        config = OpenLlavaConfig.from_dict(original.config_fields)
        return original.processor(config, chat_template=chat_template)
    if layout == "builtin":
        config = OpenLlavaConfig.from_dict(convert_config(raw, folder)[0])
        return build_builtin_processor(folder, config, chat_template=chat_template)
    return None


def adapt_state_dict(
    model: PreTrainedModel, state_dict: dict[str, Any] | None, checkpoint_files: list[str] | None
) -> dict[str, Any] | None:
    """
    All tensors that transformers' loader shall read, lazily; or what was given, if it can read the files itself.

    Contract: one of `OpenLlavaPreTrainedModel.state_dict_adapters`.

    Args:
        model (`PreTrainedModel`): The model that is being loaded.
        state_dict (`dict`, *optional*): Tensors given by the caller; used as they are.
        checkpoint_files (`list[str]`, *optional*): Files that the loader is about to read.
    """
    if state_dict is not None or not checkpoint_files:
        return state_dict
    open_files(checkpoint_files)  # a .bin that is more than tensors is refused here, with an explanation
    folder = Path(checkpoint_files[0]).parent
    if not (folder / "config.json").is_file():
        return state_dict
    raw, config = read_config(folder), model.config
    layout = layout_of(raw)
    if layout == "original":
        weights = read_original_weights(map_files(checkpoint_files), raw, config, open_tower=map_files)
        for note in weights.notes:
            logger.warning("%s: %s", folder, note)
        state, _ = scale_as_original(rename_unchecked(weights.state, weights.mapping, config), config)
    elif layout == "builtin" and raw.get("open_llava"):  # an export of ours
        state = map_files(checkpoint_files)
        state = rename_unchecked(state, detect_mapping(state, config.projector_type), config)
    else:
        return state_dict
    state, _ = fit_embeddings(state, config)
    return {key: tensor.read() if tensor.mapped is None else tensor.mapped for key, tensor in state.items()}


def override_builtin_classes() -> Callable[[], None]:
    """
    Makes the Auto classes build our classes for built-in `llava`, `llava_next` and `llava_onevision` checkpoints too.

    Without it `AutoModelForImageTextToText.from_pretrained("llava-hf/...")` gives transformers' own class. Our class
    gives the same numbers faster, and the original's rounding; `OpenLlavaForConditionalGeneration.from_pretrained`
    reads such checkpoints without this. It holds for the whole process, until the returned function is called.

    Returns:
        `Callable`: Undoes it.

    Example:

        >>> undo = override_builtin_classes()
        >>> type(AutoConfig.for_model("llava")).__name__
        'LlavaConfig'
        >>> undo()
    """
    configs_before = {name: CONFIG_MAPPING._extra_content.get(name) for name in BUILTIN_TYPES}
    names_before = {name: PROCESSOR_MAPPING_NAMES.get(name) for name in BUILTIN_TYPES}
    processors = {name: _processor_stand_in(names_before[name]) for name in BUILTIN_TYPES if names_before[name]}
    for name in BUILTIN_TYPES:
        real = configs_before[name] or CONFIG_MAPPING[name]
        CONFIG_MAPPING.register(
            name, _dispatcher(real, lambda layout: layout in ("builtin", "original")), exist_ok=True
        )
    for name, (key, stand_in) in processors.items():
        # The class is looked up by its name in processor_config.json: first among the built-in, then among the
        # registered.
        PROCESSOR_MAPPING_NAMES.pop(name)
        PROCESSOR_MAPPING._extra_content[key] = stand_in

    def undo() -> None:
        for name, before in configs_before.items():
            if before is None:
                CONFIG_MAPPING._extra_content.pop(name, None)
            else:
                CONFIG_MAPPING._extra_content[name] = before
        for name, (key, _) in processors.items():
            PROCESSOR_MAPPING._extra_content.pop(key, None)
            PROCESSOR_MAPPING_NAMES[name] = names_before[name]

    return undo


def _append(hooks: list, hook: Callable) -> None:
    if hook not in hooks:
        hooks.append(hook)


def _has_own_processor(folder: Path) -> bool:
    return optional_json(folder / "processor_config.json").get("processor_class") == OpenLlavaProcessor.__name__


def _alias(model_type: str) -> type[PreTrainedConfig]:
    """A class that only AutoConfig ever sees: it answers to an original `model_type` and builds our configuration."""

    def from_dict(cls: type, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        return _read_as_ours(config_dict, **kwargs)

    body = {"model_type": model_type, "from_dict": classmethod(from_dict), "__module__": __name__}
    return type(f"OpenLlava_{model_type}", (PreTrainedConfig,), body)


def _read_as_ours(config_dict: dict[str, Any], **kwargs: Any) -> Any:
    source = kwargs.get("name_or_path")
    return OpenLlavaConfig.from_dict(normalize_config(config_dict, None if source is None else str(source)), **kwargs)


def _install_flat_dispatcher() -> None:
    """Flat configurations that say `model_type: llava`, as most published originals do, go to ours, others do not."""
    registered = CONFIG_MAPPING._extra_content.get("llava")
    if registered is None:
        CONFIG_MAPPING.register("llava", _dispatcher(LlavaConfig, lambda layout: layout == "original"), exist_ok=True)
    elif not getattr(registered, "_is_open_llava_dispatcher", False):
        logger.warning(
            "Another package has registered a configuration for 'llava' (%s). It is left in place, so original "
            "checkpoints with model_type 'llava' load only through OpenLlavaForConditionalGeneration.",
            registered,
        )


def _dispatcher(real: type[PreTrainedConfig], is_ours: Callable[[str | None], bool]) -> type[PreTrainedConfig]:
    """
    A stand-in for a configuration class that differs in nothing but what it does with dictionaries of ours.

    Its instances are instances of the real class, by `__new__`; the Auto classes find models by the class's name,
    which is the same. So `AutoConfig.for_model`, loading, saving and type checks see the real class only.
    """

    def new(cls: type, *args: Any, **kwargs: Any) -> PreTrainedConfig:
        return real(*args, **kwargs)

    def from_dict(cls: type, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        if is_ours(layout_of(config_dict)):
            return _read_as_ours(config_dict, **kwargs)
        return real.from_dict(config_dict, **kwargs)

    body = {
        "__new__": new,
        "__module__": real.__module__,
        "__doc__": real.__doc__,
        "__qualname__": real.__qualname__,
        "from_dict": classmethod(from_dict),
        "_is_open_llava_dispatcher": True,
    }
    return type(real.__name__, (real,), body)


def _processor_stand_in(class_name: Any) -> tuple[type, type]:
    """A registered name for our processor class: (key in the registry, class that answers to the built-in's name)."""
    key = type(f"_Key{class_name}", (PreTrainedConfig,), {})

    def from_pretrained(cls: type, *args: Any, **kwargs: Any) -> OpenLlavaProcessor:
        return OpenLlavaProcessor.from_pretrained(*args, **kwargs)

    return key, type(str(class_name), (OpenLlavaProcessor,), {"from_pretrained": classmethod(from_pretrained)})


__all__ = ["normalize_config", "override_builtin_classes", "register_formats"]
