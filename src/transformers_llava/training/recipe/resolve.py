"""Resolve what a recipe names, once and before anything is trained: base models, stages before, mixture, template."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from transformers_llava.artifacts.digests.file_digests import commit_of_snapshot, weights_digest
from transformers_llava.artifacts.run_record.base_model import ROLE_FIELDS, BaseModel
from transformers_llava.artifacts.run_record.record_file import has_run_record, read_run_record
from transformers_llava.artifacts.run_record.run_stages import Stage
from transformers_llava.artifacts.snapshots import local_folder
from transformers_llava.chat_templates import chat_template_info, load_chat_template
from transformers_llava.data.mixture.config import MixtureConfig, SourceConfig
from transformers_llava.data.mixture.mixture_file import find_mixture_file, read_mixture_file
from transformers_llava.data.tokens.policy import EncodingPolicy, SeveralImages
from transformers_llava.training.recipe.configs import DataConfig, ModelConfig
from transformers_llava.training.recipe.recipe import Recipe
from transformers_llava.training.recipe.recipe_error import RecipeError


logger = logging.getLogger(__name__)


def base_models(config: ModelConfig) -> tuple[BaseModel, ...]:
    """What a run starts from, by role, name, commit and content."""
    described = []
    for role, (name_field, revision_field) in ROLE_FIELDS.items():
        name = getattr(config, name_field)
        if name is None:
            continue
        folder = local_folder(name, getattr(config, revision_field), with_weights=True)
        is_folder = Path(name).is_dir()
        described.append(
            BaseModel(
                role,
                Path(name).name if is_folder else name,
                origin="folder" if is_folder else "hub",
                revision=None if is_folder or folder is None else commit_of_snapshot(folder),
                digest=None if folder is None else weights_digest(folder),
            )
        )
    return tuple(described)


def previous_stages(config: ModelConfig) -> tuple[Stage, ...]:
    """The records of the stages that the checkpoint has behind it, the first one first."""
    folder = local_folder(config.model_name_or_path, config.model_revision)
    return () if folder is None or not has_run_record(folder) else read_run_record(folder).stages


@dataclass(frozen=True)
class ResolvedRecipe:
    """
    A recipe, and what the files that it names said when the run began.

    Contract: nothing reads these files again, so what a run records is what it trained on, also where somebody edits
    them meanwhile.

    Args:
        recipe (`Recipe`): The recipe, checked.
        mixture (`MixtureConfig`): The sources of `train_data`, or of the mixture file that it names.
        data_root (`Path`, *optional*): Where the relative paths of that file start; `None` for sources that stand in
            the recipe itself.
        chat_template (`str`, *optional*): Jinja source of the template that the recipe names; `None` for the
            checkpoint's own.
    """

    recipe: Recipe
    mixture: MixtureConfig
    data_root: Path | None
    chat_template: str | None

    @property
    def encoding_policy(self) -> EncodingPolicy:
        """How examples become tokens; the template is the processor's, which `chat_template_for` chose."""
        data = self.recipe.data
        return EncodingPolicy(max_length=data.max_length, several_images=cast(SeveralImages, data.several_images))

    @property
    def own_chat_template(self) -> str | None:
        """Text of a template file of the user's own, which the run record keeps; `None` for any other."""
        return self.chat_template if _is_file(self.recipe.data.chat_template) else None

    def chat_template_for(self, processor: Any) -> str:
        """
        The template that the run uses.

        Raises:
            `RecipeError`: the checkpoint has none, or its tokenizer does not know the token that ends an answer.
        """
        if self.chat_template is None:
            if not processor.chat_template:
                raise RecipeError(
                    "neither the recipe nor the checkpoint has a chat template, so conversations could not be written "
                    "as text. Set `chat_template`, for example `plain` (stage 1) or `vicuna_v1`."
                )
            return processor.chat_template
        if self.own_chat_template is None:
            _check_stop(str(self.recipe.data.chat_template), processor.tokenizer)
        return self.chat_template


def resolve_recipe(recipe: Recipe) -> ResolvedRecipe:
    """
    Read the mixture file and the chat template of a recipe, each once.

    Raises:
        `RecipeError`: one of them is missing, cannot be read, or makes no sense.
    """
    train_data, root = recipe.data.train_data, None
    try:
        if isinstance(train_data, str):
            _, root = find_mixture_file(train_data)
            mixture = read_mixture_file(train_data, seed=recipe.sft.seed)
        else:
            sources = [SourceConfig.from_dict(source) for source in train_data or []]
            mixture = MixtureConfig(sources, seed=recipe.sft.seed)
    except ValueError as error:
        raise RecipeError(f"`train_data` cannot be used: {error}") from error
    return ResolvedRecipe(recipe, mixture, root, _read_chat_template(recipe.data))


def _read_chat_template(data: DataConfig) -> str | None:
    name = data.chat_template
    if name is None:
        return None
    if _is_file(name):
        try:
            return Path(name).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise RecipeError(
                f"`chat_template`: {name!r} cannot be read ({error}). Give a file in UTF-8, or the name of a packaged "
                "template (`llava inspect template` lists them)."
            ) from error
    try:
        return load_chat_template(name)
    except ValueError as error:
        raise RecipeError(f"`chat_template`: {error}") from error


def _is_file(chat_template: str | None) -> bool:
    return chat_template is not None and chat_template.endswith(".jinja")


_TOKEN = re.compile(r"</?\w+>|<\|\w+\|>")  # written as special tokens are: `</s>`, `<|im_end|>`


def _check_stop(name: str, tokenizer: Any) -> None:
    """The token that ends an answer must be one: in pieces the model would learn to spell it, and never to stop."""
    stop = chat_template_info(name).stop
    if not _TOKEN.fullmatch(stop):  # `###`, a line's end: text for every tokenizer, and in the original too
        return
    ids = tokenizer.encode(stop, add_special_tokens=False)
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise RecipeError(
            f"the template {name!r} ends answers with {stop!r}, which this tokenizer does not know as one token: it "
            f"reads {tokenizer.convert_ids_to_tokens(ids)}. The model would learn to spell it and never to stop (its "
            f"own end token is {tokenizer.eos_token!r}). Use a template of the language model's family "
            "(`chat_template`; leave it out for the tokenizer's own), or add the token to the tokenizer."
        )
    if ids[0] != tokenizer.eos_token_id:
        logger.warning(
            "answers end with %s, and the tokenizer's end token is %s: generate with `eos_token_id=%s`",
            *(stop, tokenizer.eos_token, ids[0]),
        )


__all__ = ["ResolvedRecipe", "base_models", "previous_stages", "resolve_recipe"]
