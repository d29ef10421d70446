"""Put data and base models that have no address on the Hub into a publication, so that it is enough to train again."""

import shutil
import tempfile
from fnmatch import fnmatch
from pathlib import Path

from transformers_llava.artifacts.digests.file_digests import weights_digest
from transformers_llava.artifacts.local_paths import LOCAL_PATHS_NAME, read_local_paths
from transformers_llava.artifacts.run_record.base_model import BaseModel
from transformers_llava.artifacts.run_record.run_stages import RunRecord
from transformers_llava.artifacts.untrusted import checked_name
from transformers_llava.hub.publication.bundled_data import MissingPartError, OwnData
from transformers_llava.hub.recipe_folder import RECIPE_FOLDER, base_of


# What a model consists of. A folder of weights may hold anything else too: states of an optimizer, `.env`, notes.
_OF_A_MODEL = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json"),
    *("preprocessor_config.json", "processor_config.json", "image_processor_config.json", "chat_template.*"),
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model"),
    *("LICENSE*", "LICENCE*", "NOTICE*"),
)
_OLD_WEIGHTS = ("*.bin", "pytorch_model.bin.index.json")  # without safetensors: the digest is of every .bin


def copy_own_parts(run: RunRecord, checkpoint: Path, folder: Path, notes: list[str] | None = None) -> list[Path]:
    """
    Copies into `recipe/` what others could not get elsewhere, so that the publication is enough to train again.

    Data files go there as they are; the images that their records name, and no others, into one archive without
    compression and without times, so that the same images give the same file.

    Args:
        run (`RunRecord`): The run record.
        checkpoint (`Path`): With its note of local paths.
        folder (`Path`): The publication; nothing is written outside of it.
        notes (`list[str]`, *optional*): Gets a line for each source and base model, with counts and sizes.

    Raises:
        `MissingPartError`: something is not where it was, is not what it was, or has no place in a publication.
    """
    paths, stages = read_local_paths(checkpoint), run.stages
    if len(paths) != len(stages):
        raise MissingPartError(
            f"{checkpoint.name!r} notes the paths of {len(paths)} of its {len(stages)} stages ({LOCAL_PATHS_NAME}), "
            "so data and base models cannot be found. Publish where it was trained, or without --self_contained."
        )
    notes = [] if notes is None else notes
    copied: list[Path] = []
    with tempfile.TemporaryDirectory(prefix="own_parts") as scratch:
        data = OwnData(folder / RECIPE_FOLDER, Path(scratch))
        for stage, here in zip(stages, paths, strict=True):
            for source in stage.sources:
                data.add(stage.name, source, here.sources.get(source.name, {}))
        copied += data.write()
        notes += data.describe()
    for stage, here in zip(stages, paths, strict=True):
        for base in stage.own_bases:
            if base.origin == "folder":
                copied += _copy_base(base, here.base_models.get(base.role), folder / RECIPE_FOLDER, notes)
    return copied


def _copy_base(base: BaseModel, here: str | None, target: Path, notes: list[str]) -> list[Path]:
    role = checked_name(base.role, "the role of a base model")
    if here is None:
        raise MissingPartError(
            f"it is not noted where the {role} lies on this machine. Publish without --self_contained."
        )
    digest = weights_digest(here)
    if digest is None:
        raise MissingPartError(f"the {role} is not at {here!r} any more. Put it back, or leave out --self_contained.")
    if digest != base.digest:
        raise MissingPartError(
            f"the {role} at {here!r} has other weights (sha256 {digest[:12]}) than the run started from "
            f"({str(base.digest)[:12]}). Put those back, or leave out --self_contained."
        )
    held = target / base_of(base)
    if held.exists():
        if weights_digest(held) == digest:
            return []  # of an earlier stage
        raise MissingPartError(
            f"two stages started from different models as their {role}, and a publication has one place for it. Put "
            "one of them on the Hub, or leave out --self_contained."
        )
    files, copied = [path for path in sorted(Path(here).glob("*")) if path.is_file()], []
    wanted = _OF_A_MODEL if any(path.suffix == ".safetensors" for path in files) else (*_OF_A_MODEL, *_OLD_WEIGHTS)
    left = [path.name for path in files if not any(fnmatch(path.name, pattern) for pattern in wanted)]
    for path in files:
        if path.name not in left:
            held.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, held / path.name)
            copied.append(held / path.name)
    if copied:
        size = sum(path.stat().st_size for path in copied)
        stays = f"; stays here: {', '.join(left)}" if left else ""
        notes.append(f"own {role}: {len(copied)} files, {size:,} bytes; from {here}{stays}")
    return copied


__all__ = ["MissingPartError", "copy_own_parts"]
