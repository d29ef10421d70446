"""Make the folder that a reproduction works in: recipe files written anew from the checked record, parts by name."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from transformers_llava.artifacts.digests.file_digests import weights_digest
from transformers_llava.artifacts.run_record.base_model import ROLES, BaseModel
from transformers_llava.artifacts.run_record.mixture_sources import Mixture, is_address
from transformers_llava.artifacts.run_record.record_file import read_checked_record
from transformers_llava.artifacts.run_record.run_stages import RunRecord, Stage
from transformers_llava.artifacts.snapshots import local_folder
from transformers_llava.hub.recipe_folder import (
    BASES_FOLDER,
    DATA_FOLDER,
    OUTPUT_FOLDER,
    RECIPE_FOLDER,
    base_of,
    mixture_name,
    mixture_of,
    mixture_text,
    output_of,
    recipe_texts,
)
from transformers_llava.hub.reproduction.plain_files import (
    checkpoint_files,
    data_files,
    latest_checkpoint,
    model_files,
)


class ReproductionError(ValueError):
    """It cannot be trained again: something that the recipe needs is not there or not safe, or a stage failed."""


class WorkFolder:
    """
    What children train in. Contract: nothing lies in it but the files that are named here, and they are plain.

    Args:
        publication (`Path`): A folder that `check_plain` has walked.
        folder (`Path`): Is made; `recipe/` of the output.
        run (`RunRecord`): The checked record.
        bases (`dict[str, str]`): Role -> folder of the user's own.
        data_root (`Path`, *optional*): The user's own folder of data.
        say (`Callable`): Told what is left behind.
    """

    def __init__(
        self,
        publication: Path,
        folder: Path,
        run: RunRecord,
        *,
        bases: dict[str, str],
        data_root: Path | None,
        say: Callable[[str], None],
    ) -> None:
        unknown = sorted(set(bases) - set(ROLES))
        if unknown:
            raise ReproductionError(f"--base {unknown[0]}=... names no role. Roles are {', '.join(ROLES)}.")
        self.publication, self.source, self.folder = publication, publication / RECIPE_FOLDER, folder
        self.bases = {role: Path(place).resolve() for role, place in bases.items()}
        self.data_root, self.say = data_root, say
        self.run = replace(run, stages=tuple(self._with_own_bases(stage) for stage in run.stages))
        self._copies: dict[str, Path] = {}  # path in the work folder -> file of the publication
        self._texts: dict[str, str] = {}
        self._state: str | None = None

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Of the record, with the user's own base models as folders."""
        return self.run.stages

    def _with_own_bases(self, stage: Stage) -> Stage:
        """A base model that the user has named is a folder, also where the record has an address on the Hub."""
        given = [one for one in stage.own_bases if one.role in self.bases]
        bases = [replace(one, origin="folder") if one in given else one for one in stage.base_models]
        return replace(stage, base_models=tuple(bases))

    def is_held(self, path: str) -> bool:
        """Whether the publication holds a path below `recipe/`."""
        return self._below(path).exists()

    def is_held_folder(self, path: str) -> bool:
        """Whether a place of a mixture is a folder in the publication; the user's own, and addresses, are not."""
        return not is_address(path) and not Path(path).is_absolute() and self._below(path).is_dir()

    def _below(self, path: str) -> Path:
        """Paths come from the checked record and links were looked at before; this holds whoever calls it."""
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ReproductionError(f"{path!r} leads out of the publication. It is not opened.")
        return self.source / path

    def mixture(self, stage: Stage) -> Mixture:
        """A stage's mixture; what the publication does not hold starts at the user's folder."""
        mixture = mixture_of(stage, self.is_held)
        return replace(mixture, sources=tuple(one.with_paths(self._at_data_root) for one in mixture.sources))

    def _at_data_root(self, path: str) -> str:
        if self.data_root is None or is_address(path) or self.is_held(path):
            return path
        return str(self.data_root.resolve() / Path(path).relative_to(DATA_FOLDER))

    def missing_parts(self, stages: Sequence[Stage]) -> list[str]:
        """Data and base models that are neither in the publication nor named by the user."""
        missing = []
        for stage in stages:
            for source in self.mixture(stage).sources:
                if not is_address(source.path) and not self.is_held_or_own(source.path):
                    missing.append(f"the data of {source.name!r} ({source.path}; --data_root)")
            for base in stage.own_bases:
                is_here = base.role in self.bases or self.is_held(base_of(base))
                if base.origin == "folder" and not is_here:
                    missing.append(f"the {base.role} {base.name!r} (--base {base.role}=FOLDER)")
        return list(dict.fromkeys(missing))

    def is_held_or_own(self, path: str) -> bool:
        """Whether a place of a mixture is there: in the publication, or below the user's own folder."""
        return Path(path).exists() if Path(path).is_absolute() else self.is_held(path)

    def prepare(self, stages: Sequence[Stage], *, replay: bool) -> None:
        """
        Decides what is copied, and looks into what has to be looked into; nothing is written yet.

        Raises:
            `UnsafeFileError`, `RunRecordError`: a file is not what a reproduction may touch, or a state has no record.
        """
        self._texts = recipe_texts(self.run, self.is_held)
        for stage in stages:
            mixture = self.mixture(stage)
            self._texts[mixture_name(stage)] = mixture_text(stage, mixture, self.is_held_or_own)
            for source in mixture.sources:
                for name, path in source.paths.items():
                    if not is_address(path) and not Path(path).is_absolute() and self.is_held(path):
                        self._take_data(path, is_root=name == "image_root")
            for base in stage.own_bases:
                if base.origin == "folder" and base.role not in self.bases:
                    place = base_of(base)
                    self._take(model_files(self._below(place)), place)
                    self._say_left_behind(place)
        if replay:
            self._take_state()

    def write(self) -> None:
        """Writes the recipe's files and copies the parts."""
        self.folder.mkdir(parents=True)
        for name, text in self._texts.items():
            (self.folder / name).write_text(text, encoding="utf-8")
        for target, source in self._copies.items():
            (self.folder / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, self.folder / target)
        for role, place in self.bases.items():
            link = self.folder / BASES_FOLDER / role
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(place, target_is_directory=True)

    @property
    def state(self) -> Path:
        """The `checkpoint-N` that a replay resumes from."""
        if self._state is None:
            raise ReproductionError(
                "the publication holds no checkpoint of the run, so there is nothing to replay from; without --replay "
                "it is trained from the beginning. `llava publish --replay_from` adds one."
            )
        return (self.folder / self._state).resolve()

    def _take_state(self) -> None:
        """The published state in the place of the last stage's output; before it, what stayed frozen."""
        state = latest_checkpoint(self.source)
        if state is not None:
            read_checked_record(state)  # raises for a record that is none: the training compares with it
            self._state = f"{output_of(self.stages[-1])}/{state.name}"
            self._take(checkpoint_files(state), self._state)
            if len(self.stages) > 1:
                self._take(model_files(self.publication), output_of(self.stages[-2]))

    def _take_data(self, place: str, *, is_root: bool) -> None:
        source = self._below(place)
        for path in data_files(source, may_be_archive=is_root):
            inside = path.relative_to(source).as_posix()
            self._copies[place if inside == "." else f"{place}/{inside}"] = path
        self._say_left_behind(place)

    def _take(self, files: list[Path], place: str) -> None:
        self._copies |= {f"{place}/{path.name}": path for path in files}

    def _say_left_behind(self, place: str) -> None:
        there = self._below(place)
        names = [path.relative_to(self.source).as_posix() for path in sorted(there.rglob("*")) if path.is_file()]
        left = [name for name in names if name not in self._copies]
        if left:
            self.say(f"left behind, as nothing of it is read: {', '.join(left[:3])} ({len(left)} files)")


def fetch_base(base: BaseModel, *, allow_download: bool, say: Callable[[str], None]) -> None:
    """
    Sees to it that a base model with an address on the Hub is in the cache, with the recorded weights.

    Raises:
        `ReproductionError`: it is not there and may not be fetched, or has other weights.
    """
    name, revision = base.name, base.revision
    what = f"the {base.role} {name} at {revision or 'its newest commit (none is recorded)'}"
    if Path(name).is_dir() or name.partition("/")[0] in (BASES_FOLDER, DATA_FOLDER, OUTPUT_FOLDER):
        raise ReproductionError(
            f"the {base.role} {name!r} is to be a repository of the Hub, but is also the name of a folder, which "
            f"would be read instead. Start elsewhere, or name a folder with --base {base.role}=FOLDER."
        )
    if allow_download:
        say(f"{what}: fetched from the Hub, unless it is in the cache")
    folder = local_folder(name, revision, with_weights=True) if allow_download else cached_folder(name, revision)
    digest = None if folder is None else weights_digest(folder)
    if digest is None:
        why = "could not be fetched from the Hub" if allow_download else "is not in the cache of this machine"
        raise ReproductionError(
            f"{what} {why}. Add --allow_base_download to fetch it from the Hub, or name a folder with "
            f"--base {base.role}=FOLDER."
        )
    if base.digest is not None and digest != base.digest:
        raise ReproductionError(
            f"{what} has other weights (sha256 {digest[:12]}) than the recorded ones ({base.digest[:12]}). Nothing "
            "is trained from them."
        )


def cached_folder(name: str, revision: str | None) -> Path | None:
    """A repository in the Hub's cache, without a request."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None


__all__ = ["ReproductionError", "WorkFolder", "cached_folder", "fetch_base"]
