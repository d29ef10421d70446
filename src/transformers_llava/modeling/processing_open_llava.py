"""Turn text with `<image>` markers into model inputs: a marker becomes as many tokens as its image costs."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, wraps
from typing import Any, ClassVar

from transformers import PreTrainedTokenizerBase
from transformers.processing_utils import MultiModalData, ProcessingKwargs, ProcessorMixin

from .configuration_open_llava import OpenLlavaConfig
from .image_processing_pil_open_llava import OpenLlavaImageProcessorPil
from .images.square_tiles import OpenLlavaImageProcessorKwargs, tile_size_of
from .images.tiling import TilingRule, image_layout
from .labels import OpenLlavaBatchFeature
from .remote_code import add_remote_code


class OpenLlavaProcessorKwargs(ProcessingKwargs, total=False):  # type: ignore[call-arg]
    images_kwargs: OpenLlavaImageProcessorKwargs
    _defaults = {"text_kwargs": {"padding": False, "return_token_type_ids": False}}


class OpenLlavaProcessor(ProcessorMixin):
    r"""
    Prepares images and text for [`OpenLlavaForConditionalGeneration`].

    Args:
        image_processor ([`OpenLlavaImageProcessorPil`]): How an image becomes tiles.
        tokenizer (`PreTrainedTokenizerBase`): Must have `image_token` as a special token. It adds no BOS: the chat
            template does, so that there is exactly one on every path.
        chat_template (`str`, *optional*): Jinja template, see `transformers_llava.chat_templates`.
        num_patches_per_side (`int`, *optional*, defaults to 24): Side of the feature grid of one tile.
        num_prefix_tokens (`int`, *optional*, defaults to 0): 1 where the class token is kept.
        patch_merge_type (`str`, *optional*, defaults to `"flat"`): See [`OpenLlavaConfig`].
        image_token (`str`, *optional*, defaults to `"<image>"`): The marker in the text.

    Example:

    ```python
    processor = OpenLlavaProcessor.from_pretrained(folder)
    processor.num_image_tokens(640, 480)
    inputs = processor(images=image, text="USER: <image>\nWhat is this? ASSISTANT:", return_tensors="pt")
    ```
    """

    # Contract: each takes (folder or Hub id, **hub keyword arguments) and returns a processor for a checkpoint that
    # has no processor files of ours, or None if it is not concerned. `conversion.auto_classes.register_formats` adds
    # one.
    fallback_builders: ClassVar[list[Callable[..., "OpenLlavaProcessor | None"]]] = []
    valid_processor_kwargs = OpenLlavaProcessorKwargs

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        num_patches_per_side: int = 24,
        num_prefix_tokens: int = 0,
        patch_merge_type: str = "flat",
        image_token: str = "<image>",
        **kwargs: Any,
    ) -> None:
        self.num_patches_per_side = num_patches_per_side
        self.num_prefix_tokens = num_prefix_tokens
        self.patch_merge_type = patch_merge_type
        self.image_token = image_token
        self.image_token_id = _special_token_id(tokenizer, image_token)
        super().__init__(image_processor, tokenizer, chat_template=chat_template, **kwargs)

    @classmethod
    def from_model_config(
        cls,
        config: OpenLlavaConfig,
        tokenizer: PreTrainedTokenizerBase,
        *,
        image_processor: OpenLlavaImageProcessorPil | None = None,
        chat_template: str | None = None,
        image_token: str = "<image>",
    ) -> "OpenLlavaProcessor":
        """
        Builds the processor that fits a model: same tile size, tiling and token counts.

        Args:
            config ([`OpenLlavaConfig`]): The model's configuration.
            tokenizer (`PreTrainedTokenizerBase`): `image_token` is added to it if it has none.
            image_processor ([`OpenLlavaImageProcessorPil`], *optional*): The tower's mean, colour range and resizing;
                CLIP's or SigLIP's defaults if not given. Its aspect mode and pinpoints are set from `config`.
        """
        if tokenizer.convert_tokens_to_ids(image_token) in (None, tokenizer.unk_token_id):
            tokenizer.add_special_tokens(
                {"additional_special_tokens": [image_token]}, replace_extra_special_tokens=False
            )
        tokenizer.padding_side = "left"  # generate() continues a batch from its end; training pads its own rows
        token_id = tokenizer.convert_tokens_to_ids(image_token)
        if token_id != config.image_token_id:
            raise ValueError(
                f"The tokenizer has {image_token!r} at id {token_id}, the model expects {config.image_token_id}; "
                "every image would be read as text. Set `config.image_token_index` to the tokenizer's id."
            )
        image_processor = image_processor or default_image_processor(config)
        image_processor.image_aspect_ratio = config.image_aspect_ratio
        image_processor.image_grid_pinpoints = config.image_grid_pinpoints
        rule = config.tiling_rule()
        return cls(
            image_processor=image_processor,
            tokenizer=tokenizer,
            chat_template=chat_template,
            num_patches_per_side=rule.num_patches_per_side,
            num_prefix_tokens=rule.num_prefix_tokens,
            patch_merge_type=config.patch_merge_type,
            image_token=image_token,
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> "OpenLlavaProcessor":
        """Loads a processor; for original checkpoints, which have none, it is built from their configuration."""
        for build in cls.fallback_builders:
            processor = build(pretrained_model_name_or_path, **kwargs)
            if processor is not None:
                return processor
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    def save_pretrained(self, save_directory: Any, *, remote_code: bool = False, **kwargs: Any) -> Any:
        """Saves; with `remote_code=True` also what `trust_remote_code=True` needs to find this package."""
        saved = super().save_pretrained(save_directory, **kwargs)
        if remote_code:
            add_remote_code(save_directory)
        return saved

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoProcessor") -> None:
        """Does nothing: the class belongs to an installed package, and a copy of this one file could not run alone."""

    @wraps(ProcessorMixin.__call__)  # the library reads the signature
    def __call__(self, *args: Any, **kwargs: Any) -> OpenLlavaBatchFeature:
        """See the library's; labels that are put into the result never count an image position."""
        batch = super().__call__(*args, **kwargs)
        skipped = batch.skip_tensor_conversion
        return OpenLlavaBatchFeature(batch.data, self.image_token_id, skip_tensor_conversion=skipped)

    def get_vocab(self) -> dict[str, int]:
        """The tokenizer's, so that `generate(stop_strings=..., tokenizer=processor)` works."""
        return self.tokenizer.get_vocab()

    def tiling_rule(self, **images_kwargs: Any) -> TilingRule:
        """The rule in force, with the overrides of one call such as `image_aspect_ratio="pad"`."""
        images = self.image_processor

        def setting(name: str) -> Any:
            value = images_kwargs.get(name)
            return getattr(images, name) if value is None else value

        own = TilingRule(
            tile_size=tile_size_of(setting("size"), setting("crop_size"), setting("do_center_crop")),
            num_patches_per_side=self.num_patches_per_side,
            num_prefix_tokens=self.num_prefix_tokens,
            image_aspect_ratio=images.image_aspect_ratio,
            patch_merge_type=self.patch_merge_type,
            grid_pinpoints=tuple((int(w), int(h)) for w, h in setting("image_grid_pinpoints") or ()),
        )
        aspect_ratio = setting("image_aspect_ratio")
        if aspect_ratio == own.image_aspect_ratio:
            return own
        # One tile per image on a tiled checkpoint: a newline closes each, as in LLaVA-NeXT's multi-image samples.
        newline = own.is_tiled and not aspect_ratio.startswith("anyres") and self.patch_merge_type == "spatial_unpad"
        return replace(own, image_aspect_ratio=aspect_ratio, single_tile_newline=newline)

    def num_image_tokens(self, width: int, height: int, **images_kwargs: Any) -> int:
        """Positions that an image of this size takes in the sequence; nothing is decoded."""
        return _num_tokens((width, height), self.tiling_rule(**images_kwargs))

    def prepare_inputs_layout(self, images: Any = None, **kwargs: Any) -> Any:
        """An empty list of images is none: a batch of text alone."""
        if isinstance(images, list | tuple) and not any(
            entry is not None and not (isinstance(entry, list | tuple) and len(entry) == 0) for entry in images
        ):
            images = None
        return super().prepare_inputs_layout(images=images, **kwargs)

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **kwargs: Any) -> str:
        height, width = (int(side) for side in image_inputs["image_sizes"][image_idx])
        return self.image_token * self.num_image_tokens(width, height, **kwargs)

    def _get_num_multimodal_tokens(self, image_sizes: Any = None, **kwargs: Any) -> MultiModalData:
        """Called by vLLM's transformers backend: tokens and tiles of images given as `(height, width)`."""
        if image_sizes is None:
            return MultiModalData()
        rule = self.tiling_rule(**kwargs)
        layouts = [image_layout((int(width), int(height)), rule) for height, width in image_sizes]
        return MultiModalData(
            num_image_tokens=[layout.num_tokens for layout in layouts],
            num_image_patches=[layout.num_tiles for layout in layouts],
        )


def default_image_processor(config: OpenLlavaConfig) -> OpenLlavaImageProcessorPil:
    """The tower family's own preprocessing at the tower's size: CLIP crops the centre, SigLIP squashes."""
    side = config.vision_config.image_size
    square = {"height": side, "width": side}
    if config.vision_config.model_type.startswith("siglip"):
        half = [0.5, 0.5, 0.5]
        return OpenLlavaImageProcessorPil(
            size=square, crop_size=square, do_center_crop=False, image_mean=half, image_std=half
        )
    return OpenLlavaImageProcessorPil(size={"shortest_edge": side}, crop_size=square)


@lru_cache(maxsize=65536)
def _num_tokens(size: tuple[int, int], rule: TilingRule) -> int:
    return image_layout(size, rule).num_tokens


def _special_token_id(tokenizer: Any, token: str) -> int | None:
    if tokenizer is None:
        return None
    token_id = tokenizer.convert_tokens_to_ids(token)
    if token_id is None or token_id == tokenizer.unk_token_id:
        raise ValueError(
            f"The tokenizer has no token {token!r}, so images would have no place in the text. Add it with "
            f"`tokenizer.add_special_tokens({{'additional_special_tokens': [{token!r}]}})`; the model needs no new "
            "row for it."
        )
    return token_id


__all__ = ["OpenLlavaProcessor", "OpenLlavaProcessorKwargs", "default_image_processor"]
