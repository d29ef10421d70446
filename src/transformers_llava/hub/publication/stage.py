"""Stage a finished checkpoint in the folder that will be published: weights, recipe, licenses, card, manifest."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transformers_llava.artifacts.card_facts import FACTS_NAME
from transformers_llava.artifacts.run_record.record_file import RUN_NAME, read_checked_record
from transformers_llava.conversion.conversion_report import REPORT_FILE
from transformers_llava.conversion.convert import convert_checkpoint
from transformers_llava.conversion.export import builtin_type
from transformers_llava.hub.licenses.texts import LICENSE_FOLDER, copy_license_texts
from transformers_llava.hub.publication.bundle import copy_own_parts
from transformers_llava.hub.publication.documents import statement_of, write_documents
from transformers_llava.hub.publication.manifest import Manifest, write_manifest
from transformers_llava.hub.publication.signing import sign
from transformers_llava.hub.recipe_folder import RECIPE_FOLDER, write_recipe_folder
from transformers_llava.hub.secrets.scan import Finding, scan_folder
from transformers_llava.modeling.configuration_open_llava import OpenLlavaConfig


Layout = Literal["builtin", "open_llava"]

# Written by the run and of use to others, in any layout.
_OF_THE_RUN = (
    *(RUN_NAME, "mixture.lock.json", "mixture.md", "evaluation.json", "metrics.jsonl", FACTS_NAME),
    *("adapter", ".eval_results"),
)
_OF_THE_MODEL = (
    *("config.json", "generation_config.json", "processor_config.json", "preprocessor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "chat_template.jinja"),
)
# training_args.bin is not read when a run is resumed, and names paths of this machine.
_NOT_OF_A_STATE = shutil.ignore_patterns("training_args.bin", ".*")
_REASONS = {
    "README.md": "the card is made anew",
    ".cache": "it names paths of this machine",
    REPORT_FILE: "it names paths of this machine",
}


@dataclass
class Publication:
    """
    A folder that is ready, and what is to be known before it leaves.

    Args:
        folder (`Path`): Where it lies.
        layout (`str`): builtin or open_llava.
        manifest (`Manifest`): What it consists of.
        notes (`list[str]`): What a user should read: why a layout was chosen, what the licenses come to.
        left_out (`dict`): Name -> reason, of what lies beside the weights and is not published.
        findings (`list[Finding]`): Secrets and private paths that must not leave.
    """

    folder: Path
    layout: Layout
    manifest: Manifest
    notes: list[str]
    left_out: dict[str, str]
    findings: list[Finding]


def stage_publication(
    checkpoint: str | Path,
    repo_id: str,
    folder: str | Path,
    *,
    layout: Layout | None = None,
    facts: str | Path | None = None,
    self_contained: bool = False,
    replay_from: str | Path | None = None,
    allow_incomplete: bool = False,
    key: str | Path | None = None,
) -> Publication:
    """
    Puts a publication together. The same checkpoint gives the same folder, so publishing twice changes nothing.

    Args:
        checkpoint (`str`): What `llava train` has saved.
        repo_id (`str`): `OWNER/NAME`, which the card's commands name.
        folder (`str`): Gets the publication; empty or absent.
        layout (`str`, *optional*): `builtin` (transformers' own `llava`, loads without this package) where the
            architecture fits, else `open_llava`.
        facts (`str`, *optional*): The `card.yaml` with what only a user can say; else that of the checkpoint.
        self_contained (`bool`, *optional*): Also holds the data and base models that are not on the Hub.
        replay_from (`str`, *optional*): A `checkpoint-N` of the run, from which anybody can replay the rest of it.
        allow_incomplete (`bool`, *optional*): Publishes a card with gaps; the manifest says which.
        key (`str`, *optional*): Signs the publication; see `hub.publication.signing`.

    Raises:
        `ValueError`: it cannot be published as it is; the message says why and what helps.
    """
    checkpoint, folder = Path(checkpoint), Path(folder)
    run = read_checked_record(checkpoint)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"{str(folder)!r} is not empty. Name a folder that may be filled.")
    for name, given in (("facts", facts), ("key", key)):
        if given is not None and not Path(given).is_file():
            raise ValueError(f"{name}: there is no file {str(given)!r}, so nothing was prepared. Correct the path.")
    state = None if replay_from is None else _state(Path(replay_from))
    notes: list[str] = []
    try:
        chosen = _choose_layout(checkpoint, layout, notes)
        left_out = _copy_model(checkpoint, folder, chosen)
        if facts is not None:
            shutil.copyfile(facts, folder / FACTS_NAME)
        if self_contained:
            copy_own_parts(run, checkpoint, folder, notes)
        if state is not None:
            shutil.copytree(state, folder / RECIPE_FOLDER / state.name, ignore=_NOT_OF_A_STATE)
            left_out.pop(state.name, None)
        write_recipe_folder(run, folder)
        notes += copy_license_texts(run, statement_of(folder, run).parts, checkpoint, folder)
        left_out.pop(LICENSE_FOLDER, None)
        incomplete = write_documents(folder, repo_id, run, allow_incomplete=allow_incomplete, notes=notes)
        manifest = write_manifest(folder, layout=chosen, repo_id=repo_id, incomplete=incomplete)
        if key is not None:
            sign(folder, Path(key))
        report = scan_folder(folder)
        notes += report.describe()
    except BaseException:  # also an interrupt
        shutil.rmtree(folder, ignore_errors=True)  # half a publication would stand in the way of the next try
        raise
    return Publication(folder, chosen, manifest, notes, left_out, report.findings)


def _state(folder: Path) -> Path:
    """A state of the middle of a run, from which it can be resumed."""
    folder = folder.resolve()
    if not re.fullmatch(r"checkpoint-\d+", folder.name) or not (folder / "trainer_state.json").is_file():
        raise ValueError(
            f"{str(folder)!r} is no state of a run: that is a folder checkpoint-N with a trainer_state.json. Nothing "
            "could be replayed from it. Name one that `llava train` has saved beside the checkpoint."
        )
    return folder


def _choose_layout(checkpoint: Path, layout: Layout | None, notes: list[str]) -> Layout:
    if layout == "open_llava":
        return layout
    try:
        config = OpenLlavaConfig.from_pretrained(checkpoint)
    except Exception as error:  # whatever stands in its config.json
        raise ValueError(
            f"the config.json of {str(checkpoint)!r} cannot be read as a model's ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:500]}), so nothing was prepared. Publish what `llava train` has saved."
        ) from error
    try:
        builtin_type(config)
    except ValueError as error:
        if layout == "builtin":
            raise
        notes.append(f"layout open_llava, which needs this package to load: {error}")
        return "open_llava"
    return "builtin"


def _copy_model(checkpoint: Path, folder: Path, layout: Layout) -> dict[str, str]:
    """Weights, configuration and processor in the layout, and what the run has written; what stays behind, and why."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {path.name for path in checkpoint.glob("*.safetensors")} | {"model.safetensors.index.json", *_OF_THE_MODEL}
    if layout == "builtin":
        folder.rmdir()
        convert_checkpoint(checkpoint, folder, to="builtin")
        (folder / REPORT_FILE).unlink()
    else:
        for name in sorted(names):
            if (checkpoint / name).is_file():
                shutil.copyfile(checkpoint / name, folder / name)
    for name in _OF_THE_RUN:
        if (checkpoint / name).is_dir():
            shutil.copytree(checkpoint / name, folder / name, ignore=shutil.ignore_patterns(".*"))
        elif (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, folder / name)
    left = [path.name for path in checkpoint.iterdir() if path.name not in names and path.name not in _OF_THE_RUN]
    return {name: _REASONS.get(name, "it is no part of a publication") for name in sorted(left)}


def describe_sizes(publication: Publication) -> list[tuple[str, int, str]]:
    """Path, bytes and digest of every file, as the plan prints them."""
    return [(name, facts["size"], facts["sha256"][:12]) for name, facts in publication.manifest.files.items()]


__all__ = ["Layout", "Publication", "describe_sizes", "stage_publication"]
