"""Check that the data and base models that are here are the recorded ones."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from transformers_llava.artifacts.digests.file_digests import is_commit, listing_digest, weights_digest
from transformers_llava.artifacts.run_record.base_model import BaseModel
from transformers_llava.artifacts.run_record.record_file import RUN_NAME
from transformers_llava.artifacts.run_record.run_stages import RunRecord, Stage
from transformers_llava.data.mixture.lock import check_lock, compare_locks, make_lock
from transformers_llava.data.mixture.mixture_building import build_mixture
from transformers_llava.hub.recipe_folder import RECIPE_FOLDER, base_of, mixture_of
from transformers_llava.hub.verification.checks.mixture_paths import DataPaths, locate_mixture
from transformers_llava.hub.verification.findings import Found, guarded
from transformers_llava.hub.verification.present_files import PresentFiles, list_present


def check_parts(
    folder: Path,
    run: RunRecord,
    data_root: str | Path | None,
    bases: dict[str, str],
    *,
    present: PresentFiles | None = None,
    allow_remote_data: bool = False,
    allow_dataset_folders: bool = False,
) -> Iterator[Found]:
    """
    Data and base models of every stage, as far as they are here.

    Without the two permissions nothing is requested, and nothing is opened but files of the publication, of
    `data_root` and of `bases`.
    """
    paths = DataPaths(
        folder / RECIPE_FOLDER,
        present or list_present(folder),
        None if data_root is None else Path(data_root),
        allow_remote_data,
        allow_dataset_folders,
    )
    for stage in run.stages:
        yield from guarded(f"data of {stage.name}", partial(_check_data, stage, paths))
        yield from guarded(f"base models of {stage.name}", partial(_check_bases, stage, run, paths, bases))


def _check_data(stage: Stage, paths: DataPaths) -> Iterator[Found]:
    name, recorded = f"data of {stage.name}", stage.mixture_lock
    if recorded is None:
        yield Found(name, "skipped", "a streamed run has no lock")
        return
    check_lock(recorded, f"the lock in {RUN_NAME}")
    # Level 1 has compared the mixture file with what the record gives, so it is not read again.
    mixture = mixture_of(stage, lambda path: paths.present.holds(f"{RECIPE_FOLDER}/{path}"))
    config, not_here = locate_mixture(mixture, paths)
    if not_here:
        yield Found(name, "skipped", "; ".join(not_here))
        return
    if config.token_budgets:
        yield Found(name, "skipped", "it is drawn by tokens: use `llava data verify --model`")
        return
    _, report = build_mixture(config, recheck_images=True)
    differences = compare_locks(recorded, make_lock(config, report))
    if differences:
        yield Found(name, "failed", "; ".join(differences))
        return
    partly = [source.name for source in report.sources if source.digest_covers != "messages and image bytes"]
    note = f"; of {', '.join(partly)} the images were not looked at (`verify_images`)" if partly else ""
    yield Found(name, "ok", f"{report.num_used:,} examples in the recorded order ({report.order_digest[:19]}){note}")


def _check_bases(stage: Stage, run: RunRecord, paths: DataPaths, bases: dict[str, str]) -> Iterator[Found]:
    for base in stage.base_models:
        if stage.is_previous_output(base):
            yield _check_chain(stage, base, run.before(stage))
        else:
            yield _check_base(stage, base, paths, bases)


def _check_base(stage: Stage, base: BaseModel, paths: DataPaths, bases: dict[str, str]) -> Found:
    role, name = base.role, f"{base.role} of {stage.name}"
    given = bases.get(role)
    digest = held = None
    if given is not None:
        held = Path(given)
    elif base.origin == "folder":
        inside = base_of(base)
        held = paths.recipe / inside if f"{RECIPE_FOLDER}/{inside}" in paths.present.folders else None
    else:
        held = _in_cache(base)
    digest = weights_digest(held) if held is not None else None
    if held is None or (digest is None and given is None):
        return Found(name, "skipped", f"the weights of {base.name} are not here; name them with --base {role}=FOLDER")
    if digest is None:
        return Found(name, "failed", f"{str(given)!r} holds no weights")
    if digest != base.digest:
        return Found(
            name,
            "failed",
            f"these are not the weights of {base.name} (sha256 {digest[:12]}, recorded {str(base.digest)[:12]})",
        )
    return Found(name, "ok", f"{base.name}, weights {digest[:12]}")


def _check_chain(stage: Stage, base: BaseModel, before: Stage) -> Found:
    """A later stage started from what the one before has written."""
    name = f"checkpoint of {stage.name}"
    if not before.weights or listing_digest(before.weights) != base.digest:
        return Found(name, "failed", f"it started from other weights than {before.name} has written")
    return Found(name, "ok", f"what {before.name} has written")


def _in_cache(base: BaseModel) -> Path | None:
    """A Hub repository at its recorded commit, if it is in the cache; nothing is fetched for a check."""
    if base.revision is None or not is_commit(base.revision):
        return None
    try:
        return Path(snapshot_download(base.name, revision=base.revision, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None


__all__ = ["check_parts"]
