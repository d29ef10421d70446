"""Define the settings of a training run: where the model comes from, what it reads, what is trainable, and how."""

from dataclasses import dataclass, field
from typing import Any

from trl import SFTConfig

from transformers_llava.training.recipe.recipe_error import RecipeError
from transformers_llava.training.recipe.recipe_file import COMPONENTS


MODES = ("frozen", "full", "lora")


_ONLY_WITH_PARTS = (
    "language_model_name_or_path",
    "language_model_revision",
    "vision_tower_name_or_path",
    "vision_tower_revision",
    "projector_type",
    "vision_feature_layer",
    "vision_feature_select_strategy",
    "image_grid_pinpoints",
    "patch_merge_type",
)


@dataclass
class ModelConfig:
    """
    Where the model comes from: a checkpoint of ours, or its parts with a fresh projector between them.

    With `model_name_or_path` the architecture is the checkpoint's own, and only what may change between stages
    (`image_aspect_ratio`, `attn_implementation`) is taken from here.
    """

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Folder or Hub id of a LLaVA checkpoint to start from."}
    )
    model_revision: str | None = field(
        default=None, metadata={"help": "Commit of that repository, all 40 digits, or a tag. Default: its newest."}
    )
    language_model_name_or_path: str | None = field(
        default=None, metadata={"help": "Language model with its tokenizer, to build a new LLaVA from parts."}
    )
    language_model_revision: str | None = field(
        default=None, metadata={"help": "Commit or tag of the language model's repository. Only with parts."}
    )
    vision_tower_name_or_path: str | None = field(
        default=None, metadata={"help": "Vision tower with its image processor, to build a new LLaVA from parts."}
    )
    vision_tower_revision: str | None = field(
        default=None, metadata={"help": "Commit or tag of the vision tower's repository. Only with parts."}
    )
    projector_type: str | None = field(default=None, metadata={"help": "Default mlp2x_gelu. Only with parts."})
    vision_feature_layer: int | list[int] | None = field(
        default=None, metadata={"help": "Default -2. Only with parts."}
    )
    vision_feature_select_strategy: str | None = field(
        default=None,
        metadata={"help": "Default: `default` for a tower with a class token, else `full`. Only with parts."},
    )
    image_grid_pinpoints: list | None = field(
        default=None, metadata={"help": "Tile canvases [width, height] for anyres. Only with parts."}
    )
    patch_merge_type: str | None = field(default=None, metadata={"help": "Default flat. Only with parts."})
    image_aspect_ratio: str | None = field(
        default=None,
        metadata={"help": "square | pad | anyres | anyres_max_N. Default: the checkpoint's; square with parts."},
    )
    attn_implementation: str = field(
        default="sdpa", metadata={"help": "Attention of the language model and the tower."}
    )

    def __post_init__(self) -> None:
        parts = [self.language_model_name_or_path, self.vision_tower_name_or_path]
        if self.model_name_or_path is None and None in parts:
            raise RecipeError(
                "nothing says where the model comes from, so there is nothing to train. Give either "
                "`model_name_or_path` (a LLaVA checkpoint) or both `language_model_name_or_path` and "
                f"`vision_tower_name_or_path` (its parts); of the parts given are {parts}."
            )
        if self.model_name_or_path is None and self.model_revision is not None:
            raise RecipeError(
                "`model_revision` is the commit of `model_name_or_path`, which the recipe does not set, so it would "
                "have no effect. With parts, use `language_model_revision` and `vision_tower_revision`."
            )
        if self.image_grid_pinpoints is not None and not all(map(_is_canvas, self.image_grid_pinpoints)):
            raise RecipeError(
                f"image_grid_pinpoints={self.image_grid_pinpoints!r} are no canvases: each is a pair [width, height] "
                "of whole numbers of pixels, such as [336, 672]."
            )
        if self.model_name_or_path is not None:
            given = [name for name in _ONLY_WITH_PARTS if getattr(self, name) is not None]
            if given:
                raise RecipeError(
                    f"`model_name_or_path` brings its own architecture, but the recipe also sets {', '.join(given)}; "
                    "one of the two would be ignored. Remove those fields, or build from parts without "
                    "`model_name_or_path`."
                )


@dataclass
class DataConfig:
    """What the model reads."""

    train_data: list[dict[str, Any]] | str | None = field(
        default=None,
        metadata={"help": "Sources ({name, path, image_root, format, num_examples, ...}), or the file of a mixture."},
    )
    chat_template: str | None = field(
        default=None,
        metadata={"help": "Packaged template (`plain`, `vicuna_v1`, ...) or .jinja file. Default: the checkpoint's."},
    )
    max_length: int | None = field(
        default=None,
        metadata={"help": "Longest example in tokens, image included. Longer ones are truncated at the end."},
    )
    several_images: str = field(
        default="tiles",
        metadata={
            "help": "Where a tiled checkpoint reads a record with several images: `tiles` cuts each, `one_tile` "
            "shows each whole, as LLaVA-NeXT trains."
        },
    )
    packed: bool = field(
        default=False,
        metadata={
            "help": "Deal the examples of each optimizer step into equal packs without padding. Changes no result."
        },
    )
    replicate: str | None = field(
        default=None,
        metadata={
            "help": "To compare with a run of the original: its order of samples (`random`, or `modality_length` for "
            "its group_by_modality_length), its masking and its average of losses. Padded only."
        },
    )
    streaming: bool = field(
        default=False,
        metadata={"help": "Read records while training instead of storing and measuring them first. Needs max_steps."},
    )
    streaming_window: int = field(
        default=64, metadata={"help": "Steps of a stream that are shuffled and packed together."}
    )
    strict: bool = field(
        default=False, metadata={"help": "Stop at the first broken record, instead of counting it and going on."}
    )
    data_num_proc: int | None = field(default=None, metadata={"help": "Processes that read the records."})

    def __post_init__(self) -> None:
        if not self.train_data:
            raise RecipeError(
                "`train_data` is missing, so there is nothing to learn from. Give a list of sources, for example "
                """--train_data '[{name: mine, path: mine.json, image_root: images}]', or the file of a mixture."""
            )
        if self.replicate not in (None, "random", "modality_length"):
            raise RecipeError(
                f"replicate={self.replicate!r} is no order of the original. Use random or modality_length."
            )
        if self.replicate is not None and (self.packed or self.streaming):
            raise RecipeError(
                "`replicate` repeats the original's padded batches, and `packed` or `streaming` would make others. "
                "Turn them off, or leave `replicate` out."
            )
        if self.several_images not in ("tiles", "one_tile"):
            raise RecipeError(
                f"several_images={self.several_images!r} is no way to show several images. Choose `tiles` or "
                "`one_tile`."
            )


@dataclass
class ComponentConfig:
    """
    How one component takes part.

    Args:
        mode (`str`, *optional*, defaults to `"frozen"`): `frozen`, `full`, or `lora` (low-rank updates, merged at the
            end).
        learning_rate (`float`, *optional*): Its own; the recipe's `learning_rate` otherwise.
        weight_decay (`float`, *optional*): Its own; the recipe's `weight_decay` otherwise.
        lora_rank, lora_alpha, lora_dropout: Of `mode="lora"`; the defaults are LLaVA-1.5's.
        quantization (`str`, *optional*): `nf4` holds a language model that is frozen, or trained with LoRA, in 4 bits.
    """

    mode: str = "frozen"
    learning_rate: float | None = None
    weight_decay: float | None = None
    lora_rank: int = 128
    lora_alpha: int = 256
    lora_dropout: float = 0.05
    quantization: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise RecipeError(f"mode={self.mode!r} is not a way to train a component. Choose from {', '.join(MODES)}.")
        if self.quantization not in (None, "nf4"):
            raise RecipeError(f"quantization={self.quantization!r} is not known. Use `nf4`, or leave it out.")
        check_at_least("lora_rank", self.lora_rank, 1)
        check_at_least("lora_alpha", self.lora_alpha, 1)
        for name in ("learning_rate", "weight_decay"):
            if getattr(self, name) is not None:
                check_at_least(name, getattr(self, name), 0)
        if not 0 <= self.lora_dropout < 1:
            raise RecipeError(f"lora_dropout={self.lora_dropout} is no share of activations. Use 0 to below 1.")
        if self.mode == "frozen" and (self.learning_rate is not None or self.weight_decay is not None):
            raise RecipeError(
                f"a frozen component learns nothing, but a learning rate or weight decay is given ({self}). Set its "
                "mode to `full` or `lora`, or remove them."
            )


def check_at_least(name: str, value: float, least: float) -> None:
    """Raises a `RecipeError` for a number below its least sensible value, or for none at all (NaN)."""
    if not value >= least:
        raise RecipeError(f"`{name}: {value}` is below {least:g}, the least that makes sense. Correct or remove it.")


def _is_canvas(value: Any) -> bool:
    is_pair = isinstance(value, list | tuple) and len(value) == 2
    return is_pair and all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in value)


@dataclass
class LlavaSFTConfig(SFTConfig):
    """
    [`~trl.SFTConfig`] whose data preparation is left to our collators.

    Everything of [`~transformers.TrainingArguments`] is a field of a recipe. TRL's own tokenizing, truncating and
    packing stay off, for it would redo on text what is done here with images.
    """

    partial_checkpointing: int | None = field(
        default=None,
        metadata={"help": "With gradient_checkpointing: of the language model only so many layers, the first ones."},
    )

    def __post_init__(self) -> None:
        for name in ("packing", "padding_free", "assistant_only_loss"):
            if getattr(self, name):
                raise RecipeError(
                    f"`{name}` asks TRL to prepare the examples, which it refuses for images. Labels come from the "
                    "chat template already; for packing set `packed: true`."
                )
        if self.partial_checkpointing is not None and (
            self.partial_checkpointing < 1 or not self.gradient_checkpointing
        ):
            raise RecipeError(
                f"partial_checkpointing={self.partial_checkpointing} with gradient_checkpointing="
                f"{self.gradient_checkpointing}: it says how many layers are checkpointed, at least 1, once "
                "gradient_checkpointing is on."
            )
        self.max_length = None
        self.remove_unused_columns = False
        self.dataset_kwargs = {"skip_prepare_dataset": True}
        if self.bf16 is None and not self.fp16:
            self.bf16 = False  # TRL would turn it on, which a CPU run then pays for
        if self.ddp_find_unused_parameters is None:  # type: ignore[has-type]
            # TRL would search them every step; the collators see to it that every step has an image, so there are
            # none.
            self.ddp_find_unused_parameters = False
        if getattr(self, "activation_checkpointing", False) is None:  # its new name, which does not warn
            self.activation_checkpointing = bool(self.gradient_checkpointing)
        super().__post_init__()


__all__ = [
    "COMPONENTS",
    "ComponentConfig",
    "DataConfig",
    "LlavaSFTConfig",
    "MODES",
    "ModelConfig",
    "RecipeError",
    "check_at_least",
]
