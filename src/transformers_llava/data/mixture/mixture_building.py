"""Build one Dataset of Examples from a MixtureConfig, and report exactly what is in it and what is not."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets

from transformers_llava.data.mixture.config import MixtureConfig
from transformers_llava.data.mixture.fields import check_num_proc
from transformers_llava.data.mixture.source import load_source_with_digests
from transformers_llava.data.reports import MixtureReport, SourceReport


def build_mixture(
    config: MixtureConfig,
    *,
    strict: bool = False,
    num_proc: int | None = None,
    cache_dir: str | Path | None = None,
    recheck_images: bool = False,
) -> tuple[Dataset, MixtureReport]:
    """
    Read, check and concatenate the sources. The result depends on the files, the configuration and the seeds alone.

    Args:
        config (`MixtureConfig`):
            The sources and the seed.
        strict (`bool`, *optional*, defaults to `False`):
            Raise the `RecordError` of the first bad record instead of counting it.
        num_proc (`int`, *optional*):
            Workers that look at the images.
        cache_dir (`str`, *optional*):
            Where parsed files are kept; see `default_cache_dir`.
        recheck_images (`bool`, *optional*, defaults to `False`):
            Look at every image again instead of taking what was found before; see `verify_images`.

    Raises:
        `RecordError`: under `strict`.
        `ValueError`: a file cannot be read at all, or not a single record is usable.
    """
    check_num_proc(num_proc)
    loaded = []
    for source in config.sources:
        seeded = source if source.seed is not None else replace(source, seed=config.seed)
        loaded.append(
            load_source_with_digests(
                seeded,
                strict=strict,
                num_proc=num_proc,
                cache_dir=cache_dir,
                row_order=config.row_order,
                recheck_images=recheck_images,
            )
        )
    report = MixtureReport([source.report for source in loaded], config.seed)
    if report.num_used == 0:
        raise ValueError(
            f"no record of the mixture is usable ({report.num_dropped} dropped: {dict(report.dropped)}). "
            f"There is nothing to train on. The first: {_first_rejection(report.sources)}"
        )
    order = hashlib.sha256(np.concatenate([source.row_digests for source in loaded]).tobytes())
    report.order_digest = f"sha256:{order.hexdigest()}"
    return concatenate_datasets([source.dataset for source in loaded if len(source.dataset)]), report


def _first_rejection(reports: list[SourceReport]) -> str:
    rejections = [report.first_rejection() for report in reports if report.examples]
    return str(rejections[0].error()) if rejections else "the files hold no record."


__all__ = ["MixtureReport", "build_mixture"]
