"""Write a run record as `recipe/`: settings, mixture, lock and command of each stage, which run again from there."""

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from transformers_llava.artifacts.run_record.base_model import ROLE_FIELDS, BaseModel
from transformers_llava.artifacts.run_record.field_checks import shown
from transformers_llava.artifacts.run_record.mixture_sources import Mixture, MixtureSource, is_address
from transformers_llava.artifacts.run_record.run_stages import RunRecord, Stage
from transformers_llava.hub.reproduction.settings import Settings, settings_of
from transformers_llava.packaged import list_packaged


RECIPE_FOLDER = "recipe"
DATA_FOLDER, BASES_FOLDER, OUTPUT_FOLDER = "data", "bases", "output"
LOCK_SUFFIX = ".mixture.lock.json"


def recipe_texts(run: RunRecord, is_held: Callable[[str], bool]) -> dict[str, str]:
    """
    The text of every file of `recipe/`, by name; the same record always gives the same texts.

    Args:
        run (`RunRecord`): With the stages before.
        is_held (`Callable[[str], bool]`): Whether the publication itself holds a path below `recipe/`.
    """
    texts = {}
    for stage in run.stages:
        texts[f"{stage.name}.yaml"] = _recipe(stage, run)
        texts[mixture_name(stage)] = mixture_text(stage, mixture_of(stage, is_held), is_held)
        if stage.chat_template is not None:
            texts[f"{stage.name}.jinja"] = stage.chat_template
        if stage.mixture_lock:
            texts[stage.name + LOCK_SUFFIX] = json.dumps(stage.mixture_lock, indent=2, ensure_ascii=False) + "\n"
    texts["environment.txt"] = _environment(run.own)
    texts["commands.sh"] = _commands(run)
    return texts


def write_recipe_folder(run: RunRecord, folder: Path) -> list[Path]:
    """Writes `recipe/` into a publication, after the data and base models that it is to hold itself."""
    target = folder / RECIPE_FOLDER
    target.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in recipe_texts(run, lambda path: (target / path).exists()).items():
        (target / name).write_text(text, encoding="utf-8")
        paths.append(target / name)
    return paths


def mixture_name(stage: Stage) -> str:
    """The file of a stage's mixture."""
    return f"{stage.name}.mixture.yaml"


def output_of(stage: Stage) -> str:
    """Where a stage's result goes when it runs again."""
    return f"{OUTPUT_FOLDER}/{stage.name}"


def base_of(base: BaseModel) -> str:
    """Where a base model without an address on the Hub lies, or has to be put."""
    return f"{BASES_FOLDER}/{base.role}"


def image_archive(source: MixtureSource) -> str:
    """Where the images of a source lie in a publication that holds them."""
    return f"{DATA_FOLDER}/{source.image_root or source.name + '/images'}.zip"


def stage_command(stage: Stage) -> tuple[dict[str, str], list[str]]:
    """
    What trains one stage from inside `recipe/`: variables of the environment, and the words after `llava`.

    `commands.sh` and `llava reproduce` are both made of it, so they run the same.
    """
    return training_environment(stage), training_arguments(stage)


def training_arguments(stage: Stage) -> list[str]:
    """`llava train` for one stage, from inside `recipe/`, without the program's name."""
    command = ["train", "--config", f"{stage.name}.yaml", *_backend(stage)]
    return [*command, "--output_dir", output_of(stage)]


def training_environment(stage: Stage) -> dict[str, str]:
    """On a CPU sums depend on the number of threads in their last bits, so it is part of the command."""
    threads = stage.hardware.cpu_threads if stage.hardware.device == "cpu" else None
    return {} if threads is None else {"OMP_NUM_THREADS": str(int(threads))}


def sorted_settings(stage: Stage) -> Settings:
    """The settings of a stage: those that are obeyed when it runs again, and the others with reasons."""
    has_template = stage.chat_template is not None
    settings = settings_of(stage.configuration, set(stage.recipe), has_template=has_template)
    typed = _typed_accelerate_config(stage)
    if typed is not None and typed not in list_packaged("accelerate_config"):
        settings.left_out["accelerate_config"] = (
            f"{shown(typed)}: a file of the trainer's own; what fits the machine is used"
        )
    return settings


def _backend(stage: Stage) -> list[str]:
    """The packaged accelerate configuration that was typed, and as many processes as there were."""
    typed, options = _typed_accelerate_config(stage), []
    if typed in list_packaged("accelerate_config"):
        options = ["--accelerate_config", str(typed)]
    elif stage.hardware.device == "cpu":
        options = ["--accelerate_config", "cpu"]
    world_size = int(stage.hardware.world_size)
    return options if world_size == 1 else [*options, "--num_processes", str(world_size)]


def _typed_accelerate_config(stage: Stage) -> str | None:
    flag, words = "--accelerate_config", shlex.split(stage.command or "")
    for word, after in zip(words, [*words[1:], None]):
        if word == flag:
            return after
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return None


def _recipe(stage: Stage, run: RunRecord) -> str:
    """What was written first, then what was in force without having been written."""
    settings = sorted_settings(stage)
    kept = settings.kept
    for base in stage.base_models:
        name_field, revision_field = ROLE_FIELDS[base.role]
        if stage.is_previous_output(base):
            kept[name_field] = output_of(run.before(stage))
        elif base.origin == "hub":
            kept[name_field] = base.name
            if base.revision:
                kept[revision_field] = base.revision
        else:
            kept[name_field] = base_of(base)
    if stage.chat_template is not None:
        kept["chat_template"] = f"{stage.name}.jinja"
    kept["train_data"] = mixture_name(stage)
    written = {name: value for name, value in kept.items() if name in {*stage.recipe, *_always_written()}}
    defaults = {name: value for name, value in kept.items() if name not in written}
    left_out = _comment([f"Left out: {name} {why}" for name, why in {**settings.left_out, **settings.refused}.items()])
    return (
        f"# Stage {stage.number}, as it ran: `sh commands.sh` in this folder runs it again.\n{left_out}\n"
        f"{_yaml(written)}\n# Not written then, but in force: the defaults of that day.\n\n{_yaml(defaults)}"
    )


def _always_written() -> set[str]:
    return {"stage", "seed", "train_data", *(name for fields in ROLE_FIELDS.values() for name in fields)}


def mixture_of(stage: Stage, is_held: Callable[[str], bool]) -> Mixture:
    """A stage's mixture with paths that start in `recipe/`."""
    return replace(stage.mixture or Mixture(), sources=tuple(_in_recipe(one, is_held) for one in stage.sources))


def _in_recipe(source: MixtureSource, is_held: Callable[[str], bool]) -> MixtureSource:
    archive = image_archive(source)
    source = source.with_paths(lambda path: path if is_address(path) else f"{DATA_FOLDER}/{path}")
    if is_held(archive):
        return replace(source, image_root=archive)
    if not is_address(source.path) and is_held(source.path) and not is_held(source.image_root or "."):
        return replace(source, image_root=None)  # a source without an image
    return source


def mixture_text(stage: Stage, mixture: Mixture, is_held: Callable[[str], bool]) -> str:
    """The file of a stage's mixture, which says at its top what somebody has to put there."""
    missing = [one.path for one in mixture.sources if not is_address(one.path) and not is_held(one.path)]
    note = ""
    if missing:
        note = (
            "# Not in this publication: put these there, or name another place with `llava reproduce --data_root`.\n"
            + _comment([f"  {path}" for path in missing])
        )
    return f"# What stage {stage.number} learnt from. Paths start in this folder.\n{note}\n{_yaml(mixture.to_dict())}"


def _environment(stage: Stage) -> str:
    python = stage.versions.get("python", "unknown")
    packages = stage.environment.items()
    lines = [f"{name}=={version}" if version else f"# {name}, of no version" for name, version in packages]
    return (
        "\n".join([f"# Python {python}; every package that was installed when stage {stage.number} ran", *lines])
        + "\n"
    )


def _commands(run: RunRecord) -> str:
    text = '#!/bin/sh\n# Runs every stage again, from this folder.\nset -e\ncd "$(dirname "$0")"\n'
    for stage in run.stages:
        for base in stage.own_bases:
            if base.origin == "folder":
                text += _comment([f"{base_of(base)}: {base.name}, weights sha256 {base.digest}"])
        if stage.command:
            text += _comment([f"then: {stage.command}"])
        variables, arguments = stage_command(stage)
        text += "".join(f"{name}={shlex.quote(value)} " for name, value in variables.items())
        text += shlex.join(["llava", *arguments]) + "\n"
    return text


def _comment(texts: list[str]) -> str:
    """Lines that no shell and no YAML reader obeys, however many lines a text has."""
    return "".join(f"# {line}".rstrip() + "\n" for text in texts for line in text.splitlines())


def _yaml(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110) if values else ""


__all__ = [
    "BASES_FOLDER",
    "DATA_FOLDER",
    "LOCK_SUFFIX",
    "OUTPUT_FOLDER",
    "RECIPE_FOLDER",
    "base_of",
    "image_archive",
    "mixture_name",
    "mixture_of",
    "mixture_text",
    "output_of",
    "recipe_texts",
    "sorted_settings",
    "stage_command",
    "training_arguments",
    "training_environment",
    "write_recipe_folder",
]
