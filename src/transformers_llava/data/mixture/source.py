"""Load a SourceConfig as a memory-mapped Dataset of Examples, and report every record that is not in it."""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset

from transformers_llava.data.cache import default_cache_dir, only_one
from transformers_llava.data.images.archives import check_archive, is_archive
from transformers_llava.data.images.download import fetch_image_root
from transformers_llava.data.mixture.config import RowOrder, SourceConfig
from transformers_llava.data.mixture.image_verification import (
    ImageVerdict,
    VerificationLevel,
    verify_images,
)
from transformers_llava.data.mixture.published_parts import count_by_folder
from transformers_llava.data.mixture.subsampling import draw_rows
from transformers_llava.data.records.readers import HUB_SCHEME
from transformers_llava.data.records.record_formats import RecordRules
from transformers_llava.data.records.record_store import ParsedSource, ParseRequest, parse_source
from transformers_llava.data.reports import SourceReport


logger = logging.getLogger(__name__)


@dataclass
class LoadedSource:
    """A source and the digests by which a mixture proves itself."""

    dataset: Dataset
    report: SourceReport
    row_digests: np.ndarray  # (num_rows, 32) content of each row, in the order of the data set


def load_source(
    config: SourceConfig, *, strict: bool = False, num_proc: int | None = None, cache_dir: str | Path | None = None
) -> tuple[Dataset, SourceReport]:
    """
    Read, check and store one source.

    Args:
        config (`SourceConfig`):
            What to read.
        strict (`bool`, *optional*, defaults to `False`):
            Stop at the first bad record instead of counting it.
        num_proc (`int`, *optional*):
            Workers that look at the images. The result does not depend on it.
        cache_dir (`str`, *optional*):
            Where parsed files are kept, by the content of the file; see `default_cache_dir`.

    Returns:
        `(Dataset, SourceReport)`: Examples with undecoded images, memory-mapped, in file order; and the report.

    Raises:
        `RecordError`: under `strict`, the first bad record.
        `ValueError`: the file cannot be read as a whole, or the configuration makes no sense.
    """
    loaded = load_source_with_digests(config, strict=strict, num_proc=num_proc, cache_dir=cache_dir)
    return loaded.dataset, loaded.report


def load_source_with_digests(
    config: SourceConfig,
    *,
    strict: bool = False,
    num_proc: int | None = None,
    cache_dir: str | Path | None = None,
    row_order: RowOrder = "file",
    recheck_images: bool = False,
) -> LoadedSource:
    """`load_source`, and the content digest of each row. With `row_order="content"` the rows are sorted by it."""
    image_root = image_root_of(config)
    request = parse_request_of(config, image_root)
    parsed, verdicts = _look(
        request, config.verify_images, strict=strict, num_proc=num_proc, cache_dir=cache_dir, recheck=recheck_images
    )
    report = parsed.report
    report.license, report.license_url, report.provenance = config.license, config.license_url, config.provenance
    if config.parts:
        report.folders = count_by_folder(parsed, image_root)
    kept = _usable_rows(parsed, verdicts, strict=strict)
    digests = _content_digests(parsed, verdicts, kept)
    if row_order == "content":
        order = sorted(range(len(kept)), key=lambda place: digests[place].tobytes())
        kept, digests = [kept[place] for place in order], digests[order]
    report.num_kept = len(kept)
    report.num_images = len(parsed.image_paths)
    report.digest = "sha256:" + hashlib.sha256(b"".join(sorted(map(bytes, digests)))).hexdigest()
    report.digest_covers = "messages and image bytes" if config.verify_images == "decode" else "messages"
    places = draw_rows(
        len(kept),
        name=config.name,
        seed=config.seed or 0,
        num_examples=config.num_examples,
        weight=config.weight,
        sampling=config.sampling,
    )
    rows = [kept[place] for place in places]
    report.num_used = len(rows)
    logger.info("source %s: %d of %d records kept, %d used", config.name, len(kept), report.num_read, len(rows))
    dataset = parsed.dataset if rows == list(range(len(parsed.dataset))) else parsed.dataset.select(rows)
    return LoadedSource(dataset, report, digests[places])


def _look(
    request: ParseRequest,
    level: VerificationLevel,
    *,
    strict: bool,
    num_proc: int | None,
    cache_dir: str | Path | None,
    recheck: bool,
) -> tuple[ParsedSource, list[ImageVerdict]]:
    """
    Parse a source and look at its images; of several processes that share a cache, one does, and the others wait.

    Without that every rank of a machine would read all records and decode all images, each with a thread per core.
    Those that waited read the result at the same time, outside of the lock.
    """
    root = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    key = request.key()

    def look() -> tuple[ParsedSource, list[ImageVerdict]]:
        parsed = parse_source(request, strict=strict, cache_dir=root, key=key)
        return parsed, verify_images(parsed, level=level, num_proc=num_proc, recheck=recheck)

    with only_one(root / "locks" / f"{key}.{level}"):
        if not os.path.isfile(root / key / f"verdicts.{level}.parquet"):  # also one that cannot be read
            return look()
    return look()


def record_rules_of(config: SourceConfig, image_root: Path | None) -> RecordRules:
    """How the records of a source are read, wherever they are: stored, streamed, or sent along with a publication."""
    return RecordRules(
        source=config.name,
        image_root=image_root,
        format=config.format,
        allow_remote=config.remote_images == "fetch",
        collapse_markers=config.collapse_markers,
    )


def parse_request_of(config: SourceConfig, image_root: Path | None) -> ParseRequest:
    """All that decides what the file of a source is parsed into."""
    return ParseRequest(
        rules=record_rules_of(config, image_root),
        path=config.path,
        drop_duplicate_ids=config.duplicate_ids == "drop",
        revision=config.revision,
        split=config.split,
        filters=config.filters,
    )


def image_root_of(config: SourceConfig) -> Path | None:
    """The folder or archive that the image paths of a source start from."""
    if config.image_root is None:
        if config.path.startswith(HUB_SCHEME):
            return None
        return Path(os.path.abspath(config.path)).parent
    if config.image_root.startswith(HUB_SCHEME):
        return fetch_image_root(config.image_root)
    image_root = Path(os.path.abspath(config.image_root))  # a worker, or a later run, may stand elsewhere
    check_archive(image_root)
    exists = image_root.is_file() if is_archive(image_root) else image_root.is_dir()
    if not exists:
        raise ValueError(
            f"source {config.name!r} has the image root {str(image_root)!r}, which does not exist. Every image "
            "would be missing. Correct `image_root`."
        )
    return image_root


def _usable_rows(parsed: ParsedSource, verdicts: list[ImageVerdict], *, strict: bool) -> list[int]:
    """Rows whose images are all good; the others go into the report."""
    is_bad = np.array([verdict.reason is not None for verdict in verdicts], dtype=bool)
    if not is_bad.any():
        return list(range(len(parsed.dataset)))
    num_bad = np.concatenate([[0], np.cumsum(is_bad[parsed.image_numbers])])
    is_usable = num_bad[parsed.first_image[1:]] == num_bad[parsed.first_image[:-1]]
    for row in np.flatnonzero(~is_usable).tolist():
        error = next(error for number in parsed.images_of(row) if (error := verdicts[number].error()) is not None)
        named = error.with_record_id(f"{parsed.report.name}/{parsed.dataset.data.column('id')[row].as_py()}")
        if strict:
            raise named
        position = int(parsed.positions[row])
        parsed.report.reject(named, f"record {position}", row=position)
    return np.flatnonzero(is_usable).tolist()


def _content_digests(parsed: ParsedSource, verdicts: list[ImageVerdict], kept: list[int]) -> np.ndarray:
    """(num_kept, 32): what is said and, where images were decoded, their bytes; not where or in which format."""
    joined = bytearray()
    for row in kept:
        record = hashlib.sha256(parsed.digests[row])
        for number in parsed.images_of(row):
            record.update((verdicts[number].sha256 or "").encode())
        joined += record.digest()
    return np.frombuffer(bytes(joined), dtype=np.uint8).reshape(-1, 32)


__all__ = [
    "LoadedSource",
    "image_root_of",
    "load_source",
    "load_source_with_digests",
    "parse_request_of",
    "record_rules_of",
]
