"""Compute logits from token ids and pixels: vision tower, projector, scatter, any causal language model."""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling, ModelOutput
from transformers.modeling_utils import slice_logits_to_keep
from transformers.utils import can_return_tuple, logging
from transformers.utils.generic import merge_with_config_defaults

from .configuration_open_llava import OpenLlavaConfig
from .image_id_logits import OpenLlavaGenerationMixin
from .labels import mask_image_positions, masking_forward
from .language_head import balance_experts, project_hidden_states, read_setting, select_positions, supervised_loss
from .loading.offloading import keep_newline_in_memory, loaded_newline
from .loading.weight_files import adapt_state_dict, refused_pickle
from .packs.pack_mask import build_pack_mask
from .remote_code import add_remote_code
from .vision.image_features import (
    ImageSizes,
    batch_layouts,
    check_counts,
    check_no_image,
    embed_ids,
    image_positions,
    merge_tiles,
    scatter_features,
)
from .vision.projector import OpenLlavaMultiModalProjector
from .vision.vision_tower import build_vision_tower, encode_tiles, refuse_other_features


logger = logging.get_logger(__name__)


@dataclass
class OpenLlavaModelOutputWithPast(BaseModelOutputWithPast):
    """
    Args:
        image_hidden_states (`torch.Tensor` of shape `(sum of image tokens, hidden_size)`, *optional*):
            What the images became in the sequence.
    """

    image_hidden_states: torch.Tensor | None = None
    router_logits: tuple[torch.Tensor, ...] | None = None


@dataclass
class OpenLlavaCausalLMOutputWithPast(ModelOutput):
    """
    Args:
        loss (`torch.Tensor` of shape `()`, *optional*): Next-token loss over the supervised positions.
        logits (`torch.Tensor` of shape `(batch_size, sequence_length, vocab_size)`, *optional*):
            `None` in training with labels: the loss needs the supervised positions only, see [`supervised_loss`].
        image_hidden_states (`torch.Tensor` of shape `(sum of image tokens, hidden_size)`, *optional*)
        aux_loss, router_logits (*optional*): Of a mixture of experts whose configuration asks for
        `output_router_logits`.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    image_hidden_states: torch.Tensor | None = None
    aux_loss: torch.Tensor | None = None
    router_logits: tuple[torch.Tensor, ...] | None = None


class OpenLlavaPreTrainedModel(PreTrainedModel):
    config: OpenLlavaConfig
    base_model_prefix = "model"
    input_modalities = ["image", "text"]
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ["past_key_values"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    # Contract: each takes (model, state dict or None, checkpoint files or None) and returns the tensors to load, or
    # what it was given. `conversion.auto_classes.register_formats` adds the one for original checkpoints.
    state_dict_adapters: ClassVar[list[Callable[[PreTrainedModel, Any, Any], Any]]] = []
    # A checkpoint of a whole CLIP or SigLIP has a text half and a contrastive head; a flat one may carry a newline.
    _keys_to_ignore_on_load_unexpected = [
        r"vision_tower\.(text_model|visual_projection|text_projection|logit_scale|logit_bias)",
        r"rotary_emb\.inv_freq$",
    ]

    def post_init(self) -> None:
        """Of the layers that must not be split, those that exist: FSDP wants every one, and CLIP names its text's."""
        super().post_init()
        self._no_split_modules &= {type(module).__name__ for module in self.modules()}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, OpenLlavaModel) and module.image_newline is not None:
            init.normal_(module.image_newline, mean=0.0, std=self.config.text_config.hidden_size**-0.5)

    @staticmethod
    def _load_pretrained_model(
        model: PreTrainedModel, state_dict: Any, checkpoint_files: Any, load_config: Any, expected_keys: Any = None
    ) -> Any:
        keep_newline_in_memory(load_config.device_map)
        adapters = OpenLlavaPreTrainedModel.state_dict_adapters
        state_dict, checkpoint_files = adapt_state_dict(model, state_dict, checkpoint_files, adapters)
        return PreTrainedModel._load_pretrained_model(model, state_dict, checkpoint_files, load_config, expected_keys)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Loads; a `.bin` that is more than tensors is refused, see [`refused_pickle`]."""
        try:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except pickle.UnpicklingError as error:
            raise refused_pickle(pretrained_model_name_or_path, error) from None

    def save_pretrained(
        self, save_directory: Any, *, save_original_format: bool = False, remote_code: bool = False, **kwargs: Any
    ) -> None:
        """
        Saves under this class's own key names.

        With `remote_code=True` the folder also gets what `trust_remote_code=True` needs to find this package, see
        [`add_remote_code`].

        `save_original_format=True`, the default elsewhere in transformers, would rename the keys back to the layout
        that the checkpoint was loaded from; files of one checkpoint would then differ by where it once came from.
        """
        super().save_pretrained(save_directory, save_original_format=save_original_format, **kwargs)
        if remote_code:
            add_remote_code(save_directory)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoModel") -> None:
        """Does nothing: the class belongs to an installed package, and a copy of this one file could not run alone."""


class OpenLlavaModel(OpenLlavaPreTrainedModel):
    """Vision tower, projector and decoder without a language-modelling head."""

    def __init__(self, config: OpenLlavaConfig) -> None:
        super().__init__(config)
        self.vision_tower, unwanted_keys = build_vision_tower(config)
        self.multi_modal_projector = OpenLlavaMultiModalProjector(config)
        self.language_model = AutoModel.from_config(config.text_config)
        self.image_newline: nn.Parameter | None = None
        if config.has_image_newline:
            self.image_newline = nn.Parameter(torch.empty(config.text_config.hidden_size))
        else:
            unwanted_keys.append(r"(^|\.)image_newline$")
        self._keys_to_ignore_on_load_unexpected = [*self._keys_to_ignore_on_load_unexpected, *unwanted_keys]
        self.post_init()

    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        image_sizes: ImageSizes | None = None,
        num_tiles: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """
        Encodes images.

        Args:
            pixel_values (`torch.Tensor` of shape `(sum of num_tiles, 3, tile_size, tile_size)`): Tiles of all images
                one after another. `(num_images, max_num_tiles, 3, tile_size, tile_size)`, padded with unused tiles, is
                accepted too.
            image_sizes (`torch.Tensor` of shape `(num_images, 2)`, *optional*): `(height, width)` of each image
                before any processing. Needed for `anyres*`; a list of pairs saves the copy from the device.
            num_tiles (`Sequence[int]`, *optional*): Tiles of each image, where a tiled checkpoint is shown some
                images whole and others cut; see [`batch_layouts`].
            output_hidden_states, output_attentions, return_dict (*optional*): As elsewhere; of the vision tower, which
                ends at the last layer that is read.

        Returns:
            [`~transformers.modeling_outputs.BaseModelOutputWithPooling`]: `pooler_output` is a list with one tensor
            `(num_image_tokens, hidden_size)` per image. `last_hidden_state` is the tower's, class token included.
        """
        refuse_other_features(self.config, kwargs)
        pixel_values, layouts = batch_layouts(self.config, pixel_values, image_sizes, num_tiles)
        features, outputs = encode_tiles(self.vision_tower, self.config, pixel_values, **kwargs)
        projected = self.multi_modal_projector(features)  # (sum of num_tiles, tokens_per_tile, hidden_size)
        merged = merge_tiles(projected, layouts, self.config, loaded_newline(self))
        return BaseModelOutputWithPooling(
            last_hidden_state=outputs.last_hidden_state,
            pooler_output=merged,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    @merge_with_config_defaults
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_sizes: ImageSizes | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        num_tiles: Sequence[int] | None = None,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        supervised_positions: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> OpenLlavaModelOutputWithPast:
        """
        Args:
            input_ids (`torch.Tensor` of shape `(batch_size, sequence_length)`): With `image_token_id` at every
                position that an image fills.
            pixel_values, image_sizes, num_tiles: See [`~OpenLlavaModel.get_image_features`].
            mm_encoder_outputs (`dict`, *optional*): `{"image": output of get_image_features}` in place of pixels.
            cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k (*optional*): Borders of the documents of a pack,
                with `position_ids` that restart at each. No document sees another; a pack has no mask and no cache.
            supervised_positions (*optional*): `last_hidden_state` has these alone, see [`select_positions`].

        Raises:
            ValueError: If images fill another number of positions than `input_ids` has for them, or a pack comes
                with an attention mask, a cache, or without positions.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give exactly one of `input_ids` and `inputs_embeds`.")
        refuse_other_features(self.config, kwargs)
        image_output = (mm_encoder_outputs or {}).get("image")
        if pixel_values is not None and pixel_values.shape[0] > 0:
            if image_output is not None:
                raise ValueError("Give `pixel_values` or `mm_encoder_outputs`, not both: each holds the images.")
            image_output = self.get_image_features(pixel_values, image_sizes, num_tiles, return_dict=True)
        if input_ids is not None:
            inputs_embeds = embed_ids(self.config, input_ids, self.get_input_embeddings())
        assert inputs_embeds is not None
        image_features = None
        if image_output is not None:
            image_features = torch.cat(list(image_output.pooler_output)).to(inputs_embeds)
            is_image = image_positions(self.config, input_ids, inputs_embeds, self.get_input_embeddings())
            check_counts(is_image, image_features.shape[0], allow_sync=not self.training)
            inputs_embeds = scatter_features(inputs_embeds, is_image, image_features)
        elif input_ids is not None and input_ids.shape[1] > 1:
            check_no_image(input_ids == self.config.image_token_id, is_training=self.training)
        if kwargs.get("cu_seq_lens_q") is not None:
            attention_mask = build_pack_mask(
                self.language_model, inputs_embeds, attention_mask, position_ids, past_key_values
            )
            use_cache = False
        if read_setting(self.config.text_config, "output_router_logits"):
            kwargs.setdefault("output_router_logits", True)
        outputs = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        return OpenLlavaModelOutputWithPast(
            last_hidden_state=select_positions(outputs.last_hidden_state, supervised_positions),
            past_key_values=getattr(outputs, "past_key_values", None),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=image_features,
            router_logits=getattr(outputs, "router_logits", None),
        )


class OpenLlavaForConditionalGeneration(OpenLlavaPreTrainedModel, OpenLlavaGenerationMixin):
    """
    LLaVA: answers text about images.

    Example:

    ```python
    from transformers import AutoModelForImageTextToText, AutoProcessor
    import transformers_llava

    model = AutoModelForImageTextToText.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    inputs = processor(images=image, text="USER: <image>\\nWhat is this? ASSISTANT:", return_tensors="pt")
    processor.decode(model.generate(**inputs, max_new_tokens=20)[0], skip_special_tokens=True)
    ```
    """

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: OpenLlavaConfig) -> None:
        super().__init__(config)
        self.model = OpenLlavaModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self._tied_weights_keys = {"lm_head.weight": _embedding_name(self.model.language_model)}
        self.post_init()

    def __setattr__(self, name: str, value: Any) -> None:
        """A forward that a trainer puts on this model, such as TRL's fused head, gets masked labels like our own."""
        super().__setattr__(name, masking_forward(value) if name == "forward" else value)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        image_sizes: ImageSizes | None = None,
        num_tiles: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """See [`OpenLlavaModel.get_image_features`]."""
        return self.model.get_image_features(pixel_values, image_sizes, num_tiles, **kwargs)

    @merge_with_config_defaults
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_sizes: ImageSizes | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> OpenLlavaCausalLMOutputWithPast:
        """
        Args:
            input_ids, pixel_values, image_sizes: See [`OpenLlavaModel.forward`].
            labels (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*): Supervised token ids,
                -100 elsewhere; image positions never count. In training mode the logits are then not returned.
            num_items_in_batch (`int`, *optional*): Supervised tokens of the whole optimizer step: the loss's divisor.
            shift_labels, supervised_positions (*optional*): Labels that stand before their token; of these alone.
        """
        # not in the signature, where Trainer looks for its labels
        shift_labels, positions = kwargs.pop("shift_labels", None), kwargs.pop("supervised_positions", None)
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            image_sizes=image_sizes,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            mm_encoder_outputs=mm_encoder_outputs,
            return_dict=True,
            **kwargs,
        )
        loss = logits = aux_loss = None
        labels = labels if shift_labels is None else shift_labels
        if labels is None or not self.training:
            logits = self.project(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep))
        if labels is not None:
            loss = supervised_loss(
                outputs.last_hidden_state,
                mask_image_positions(labels, self.config.image_token_id),
                self.project,
                num_items_in_batch,
                is_shifted=shift_labels is not None,
                positions=positions,
            )
            if outputs.router_logits is not None:
                aux_loss = balance_experts(outputs.router_logits, attention_mask, self.config.text_config)
                loss = loss + self.config.text_config.router_aux_loss_coef * aux_loss.to(loss.device)
        return OpenLlavaCausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=outputs.image_hidden_states,
            aux_loss=aux_loss,
            router_logits=outputs.router_logits,
        )

    def project(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Hidden states `(..., hidden_size)` to logits `(..., vocab_size)`."""
        return project_hidden_states(hidden_states, self.lm_head, self.config.text_config)


def _embedding_name(language_model: PreTrainedModel) -> str:
    embeddings = language_model.get_input_embeddings()
    name = next(name for name, module in language_model.named_modules() if module is embeddings)
    return f"model.language_model.{name}.weight"


__all__ = ["OpenLlavaForConditionalGeneration", "OpenLlavaModel", "OpenLlavaPreTrainedModel"]
