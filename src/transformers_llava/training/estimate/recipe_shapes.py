"""Build the model that a recipe trains without its weights, on the meta device, from files or from packaged shapes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoConfig

from transformers_llava.modeling.configuration_open_llava import OpenLlavaConfig
from transformers_llava.modeling.images.tiling import image_layout
from transformers_llava.modeling.modeling_open_llava import OpenLlavaForConditionalGeneration
from transformers_llava.training.model.architecture import config_of_parts, vision_half
from transformers_llava.training.recipe.configs import ModelConfig
from transformers_llava.training.recipe.recipe import Recipe
from transformers_llava.training.recipe.recipe_error import RecipeError


TYPICAL_IMAGE = (640, 480)  # width and height of most of COCO's, which most of the published records show


@dataclass(frozen=True)
class DataShape:
    """What an epoch holds, measured or estimated."""

    num_examples: int
    text_tokens: float  # mean per example, without the image's
    label_tokens: float  # mean per example
    image_share: float
    image_tokens: int  # of one image
    tiles: int  # of one image
    origin: str  # where the numbers come from

    @property
    def tokens(self) -> float:
        """Mean tokens of an example as the language model sees it."""
        return self.text_tokens + self.image_share * self.image_tokens


def plan_model(recipe: Recipe) -> OpenLlavaForConditionalGeneration:
    """The model of a recipe on the meta device: every shape, no memory."""
    config = plan_config(recipe.model)
    name = str(recipe.model.model_name_or_path or recipe.model.language_model_name_or_path)
    with _readable(name), torch.device("meta"):
        return OpenLlavaForConditionalGeneration(config)


def plan_config(model: ModelConfig) -> OpenLlavaConfig:
    """
    The configuration that training would start with.

    Raises:
        `RecipeError`: a model that is neither on this disk nor among the packaged shapes.
    """
    if model.model_name_or_path is not None:
        folder = Path(model.model_name_or_path)
        if (folder / "config.json").is_file():
            with _readable(str(folder)):
                config = OpenLlavaConfig.from_pretrained(folder)
        else:
            values = dict(_known("checkpoints", folder.name, model.model_name_or_path))
            parts = {name: _sub_config(values.pop(name)) for name in ("text_config", "vision_config")}
            config = OpenLlavaConfig(**parts, **values)
        if model.image_aspect_ratio is not None:
            config.image_aspect_ratio = model.image_aspect_ratio
        return config
    tower = _part("vision_towers", str(model.vision_tower_name_or_path))
    language_model = _part("language_models", str(model.language_model_name_or_path))
    return config_of_parts(model, vision_config=vision_half(tower, model), text_config=language_model)


def plan_data(recipe: Recipe, config: OpenLlavaConfig) -> DataShape:
    """What is published or estimated about the recipe's data, and what a typical image costs."""
    rule = config.tiling_rule()
    layout = image_layout(TYPICAL_IMAGE, rule)
    name = recipe.data.train_data if isinstance(recipe.data.train_data, str) else ""
    known = _shapes()["mixtures"].get(name)
    origin = f"{name}: published counts, estimated lengths"
    if known is None:
        known = _shapes()["mixtures"]["llava-v1.5-mix665k"]
        origin = "assumed as in llava-v1.5-mix665k, for nothing is published about this data"
    return DataShape(**known, image_tokens=layout.num_tokens, tiles=layout.num_tiles, origin=origin)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Raises a `RecipeError` in place of whatever the values of a config.json make the libraries raise."""
    try:
        yield
    except RecipeError:
        raise
    except Exception as error:
        raise RecipeError(
            f"the config.json of {name!r} is none that a model can be built from ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:500]}), so nothing can be planned. Correct it, or fetch it again."
        ) from error


@cache
def _shapes() -> dict[str, Any]:
    return yaml.safe_load((Path(__file__).parent / "shapes.yaml").read_text(encoding="utf-8"))


def _part(kind: str, name: str) -> Any:
    if (Path(name) / "config.json").is_file():
        with _readable(name):
            return AutoConfig.from_pretrained(name)
    return _sub_config(_known(kind, name, name))


def _known(kind: str, key: str, name: str) -> dict[str, Any]:
    shapes = _shapes()[kind]
    if key not in shapes:
        raise RecipeError(
            f"the shape of {name!r} is not known here and no config.json of it is on this disk, so nothing can be "
            f"planned. Known are {', '.join(shapes)}; or give the folder of a model."
        )
    return shapes[key]


def _sub_config(values: dict[str, Any]) -> Any:
    return AutoConfig.for_model(**values)


__all__ = ["DataShape", "TYPICAL_IMAGE", "plan_config", "plan_data", "plan_model"]
