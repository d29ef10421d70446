"""A data set to the part of it that fits `max_length`, with the length of each example and a count of the rest."""

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from datasets import Dataset
from tqdm.auto import tqdm

from transformers_llava.data.drawing import TokenBudget, draw_within_budget
from transformers_llava.data.encoding import SeveralImages
from transformers_llava.data.lengths import ExampleLength, LengthPolicy, TokenCounter
from transformers_llava.data.parsing import default_cache_dir
from transformers_llava.data.schema import RecordError


_EXAMPLES_PER_REASON = 5
_ROWS_PER_TASK = 1000
_ROWS_PER_PART = 50_000  # about half a minute of counting


@dataclass
class LengthReport:
    """What became of the examples once the chat template and `max_length` were known."""

    max_length: int | None
    too_long: str
    num_examples: int = 0
    num_tokens: int = 0  # as they will be trained on, image positions included
    num_with_image: int = 0
    longest: int = 0
    num_over_long: int = 0  # longer than max_length: cut, dropped or refused
    num_truncated: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # reason -> number of examples
    beyond_budget: Counter[str] = field(default_factory=Counter)  # source -> examples that its token budget left out
    rows_digest: str = ""  # which rows were kept, in their order
    examples: dict[str, list[str]] = field(default_factory=dict)  # reason -> the first few messages

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "dropped": dict(self.dropped), "beyond_budget": dict(self.beyond_budget)}


@dataclass
class MeasuredExamples:
    """The examples that can be trained on, in their order, and what each costs."""

    dataset: Dataset
    lengths: list[ExampleLength]  # as the collator will make them
    report: LengthReport


def measure_examples(
    dataset: Dataset,
    processor: Any,
    *,
    max_length: int | None = None,
    too_long: LengthPolicy = "truncate_text",
    template: str | None = None,
    strict: bool = False,
    num_proc: int | None = None,
    several_images: SeveralImages = "tiles",
    token_budgets: Mapping[str, TokenBudget] | None = None,
    cache_key: str | None = None,
    cache_dir: str | Path | None = None,
) -> MeasuredExamples:
    """
    Count the tokens of every example, and leave out those that could not be encoded.

    Args:
        dataset (`datasets.Dataset`):
            Examples.
        processor (`OpenLlavaProcessor`):
            Tokenizer and token counts.
        max_length (`int`, *optional*):
            Most tokens of an example.
        too_long (`str`, *optional*, defaults to `"truncate_text"`):
            What happens above it: `truncate_text` cuts the end, and drops what cannot be cut without losing part of an
            image or the whole answer; `drop` drops; `error` raises.
        template (`str`, *optional*):
            Chat template instead of the processor's own.
        strict (`bool`, *optional*, defaults to `False`):
            Raise the first error instead of counting it.
        num_proc (`int`, *optional*, defaults to 1):
            Processes that count. The result does not depend on it.
        several_images (`str`, *optional*, defaults to `"tiles"`):
            See `encode_example`; as the collator has it.
        token_budgets (`Mapping`, *optional*):
            Most tokens per source, `MixtureConfig.token_budgets`.
        cache_key (`str`, *optional*):
            Word for the content of the data set in its order, `MixtureReport.content_key()`. With it, counts are kept
            for the next time.
        cache_dir (`str`, *optional*):
            Where they are kept; see `default_cache_dir`.

    Raises:
        `RecordError`: under `strict`, and for the policy `error` at the first example that is too long.
    """
    if too_long not in ("error", "drop", "truncate_text"):
        raise ValueError(f"too_long must be error, drop or truncate_text, not {too_long!r}.")
    counter = TokenCounter(
        processor, template, max_length=max_length, too_long=too_long, several_images=several_images
    )
    file = None
    if cache_key is not None:
        folder = Path(cache_dir) if cache_dir is not None else default_cache_dir()
        file = folder / f"lengths.{counter.fingerprint(cache_key)}.parquet"
    table = _read(file, len(dataset))
    if table is None:
        table = _measure(dataset, counter, num_proc, file)
        _write(file, table)
        if file is not None:
            shutil.rmtree(_folder_of_parts(file), ignore_errors=True)
    return _select(dataset, table, counter, token_budgets or {}, strict=strict)


_COLUMNS = pyarrow.schema(
    [
        ("num_tokens", pyarrow.int64()),
        ("has_image", pyarrow.bool_()),
        ("reason", pyarrow.string()),
        ("message", pyarrow.string()),
    ]
)
_worker: Callable[[int], pyarrow.Table] | None = None


def _measure(dataset: Dataset, counter: TokenCounter, num_proc: int | None, file: Path | None) -> pyarrow.Table:
    """Counts in parts. Where counts are kept, so is every part: an interrupted run counts the others only."""
    starts_of_part = range(0, len(dataset), _ROWS_PER_PART)
    kept = {start: _read_part(file, start, len(dataset)) for start in starts_of_part}
    missing = [start for start in starts_of_part if kept[start] is None]
    tasks = [task for start in missing for task in _tasks_of_part(start, len(dataset))]
    bar = tqdm(total=len(dataset), desc="tokens of examples", unit="example", delay=2.0, mininterval=0.5)
    bar.update(sum(len(table) for table in kept.values() if table is not None))
    counted = _run(dataset, counter, tasks, num_proc or 1)
    for start in missing:
        tables = []
        for table in islice(counted, len(_tasks_of_part(start, len(dataset)))):
            tables.append(table)
            bar.update(len(table))
        part = kept[start] = pyarrow.concat_tables(tables)
        if file is not None and len(starts_of_part) > 1:
            _write(_folder_of_parts(file) / f"{start}.parquet", part)
    bar.close()
    parts = [table for start in starts_of_part if (table := kept[start]) is not None]
    return pyarrow.concat_tables(parts) if parts else _COLUMNS.empty_table()


def _tasks_of_part(start: int, num_rows: int) -> range:
    return range(start, min(start + _ROWS_PER_PART, num_rows), _ROWS_PER_TASK)


def _folder_of_parts(file: Path) -> Path:
    return file.with_suffix(".parts")


def _read_part(file: Path | None, start: int, num_rows: int) -> pyarrow.Table | None:
    if file is None:
        return None
    return _read(_folder_of_parts(file) / f"{start}.parquet", min(_ROWS_PER_PART, num_rows - start))


def _run(dataset: Dataset, counter: TokenCounter, starts: Sequence[int], num_proc: int) -> Iterator[pyarrow.Table]:
    if num_proc == 1 or len(starts) < 2:
        yield from map(_task(dataset, counter), starts)
        return
    method = "fork" if "fork" in get_all_start_methods() else "spawn"  # forked, nothing has to be sent
    with ProcessPoolExecutor(
        num_proc, mp_context=get_context(method), initializer=_start_worker, initargs=(dataset, counter)
    ) as pool:
        yield from pool.map(_work, starts)


def _start_worker(dataset: Dataset, counter: TokenCounter) -> None:
    global _worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    _worker = _task(dataset, counter)


def _work(start: int) -> pyarrow.Table:
    assert _worker is not None
    return _worker(start)


def _task(dataset: Dataset, counter: TokenCounter) -> Callable[[int], pyarrow.Table]:
    as_arrow: Any = dataset.with_format("arrow")

    def measure(start: int) -> pyarrow.Table:
        rows = []
        examples: Any = as_arrow[start : start + _ROWS_PER_TASK].to_pylist()  # four times faster than row by row
        for example in examples:
            num_tokens, reason, message = counter.outcome(example)
            rows.append((num_tokens, bool(example["images"]), reason, message))
        return pyarrow.table([list(column) for column in zip(*rows)], schema=_COLUMNS)

    return measure


def _select(
    dataset: Dataset,
    table: pyarrow.Table,
    counter: TokenCounter,
    token_budgets: Mapping[str, TokenBudget],
    *,
    strict: bool,
) -> MeasuredExamples:
    limit = counter.max_length
    num_tokens = table.column("num_tokens").to_numpy()
    has_image = table.column("has_image").to_numpy(zero_copy_only=False)
    is_good = table.column("reason").is_null().to_numpy(zero_copy_only=False)
    report = LengthReport(limit, counter.too_long)
    for row in np.flatnonzero(~is_good).tolist():
        reason, message = table.column("reason")[row].as_py(), table.column("message")[row].as_py()
        if strict or (counter.too_long == "error" and reason == "too_long"):
            raise _error(dataset, row, reason, message)
        report.dropped[reason] += 1
        first = report.examples.setdefault(reason, [])
        if len(first) < _EXAMPLES_PER_REASON:
            first.append(str(_error(dataset, row, reason, message)))
    is_over_long = np.zeros(len(num_tokens), dtype=bool) if limit is None else num_tokens > limit
    kept_tokens = num_tokens if limit is None else np.minimum(num_tokens, limit)
    if token_budgets:
        is_good = _within_budgets(dataset, kept_tokens, is_good, token_budgets, report)
    lengths = kept_tokens[is_good]
    report.rows_digest = f"sha256:{hashlib.sha256(np.flatnonzero(is_good).astype('<i8').tobytes()).hexdigest()}"
    report.num_examples = int(is_good.sum())
    report.num_tokens = int(lengths.sum())
    report.num_with_image = int(has_image[is_good].sum())
    report.longest = int(lengths.max(initial=0))
    report.num_over_long = int(is_over_long.sum())
    report.num_truncated = int((is_over_long & is_good).sum())
    return MeasuredExamples(
        dataset if is_good.all() else dataset.select(np.flatnonzero(is_good)),
        [ExampleLength(*pair) for pair in zip(lengths.tolist(), has_image[is_good].tolist())],
        report,
    )


def _within_budgets(
    dataset: Dataset,
    num_tokens: np.ndarray,
    is_good: np.ndarray,
    token_budgets: Mapping[str, TokenBudget],
    report: LengthReport,
) -> np.ndarray:
    """`is_good` without the examples for which the budget of their source does not suffice."""
    sources = np.array(dataset["source"][:])
    kept = is_good.copy()
    for name, budget in token_budgets.items():
        rows = np.flatnonzero(is_good & (sources == name))
        taken = draw_within_budget(num_tokens[rows].tolist(), budget, name=name)
        kept[rows] = False
        kept[rows[taken]] = True
        report.beyond_budget[name] = len(rows) - len(taken)
    return kept


def _error(dataset: Dataset, row: int, reason: str, message: str) -> RecordError:
    example = dataset[row]
    return RecordError(reason, message, record_id=f"{example['source']}/{example['id']}")


def _read(file: Path | None, num_rows: int) -> pyarrow.Table | None:
    if file is None:
        return None
    try:
        table = pyarrow.parquet.read_table(file, schema=_COLUMNS)
    except (OSError, pyarrow.ArrowException):  # none yet, or an unreadable one: count again
        return None
    return table if len(table) == num_rows else None


def _write(file: Path | None, table: pyarrow.Table) -> None:
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}")
    pyarrow.parquet.write_table(table, unfinished)
    unfinished.replace(file)


__all__ = ["LengthReport", "MeasuredExamples", "measure_examples"]
