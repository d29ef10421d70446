"""Assemble a LLaVA from language model, vision tower and a fresh projector, or load an earlier checkpoint."""

import logging
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel
from transformers.image_processing_base import ImageProcessingMixin
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from transformers_llava.artifacts.snapshots import local_folder
from transformers_llava.conversion.opened_checkpoint import open_checkpoint
from transformers_llava.conversion.weights.tensor_files import open_state
from transformers_llava.modeling.configuration_open_llava import OpenLlavaConfig
from transformers_llava.modeling.image_processing_pil_open_llava import OpenLlavaImageProcessorPil
from transformers_llava.modeling.modeling_open_llava import OpenLlavaForConditionalGeneration
from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor
from transformers_llava.modeling.vision.projector import OpenLlavaMultiModalProjector
from transformers_llava.training.model.architecture import config_of_parts, vision_half
from transformers_llava.training.model.stored_dtypes import dtype_to_load
from transformers_llava.training.recipe.configs import ModelConfig
from transformers_llava.training.recipe.recipe_error import RecipeError


logger = logging.getLogger(__name__)

IMAGE_TOKEN = "<image>"

_IMAGE_SETTINGS = (
    "size",
    "crop_size",
    "do_center_crop",
    "do_resize",
    "resample",
    "image_mean",
    "image_std",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
)


def load_model(
    config: ModelConfig, *, seed: int, dtype: torch.dtype | dict[str, torch.dtype] = torch.float32
) -> tuple[OpenLlavaForConditionalGeneration, OpenLlavaProcessor]:
    """
    The model and processor that a recipe starts from.

    Args:
        config (`ModelConfig`): Names a checkpoint, or the parts.
        seed (`int`): Of a fresh projector.
        dtype (`torch.dtype` or `dict`, *optional*): What the weights are loaded as; per sub-configuration with a
            dictionary such as `{"text_config": torch.bfloat16, "": torch.float32}`.
    """
    if config.model_name_or_path is None:
        return assemble_model(config, seed=seed, dtype=dtype)
    model_config, processor = load_processor(config)
    model = OpenLlavaForConditionalGeneration.from_pretrained(
        config.model_name_or_path,
        config=model_config,
        dtype=dtype,
        attn_implementation=config.attn_implementation,
        **_at(config.model_revision),
    )
    return model, processor


def load_processor(config: ModelConfig) -> tuple[OpenLlavaConfig, OpenLlavaProcessor]:
    """The configuration and processor that a recipe starts from; no weight is read."""
    if config.model_name_or_path is None:
        return _assemble_processor(config)
    pinned = _at(config.model_revision)
    model_config = OpenLlavaConfig.from_pretrained(config.model_name_or_path, **pinned)
    processor = OpenLlavaProcessor.from_pretrained(config.model_name_or_path, **pinned)
    if config.image_aspect_ratio not in (None, model_config.image_aspect_ratio):
        # LLaVA-1.5 itself does this: stage 1 crops the square centre, stage 2 pads.
        model_config.image_aspect_ratio = config.image_aspect_ratio
        model_config.tiling_rule()  # raises if the checkpoint cannot be used that way
        processor.image_processor.image_aspect_ratio = config.image_aspect_ratio
    return model_config, processor


def assemble_model(
    config: ModelConfig, *, seed: int, dtype: torch.dtype | dict[str, torch.dtype] = torch.float32
) -> tuple[OpenLlavaForConditionalGeneration, OpenLlavaProcessor]:
    """
    Builds a LLaVA from a language model with its tokenizer and a vision tower with its image processor.

    The projector is fresh, drawn from `seed` as the original draws it (torch's own initialisation of a linear layer).
    `<image>` becomes a special token of the tokenizer; the embedding table is left as it is, for the model never looks
    up a row for it.

    Args:
        config (`ModelConfig`): `language_model_name_or_path`, `vision_tower_name_or_path`, and the architecture.
        seed (`int`): Of the projector. Nothing else is random.
        dtype (`torch.dtype` or `dict`, *optional*): See [`load_model`].

    Returns:
        The model, and the processor without a chat template unless the tokenizer brings one.
    """
    model_config, processor = _assemble_processor(config)
    language_model, tower = _load_parts(config, model_config)  # cast once, below
    model = OpenLlavaForConditionalGeneration.from_pretrained(
        None,
        config=model_config,
        state_dict=_join(tower, language_model) | _fresh_projector(model_config, seed),
        dtype=dtype,
        attn_implementation=config.attn_implementation,
    )
    # Of the language model's settings only token ids: a base that samples or stops at 4,096 must not make LLaVA do so.
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    ids = {name: getattr(language_model.generation_config, name) for name in names}
    model.generation_config = GenerationConfig(**ids)
    for part in (model.config.text_config, model.config.vision_config):
        part._name_or_path = ""  # a folder of this machine, which would be saved with the weights
    return model, processor


def source_state(config: ModelConfig, *, seed: int) -> dict[str, torch.Tensor]:
    """
    Every tensor of the model that a recipe starts from, in the precision in which it is stored.

    Args:
        config (`ModelConfig`): Names a checkpoint, or the parts.
        seed (`int`): Of a fresh projector.
    """
    if config.model_name_or_path is not None:
        return _checkpoint_state(config)
    model_config, _ = load_processor(config)
    language_model, tower = _load_parts(config, model_config)
    return _join(tower, language_model) | _fresh_projector(model_config, seed)


def _checkpoint_state(config: ModelConfig) -> dict[str, torch.Tensor]:
    """Of a folder and of a Hub repository alike: from the files, for a loaded model has one precision for all."""
    folder = local_folder(config.model_name_or_path, config.model_revision, with_weights=True)
    if folder is not None:
        stored = open_state(folder)
        if any(name.startswith("model.language_model.") for name in stored):  # our own names: as they lie there
            return {name: tensor.read() for name, tensor in stored.items()}
        try:  # another layout
            return {name: tensor.read() for name, tensor in open_checkpoint(folder).state.items()}
        except ValueError as error:  # loads all the same, as training has shown; float32 holds every bit of it
            logger.warning("%s is saved in float32: %s", config.model_name_or_path, error)
    model_config, _ = load_processor(config)
    model = OpenLlavaForConditionalGeneration.from_pretrained(
        config.model_name_or_path, config=model_config, dtype=torch.float32, **_at(config.model_revision)
    )
    return dict(model.state_dict())


def _load_parts(config: ModelConfig, model_config: OpenLlavaConfig) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Each in the precision in which it is stored, whatever its configuration says."""
    language_model_name, tower_name = config.language_model_name_or_path, config.vision_tower_name_or_path
    assert language_model_name is not None
    assert tower_name is not None
    language_model = AutoModelForCausalLM.from_pretrained(
        language_model_name,
        dtype=dtype_to_load(language_model_name, config.language_model_revision),
        **_at(config.language_model_revision),
    )
    tower_class = MODEL_MAPPING[type(model_config.vision_config)]
    tower = tower_class.from_pretrained(
        tower_name,
        config=model_config.vision_config,
        dtype=dtype_to_load(tower_name, config.vision_tower_revision),
        **_at(config.vision_tower_revision),
    )
    return language_model, tower


def _assemble_processor(config: ModelConfig) -> tuple[OpenLlavaConfig, OpenLlavaProcessor]:
    assert config.language_model_name_or_path is not None
    assert config.vision_tower_name_or_path is not None
    of_language_model, of_tower = _at(config.language_model_revision), _at(config.vision_tower_revision)
    tokenizer = AutoTokenizer.from_pretrained(config.language_model_name_or_path, **of_language_model)
    vision_config = vision_half(AutoConfig.from_pretrained(config.vision_tower_name_or_path, **of_tower), config)
    model_config = config_of_parts(
        config,
        vision_config=vision_config,
        text_config=AutoConfig.from_pretrained(config.language_model_name_or_path, **of_language_model),
        image_token_index=_add_image_token(tokenizer),
    )
    processor = OpenLlavaProcessor.from_model_config(
        model_config,
        tokenizer,
        image_processor=_image_processor(config.vision_tower_name_or_path, vision_config.image_size, of_tower),
        chat_template=tokenizer.chat_template,
        image_token=IMAGE_TOKEN,
    )
    return model_config, processor


def _at(revision: str | None) -> dict[str, str]:
    """The keyword of `from_pretrained`, only where a revision is pinned."""
    return {} if revision is None else {"revision": revision}


def _add_image_token(tokenizer: Any) -> int:
    if IMAGE_TOKEN not in tokenizer.get_vocab():
        tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]}, replace_extra_special_tokens=False)
    if tokenizer.pad_token is None:  # Llama has none; LLaVA pads with <unk>. Padded positions are masked either way.
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)


def _join(tower: PreTrainedModel, language_model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Both parts' tensors under the names that they have in a LLaVA."""
    head = language_model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise RecipeError(
            f"the head of {language_model.config.model_type!r} has a bias, which a LLaVA head does not; it would be "
            "lost."
        )
    state_dict = {f"model.vision_tower.{name}": tensor for name, tensor in tower.state_dict().items()}
    for name, tensor in language_model.base_model.state_dict().items():
        state_dict[f"model.language_model.{name}"] = tensor
    state_dict["lm_head.weight"] = head.weight
    return state_dict


def _fresh_projector(config: OpenLlavaConfig, seed: int) -> dict[str, torch.Tensor]:
    """Weights that depend on the seed alone, not on what was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        projector = OpenLlavaMultiModalProjector(config)
        hidden_size = config.text_config.hidden_size
        newline = torch.randn(hidden_size) / hidden_size**0.5
    state_dict = {f"model.multi_modal_projector.{name}": tensor for name, tensor in projector.state_dict().items()}
    return state_dict | ({"model.image_newline": newline} if config.has_image_newline else {})


def _image_processor(name_or_path: str, image_size: int, pinned: dict[str, str]) -> OpenLlavaImageProcessorPil | None:
    """The tower's own preprocessing; `None` (its family's default) where the folder has none."""
    try:
        settings, _ = ImageProcessingMixin.get_image_processor_dict(name_or_path, **pinned)
    except OSError:
        logger.warning("%s has no preprocessor_config.json; the defaults of its model family are used.", name_or_path)
        return None
    known = {name: settings[name] for name in _IMAGE_SETTINGS if settings.get(name) is not None}
    known.setdefault("do_center_crop", "crop_size" in known)  # SigLIP's file does not mention it and does not crop
    processor = OpenLlavaImageProcessorPil(**known)
    if processor.tile_size != image_size:
        raise RecipeError(
            f"the tower {name_or_path!r} takes images of {image_size} pixels, but its preprocessor_config.json "
            f"makes them {processor.tile_size}. Its position embeddings would not fit; correct one of the two files."
        )
    return processor


__all__ = ["IMAGE_TOKEN", "assemble_model", "load_model", "source_state"]
