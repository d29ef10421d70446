"""MixtureConfig to one Dataset of Examples, and a report that says exactly what is in it and what is not."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from transformers_llava.data.drawing import TokenBudget
from transformers_llava.data.fields import check_fields, check_num_proc
from transformers_llava.data.reports import MixtureReport, SourceReport
from transformers_llava.data.sources import RowOrder, SourceConfig, load_source_with_digests


@dataclass
class MixtureConfig:
    """Sources in their order, and the seed of their draws."""

    sources: list[SourceConfig] = field(metadata={"help": "What to mix; the data set is their concatenation."})
    seed: int = field(default=0, metadata={"help": "Seed of the draws of sources that have none of their own."})
    row_order: RowOrder = field(
        default="file",
        metadata={
            "help": "Order of the rows of a source: that of its file, or by content, so that the same records in "
            "another order or format train in the same order."
        },
    )

    def __post_init__(self) -> None:
        check_fields("the mixture", vars(self), {"seed": "integer", "row_order": "text", "sources": "list"})
        self.sources = self.sources or []
        self.sources = [
            source if isinstance(source, SourceConfig) else SourceConfig.from_dict(source) for source in self.sources
        ]
        if not self.sources:
            raise ValueError("the mixture has no source. Name at least one under `sources` (or `train_data`).")
        names = Counter(source.name for source in self.sources)
        repeated = sorted(name for name, count in names.items() if count > 1)
        if repeated:
            raise ValueError(f"the mixture names {repeated} more than once. Reports need one name per source.")
        if self.row_order not in ("file", "content"):
            raise ValueError(f"row_order must be 'file' or 'content', not {self.row_order!r}.")

    def to_dict(self) -> dict[str, Any]:
        """As a mixture file has it: `read_mixture_file` makes the same of it."""
        return {
            "seed": self.seed,
            "row_order": self.row_order,
            "sources": [source.to_dict() for source in self.sources],
        }

    @property
    def token_budgets(self) -> dict[str, TokenBudget]:
        """Per source that has one; `measure_examples`, which knows the tokens, draws by it."""
        return {
            source.name: TokenBudget(source.num_tokens, self.seed if source.seed is None else source.seed)
            for source in self.sources
            if source.num_tokens is not None
        }


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
            Workers that look at the pictures.
        cache_dir (`str`, *optional*):
            Where parsed files are kept; see `default_cache_dir`.
        recheck_images (`bool`, *optional*, defaults to `False`):
            Look at every picture again instead of taking what was found before; see `verify_images`.

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


__all__ = ["MixtureConfig", "MixtureReport", "build_mixture"]
