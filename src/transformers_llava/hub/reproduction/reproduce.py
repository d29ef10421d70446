"""Train a publication again: every stage of its recipe, in a folder of its own that holds nothing else."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.children import python_command, with_installed_code_only
from transformers_llava.artifacts.environment_variables import REPLAY_VARIABLE
from transformers_llava.artifacts.run_record.mixture_sources import is_address
from transformers_llava.artifacts.run_record.record_file import read_checked_record
from transformers_llava.artifacts.run_record.recorded import RunRecordError
from transformers_llava.artifacts.run_record.run_stages import RunRecord, Stage
from transformers_llava.hub.recipe_folder import (
    OUTPUT_FOLDER,
    RECIPE_FOLDER,
    output_of,
    sorted_settings,
    stage_command,
)
from transformers_llava.hub.reproduction.plain_files import UnsafeFileError, check_plain
from transformers_llava.hub.reproduction.work_folder import ReproductionError, WorkFolder, fetch_base
from transformers_llava.hub.verification.verification_report import VerificationReport
from transformers_llava.hub.verification.verify import verify


_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "WANDB_API_KEY")
# What the children need nothing of: whatever a library would do on its own, it does not reach the network.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
# A permission to fetch data is none to fetch code or to report: these hold with every flag.
_QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "WANDB_MODE": "disabled", "USE_HUB_KERNELS": "0"}


@dataclass(frozen=True)
class Reproduction:
    """A new checkpoint, and the record of the publication that it was trained from: `verify` takes both."""

    checkpoint: Path
    run: RunRecord


def reproduce(
    folder: str | Path,
    output: str | Path,
    *,
    expected: Any = None,
    data_root: str | Path | None = None,
    bases: dict[str, str] | None = None,
    replay: bool = False,
    allow_remote_data: bool = False,
    allow_base_download: bool = False,
    allow_dataset_folders: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Reproduction:
    """
    Trains a publication again.

    A publication is data that somebody else wrote. Of its record the settings in `hub.reproduction.settings` are
    obeyed, of its files those that the record names are copied; nothing of it is run, and nothing is asked of the
    network unless a flag allows it.

    Args:
        folder (`str`): The publication.
        output (`str`): Where to work; gets `recipe/` with `output/<stage>` in it.
        expected (`str`, *optional*): The digest or tag that the manifest must have; see `verify`.
        data_root (`str`, *optional*): Where data lie that the publication does not hold.
        bases (`dict`, *optional*): Role -> folder of a base model.
        replay (`bool`, *optional*): Only the rest of the last stage, from the `checkpoint-N` in `recipe/`. What was
            frozen is taken from the published weights.
        allow_remote_data (`bool`, *optional*): Sources on the Hub (`hf://`) and images at http addresses are fetched.
        allow_base_download (`bool`, *optional*): Base models that are named by their id on the Hub are fetched.
        allow_dataset_folders (`bool`, *optional*): Lets `datasets` read folders of the publication, whose own files
            name what else it opens.
        say (`Callable`, *optional*): Told what happens, and what is not obeyed.

    Returns:
        `Reproduction`: The folder of the new checkpoint, and the record that was read.

    Raises:
        `ReproductionError`: with what is missing, not safe, or not as published; or the stage that failed.
    """
    folder, output = Path(folder), Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ReproductionError(f"{str(output)!r} is not empty. Name a folder that may be filled.")
    try:
        run = _read(folder)
        work = WorkFolder(
            folder,
            output / RECIPE_FOLDER,
            run,
            bases=bases or {},
            data_root=None if data_root is None else Path(data_root),
            say=say,
        )
        _check_settings(work.stages, say)
        _check_remote_data(work.stages, allow_remote_data)
        _check_dataset_folders(work, allow_dataset_folders)
        report = verify(
            folder,
            expected=expected,
            data_root=data_root,
            bases=bases or {},
            allow_remote_data=allow_remote_data,
            allow_dataset_folders=allow_dataset_folders,
            run=run,
        )
        _check_verified(report)
        for difference in environment_differences(work.run.own):
            say(f"other than then: {difference}; identical bits are not to be expected")
        stages = work.stages[-1:] if replay else work.stages
        if missing := work.missing_parts(stages):
            raise ReproductionError(
                f"the publication does not hold {', '.join(missing)}, so it cannot be trained again. Name them as "
                "said in brackets."
            )
        for stage in stages:
            for base in stage.own_bases:
                if base.origin == "hub":
                    fetch_base(base, allow_download=allow_base_download, say=say)
        work.prepare(stages, replay=replay)
        arguments = ["--resume", str(work.state)] if replay else []
        work.write()
    except (UnsafeFileError, RunRecordError) as error:
        raise ReproductionError(str(error)) from error
    for stage in stages:
        say(f"stage {stage.name}")
        _train(stage, work.folder, arguments, is_online=allow_remote_data)
    return Reproduction(work.folder / output_of(stages[-1]), run)


def environment_differences(stage: Stage) -> Iterator[str]:
    """Packages with a part in the result whose version is another one here."""
    for name, was in stage.versions.items():
        try:
            now = sys.version.split()[0] if name == "python" else version(name)
        except PackageNotFoundError:
            now = "missing"
        if now != was:
            yield f"{name} {now} (then {was})"


def _read(folder: Path) -> RunRecord:
    """The record of a publication whose files are plain ones."""
    if not folder.is_dir():
        raise ReproductionError(f"{str(folder)!r} is no folder.")
    check_plain(folder)
    run = read_checked_record(folder)
    if not (folder / RECIPE_FOLDER).is_dir():
        raise ReproductionError(
            f"{folder.name!r} has no {RECIPE_FOLDER}/: it is a checkpoint, and no publication of one. `llava publish "
            "CHECKPOINT OWNER/NAME --output FOLDER` makes FOLDER a publication, without sending anything."
        )
    return run


def _check_settings(stages: Sequence[Stage], say: Callable[[str], None]) -> None:
    for stage in stages:
        settings = sorted_settings(stage)
        if settings.refused:
            words = "; ".join(f"{name} {why}" for name, why in settings.refused.items())
            raise ReproductionError(
                f"stage {stage.name} was trained with settings that are not obeyed here, and the weights would be "
                f"others without them: {words}. Nothing is trained."
            )
        for name, why in settings.left_out.items():
            say(f"stage {stage.name}: not obeyed: {name} {why}")


def _check_remote_data(stages: Sequence[Stage], is_allowed: bool) -> None:
    if is_allowed:
        return
    for stage in stages:
        for source in stage.sources:
            places = [path for path in source.paths.values() if is_address(path)]
            if source.remote_images == "fetch":
                places.append("the addresses in its records (`remote_images: fetch`)")
            if places:
                raise ReproductionError(
                    f"source {source.name!r} of stage {stage.name} lies elsewhere: {', '.join(places)}. Nothing is "
                    "asked of the network without your word: add --allow_remote_data."
                )


def _check_dataset_folders(work: WorkFolder, is_allowed: bool) -> None:
    for stage in [] if is_allowed else work.stages:
        for source in work.mixture(stage).sources:  # with the paths that the training will open
            if work.is_held_folder(source.path):
                raise ReproductionError(
                    f"source {source.name!r} of stage {stage.name} is a folder, and `datasets` opens whatever the "
                    "files in it name. Look into it, then add --allow_dataset_folders."
                )


def _check_verified(report: VerificationReport) -> None:
    """Nothing is trained of a publication that is not what it says it is."""
    if report.failed or report.status("L0") != "ok" or report.status("L1") != "ok":
        found = "; ".join(f"{check.level} {check.name}: {check.message}" for check in report.failed[:5])
        more = f" and {len(report.failed) - 5} more" if len(report.failed) > 5 else ""
        raise ReproductionError(
            f"the publication does not verify, so it is not trained again: {found or 'nothing was checked'}{more}. "
            "`llava verify` says all of it."
        )


def _environment(variables: dict[str, str], *, is_online: bool) -> dict[str, str]:
    """Of a child: no code but the installed one, and nothing of the network that was not allowed."""
    own = {name: value for name, value in os.environ.items() if is_online or name not in _TOKENS}
    return with_installed_code_only(own) | variables | _QUIET | ({} if is_online else _OFFLINE)


def _train(stage: Stage, work: Path, arguments: list[str], *, is_online: bool) -> None:
    variables, words = stage_command(stage)
    command = [*python_command("transformers_llava.cli.main"), *words, *arguments]
    env = _environment(variables, is_online=is_online)
    if arguments:
        env[REPLAY_VARIABLE] = "1"
    log = work / OUTPUT_FOLDER / f"{stage.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            command, cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode != 0:
        last = " ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:])
        raise ReproductionError(
            f"stage {stage.name} ended with status {done.returncode}: {last}. All of it is in {log}."
        )


__all__ = ["Reproduction", "ReproductionError", "environment_differences", "reproduce"]
