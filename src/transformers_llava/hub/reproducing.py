"""A publication to the same checkpoint, trained again: every stage of `recipe/`, in a folder of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

from transformers_llava.hub.recipe_folder import (
    BASES_FOLDER,
    DATA_FOLDER,
    OUTPUT_FOLDER,
    RECIPE_FOLDER,
    base_of,
    mixture_name,
    output_of,
    training_arguments,
    training_environment,
)
from transformers_llava.hub.stages import Stage, read_run, stages_of


_REPLAY_VARIABLE = "TRANSFORMERS_LLAVA_REPLAY"  # of `training.command`, which this room does not import


class ReproductionError(ValueError):
    """It can not be trained again: something that the recipe needs is not there, or a stage failed."""


def reproduce(
    folder: str | Path,
    output: str | Path,
    *,
    data_root: str | Path | None = None,
    bases: dict[str, str] | None = None,
    replay: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """
    Trains a publication again.

    Args:
        folder (`str`): The publication.
        output (`str`): Where to work; gets a copy of `recipe/` with `output/<stage>` in it.
        data_root (`str`, *optional*): Where data lie that the publication does not hold.
        bases (`dict`, *optional*): Role -> folder of a base model that it does not hold.
        replay (`bool`, *optional*): Only the rest of the last stage, from the `checkpoint-N` in `recipe/`. What was
            frozen is taken from the published weights.
        say (`Callable`, *optional*): Told what happens.

    Returns:
        `Path`: The folder of the new checkpoint.

    Raises:
        `ReproductionError`: with what is missing, or the stage that failed.
    """
    folder, output = Path(folder), Path(output)
    if output.exists() and any(output.iterdir()):
        raise ReproductionError(f"{str(output)!r} is not empty. Name a folder that may be filled.")
    stages = stages_of(read_run(folder))
    for difference in environment_differences(stages[-1]):
        say(f"other than then: {difference}; identical bits are not to be expected")
    work = output / RECIPE_FOLDER
    shutil.copytree(folder / RECIPE_FOLDER, work)
    _place_bases(work, bases or {})
    if data_root is not None:
        _point_at_data(work, stages, Path(data_root))
    arguments: list[str] = []
    if replay:
        arguments = ["--resume", str(_prepare_replay(folder, work, stages))]
        stages = stages[-1:]
    _check_parts(work, stages)
    for stage in stages:
        say(f"stage {stage.name}")
        _train(stage, work, arguments)
    return work / output_of(stages[-1])


def environment_differences(stage: Stage) -> Iterator[str]:
    """Packages with a part in the result whose version is another one here."""
    for name, was in stage.run["versions"].items():
        try:
            now = sys.version.split()[0] if name == "python" else version(name)
        except PackageNotFoundError:
            now = "missing"
        if now != was:
            yield f"{name} {now} (then {was})"


def _place_bases(work: Path, bases: dict[str, str]) -> None:
    for role, place in bases.items():
        target = work / BASES_FOLDER / role
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(Path(place).resolve(), target_is_directory=True)


def _point_at_data(work: Path, stages: list[Stage], data_root: Path) -> None:
    """Paths of what the publication does not hold start at the person's folder."""
    for stage in stages:
        file = work / mixture_name(stage)
        mixture = yaml.safe_load(file.read_text(encoding="utf-8"))
        for source in mixture["sources"]:
            for name in ("path", "image_root"):
                value = source.get(name)
                if value and "://" not in value and not (work / value).exists():
                    source[name] = str(data_root.resolve() / Path(value).relative_to(DATA_FOLDER))
        file.write_text(yaml.safe_dump(mixture, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _prepare_replay(folder: Path, work: Path, stages: list[Stage]) -> Path:
    states = sorted(work.glob("checkpoint-*"))
    if not states:
        raise ReproductionError(
            "the publication holds no checkpoint of the run, so there is nothing to replay from; without --replay it "
            "is trained from the beginning. `llava publish --replay_from` adds one."
        )
    if len(stages) > 1:  # the last stage starts from the one before: of that only what stayed frozen is needed
        before = work / output_of(stages[-2])
        before.mkdir(parents=True)
        for path in folder.iterdir():
            if path.is_file() and path.name not in ("run.json", "README.md", "manifest.json"):
                shutil.copyfile(path, before / path.name)
    target = work / output_of(stages[-1])
    target.mkdir(parents=True)
    return Path(shutil.move(states[-1], target)).resolve()


def _check_parts(work: Path, stages: list[Stage]) -> None:
    missing = []
    for stage in stages:
        mixture = yaml.safe_load((work / mixture_name(stage)).read_text(encoding="utf-8"))
        for source in mixture["sources"]:
            path = source["path"]
            if "://" not in path and not (work / path).exists():
                missing.append(f"the data of {source['name']!r} ({path}; --data_root)")
        for base in stage.run["base_models"]:
            is_output = base["role"] == "checkpoint" and stage.number > 1
            if base["origin"] == "folder" and not is_output and not (work / base_of(base)).exists():
                missing.append(f"the {base['role']} {base['name']!r} (--base {base['role']}=FOLDER)")
    if missing:
        raise ReproductionError(
            f"the publication does not hold {', '.join(dict.fromkeys(missing))}, so it can not be trained again. Name "
            "them as said in brackets."
        )


def _train(stage: Stage, work: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "transformers_llava.cli.main", *training_arguments(stage), *arguments]
    env = {**os.environ, **training_environment(stage), **({_REPLAY_VARIABLE: "1"} if arguments else {})}
    log = work / OUTPUT_FOLDER / f"{stage.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, cwd=work, env=env, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        last = " ".join(log.read_text(encoding="utf-8").strip().splitlines()[-3:])
        raise ReproductionError(
            f"stage {stage.name} ended with status {done.returncode}: {last}. All of it is in {log}."
        )


__all__ = ["ReproductionError", "environment_differences", "reproduce"]
