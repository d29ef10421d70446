"""Describe a mixture and its sources as checked settings."""

from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from transformers_llava.artifacts.limits import MAX_SOURCE_WEIGHT
from transformers_llava.artifacts.old_spellings import with_new_spellings
from transformers_llava.data.mixture.fields import Kind, check_fields, shown
from transformers_llava.data.mixture.image_verification import VerificationLevel, check_level
from transformers_llava.data.mixture.published_parts import Download, SourcePart
from transformers_llava.data.mixture.subsampling import TokenBudget, check_sampling
from transformers_llava.data.records.filters import RecordFilter
from transformers_llava.data.records.record_formats import RecordFormat


RowOrder = Literal["file", "content"]


AMOUNTS = ("num_examples", "weight", "num_tokens", "sampling")  # how much of a source: at most one of them


_TEXTS = (
    "name",
    "path",
    "format",
    "image_root",
    "sampling",
    "revision",
    "split",
    "verify_images",
    "remote_images",
    "duplicate_ids",
    "license",
    "license_url",
    "license_revision",
    "provenance",
    "teacher",
    "teacher_terms",
)


_KINDS: dict[str, Kind] = {
    **dict.fromkeys(_TEXTS, "text"),
    **dict.fromkeys(("num_examples", "num_tokens", "seed"), "integer"),
    "weight": "number",
    "collapse_markers": "bool",
    "parts": "list",
    "downloads": "list",
}


@dataclass
class SourceConfig:
    """One data file, how to read it, and how much of it to use."""

    name: str = field(metadata={"help": "Name of the source in reports, error messages and the model card."})
    path: str = field(
        metadata={"help": "File (.json, .jsonl, .parquet), folder of a data set, or hf://datasets/OWNER/NAME."}
    )
    format: RecordFormat = field(default="auto", metadata={"help": "auto, llava, sharegpt or messages."})
    image_root: str | None = field(
        default=None,
        metadata={
            "help": "Folder, .zip or .tar that image paths start from, here or as "
            "hf://datasets/OWNER/NAME@COMMIT/PATH. Default: the folder of the data file."
        },
    )
    num_examples: int | None = field(default=None, metadata={"help": "Use so many examples, drawn with `seed`."})
    weight: float | None = field(
        default=None, metadata={"help": "Use this multiple of the examples: 0.5 draws half, 2 takes each twice."}
    )
    num_tokens: int | None = field(
        default=None,
        metadata={"help": "Token budget: use examples, drawn with `seed`, until the next would exceed it."},
    )
    sampling: str | None = field(
        default=None,
        metadata={"help": "LLaVA-NeXT's strategy: all, first:N, end:N or random:N; N may be a percentage."},
    )
    seed: int | None = field(default=None, metadata={"help": "Seed of the draw. Default: the seed of the mixture."})
    revision: str | None = field(default=None, metadata={"help": "Commit of a Hub repository, all 40 digits."})
    split: str = field(default="train", metadata={"help": "Split of a folder or Hub repository."})
    verify_images: VerificationLevel = field(
        default="decode", metadata={"help": "How closely images are looked at: decode, header or none."}
    )
    remote_images: Literal["refuse", "fetch"] = field(
        default="refuse",
        metadata={
            "help": "What happens to an image that is an http address: refuse, or fetch it once into the cache."
        },
    )
    duplicate_ids: Literal["keep", "drop"] = field(
        default="keep",
        metadata={
            "help": "What happens to a record whose id occurred before: keep (and count: published mixtures use the "
            "id of an image for several records) or drop."
        },
    )
    collapse_markers: bool = field(
        default=False,
        metadata={"help": "Make one of several <image> in a turn, as LLaVA does; else such a record may be refused."},
    )
    filters: RecordFilter | None = field(
        default=None, metadata={"help": "What records must be like: " + ", ".join(RecordFilter.__dataclass_fields__)}
    )
    license: str | None = field(default=None, metadata={"help": "License of the source, for reports and the card."})
    license_url: str | None = field(default=None, metadata={"help": "Where the license is stated."})
    license_revision: str | None = field(default=None, metadata={"help": "Commit at which it was stated so."})
    provenance: str | None = field(default=None, metadata={"help": "Who wrote the answers: human, or model."})
    teacher: str | None = field(default=None, metadata={"help": "Model that wrote the answers, where one did."})
    teacher_terms: str | None = field(default=None, metadata={"help": "Terms of that model's outputs."})
    parts: list[SourcePart] = field(
        default_factory=list,
        metadata={"help": "Published data sets inside the file, with their counts; `llava data verify` compares."},
    )
    downloads: list[Download] = field(
        default_factory=list, metadata={"help": "What to fetch from where; `llava data download-plan` prints it."}
    )

    def __post_init__(self) -> None:
        name = self.name if isinstance(self.name, str) else "?"
        check_fields(f"source {name!r}", vars(self), _KINDS)
        self.parts, self.downloads = self.parts or [], self.downloads or []
        if not self.name or not self.path:
            raise ValueError(f"a source needs a name and a path, but has name={self.name!r}, path={self.path!r}.")
        given = [name for name in AMOUNTS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"source {self.name!r} has {' and '.join(given)}. Say only once how much of it to use.")
        if self.num_examples is not None and self.num_examples < 1:
            raise ValueError(f"source {self.name!r} has num_examples={self.num_examples}; use at least 1.")
        if self.num_tokens is not None and self.num_tokens < 1:
            raise ValueError(f"source {self.name!r} has num_tokens={self.num_tokens}; use at least 1.")
        if self.weight is not None and not 0 < self.weight <= MAX_SOURCE_WEIGHT:  # of nan neither is true
            raise ValueError(
                f"source {self.name!r} has weight={self.weight}. A weight is a positive number, of at most "
                f"{MAX_SOURCE_WEIGHT}: every record would be used that often."
            )
        if self.sampling is not None:
            check_sampling(self.name, self.sampling)
        if self.duplicate_ids not in ("keep", "drop"):
            raise ValueError(f"source {self.name!r} has duplicate_ids={self.duplicate_ids!r}. Use 'keep' or 'drop'.")
        if self.remote_images not in ("refuse", "fetch"):
            raise ValueError(
                f"source {self.name!r} has remote_images={self.remote_images!r}. Use 'refuse' or 'fetch'."
            )
        check_level(self.verify_images)
        if self.filters is not None and not isinstance(self.filters, RecordFilter):
            self.filters = RecordFilter.from_dict(self.filters, self.name)
        if self.format not in ("auto", "llava", "sharegpt", "messages"):
            raise ValueError(
                f"source {self.name!r} has format={self.format!r}. Use auto, llava, sharegpt or messages."
            )
        self.parts = [p if isinstance(p, SourcePart) else SourcePart.from_dict(p, self.name) for p in self.parts]
        self.downloads = [
            d if isinstance(d, Download) else Download.from_dict(d, self.name) for d in self.downloads or ()
        ]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SourceConfig":
        if not isinstance(values, dict):
            raise ValueError(f"a source is {shown(values)}, not a block of fields with a name and a path.")
        (values,) = with_new_spellings([values], f"source {shown(values.get('name'))}")
        known = set(cls.__dataclass_fields__)
        unknown = [shown(name).strip("'") for name in values if name not in known]
        if unknown:
            raise ValueError(f"a source has the unknown fields {sorted(unknown)}. Known are {sorted(known)}.")
        if "name" not in values or "path" not in values:
            raise ValueError(f"a source needs a name and a path, but has only {sorted(values)}.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """What differs from the defaults, as a mixture file has it."""
        values: dict[str, Any] = {"name": self.name, "path": self.path}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in values or value in (item.default, []):
                continue
            if isinstance(value, RecordFilter):
                value = value.to_dict()
            elif isinstance(value, list):
                value = [{k: v for k, v in asdict(part).items() if v is not None} for part in value]
            values[item.name] = value
        return values


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


__all__ = ["AMOUNTS", "MixtureConfig", "RowOrder", "SourceConfig"]
