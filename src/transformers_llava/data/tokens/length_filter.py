"""Count the tokens of every example, and keep the part of a data set that fits `max_length`."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from datasets import Dataset
from tqdm.auto import tqdm

from transformers_llava.data.cache import default_cache_dir, keep_file, only_one, remove_leftovers
from transformers_llava.data.mixture.fields import check_num_proc
from transformers_llava.data.mixture.subsampling import TokenBudget, draw_within_budget
from transformers_llava.data.reports import LengthReport
from transformers_llava.data.schema import RecordError
from transformers_llava.data.tokens.counting import ExampleLength, TokenCounter
from transformers_llava.data.tokens.policy import DEFAULT_POLICY, EncodingPolicy


_EXAMPLES_PER_REASON = 5
_ROWS_PER_TASK = 500
_ROWS_PER_PART = 20_000  # about ten seconds of counting: what the processes of a machine share out among themselves


@dataclass
class MeasuredExamples:
    """The examples that can be trained on, in their order, and what each costs."""

    dataset: Dataset
    lengths: list[ExampleLength]  # as the collator will make them
    report: LengthReport


def measure_examples(
    dataset: Dataset,
    processor: Any,
    policy: EncodingPolicy = DEFAULT_POLICY,
    *,
    strict: bool = False,
    num_proc: int | None = None,
    token_budgets: Mapping[str, TokenBudget] | None = None,
    cache_key: str | None = None,
    cache_dir: str | Path | None = None,
) -> MeasuredExamples:
    """
    Count the tokens of every example, and leave out those that could not be encoded.

    Where counts are kept, processes that measure the same at the same time share the work part by part through the
    files of the cache: all of a run's ranks may call this, each gets the whole result, and none waits for longer than
    another one counts.

    Args:
        dataset (`datasets.Dataset`):
            Examples.
        processor (`OpenLlavaProcessor`):
            Tokenizer and token counts.
        policy (`EncodingPolicy`, *optional*):
            As the collator has it.
        strict (`bool`, *optional*, defaults to `False`):
            Raise the first error instead of counting it.
        num_proc (`int`, *optional*, defaults to 1):
            Processes that count. The result does not depend on it.
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
    check_num_proc(num_proc)
    counter = TokenCounter(processor, policy)
    file = None
    if cache_key is not None:
        folder = Path(cache_dir) if cache_dir is not None else default_cache_dir()
        file = folder / f"lengths.{counter.fingerprint(cache_key)}.parquet"
    table = _read(file, len(dataset))
    if table is None:
        with _counting(dataset, counter, num_proc or 1) as count:
            table = _count(len(dataset), count) if file is None else _share(len(dataset), count, file)
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


_Count = Callable[[Iterable[int]], Iterator[pyarrow.Table]]  # starts of tasks to their tables


def _count(num_rows: int, count: _Count) -> pyarrow.Table:
    bar = _bar(num_rows)
    tables = []
    for table in count(range(0, num_rows, _ROWS_PER_TASK)):
        tables.append(table)
        bar.update(len(table))
    bar.close()
    return _joined(tables)


def _share(num_rows: int, count: _Count, file: Path) -> pyarrow.Table:
    """
    Counts of all rows, of which other processes may count a part at the same time.

    Each part is counted by whoever has its lock. A first sweep takes what is free, a second one waits for the others;
    a process that is killed loses its locks, and its parts are counted by those who wait. An interrupted run leaves
    its finished parts to the next.
    """
    folder = file.with_suffix(".parts")
    remove_leftovers(file.parent)
    parts: dict[int, pyarrow.Table] = {}
    bar = _bar(num_rows)
    for wait in (False, True):
        for start in range(0, num_rows, _ROWS_PER_PART):
            if start in parts:
                continue
            end = min(start + _ROWS_PER_PART, num_rows)
            with only_one(folder / f"{start}.lock", wait=wait) as is_ours:
                if not is_ours:
                    continue
                part = _read(folder / f"{start}.parquet", end - start)
                # In this order: parts are removed after the whole table was written, so one that is missing is there.
                if part is None and (table := _read(file, num_rows)) is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    return table
                if part is None:
                    part = _joined(count(range(start, end, _ROWS_PER_TASK)))
                    _write(folder / f"{start}.parquet", part)
            parts[start] = part
            bar.update(len(part))
    bar.close()
    table = _joined(parts[start] for start in sorted(parts))
    _write(file, table)
    shutil.rmtree(folder, ignore_errors=True)  # a slower process finds the whole table, or counts its part again
    return table


def _bar(num_rows: int) -> Any:
    return tqdm(total=num_rows, desc="tokens of examples", unit="example", delay=2.0, mininterval=0.5)


def _joined(tables: Iterable[pyarrow.Table]) -> pyarrow.Table:
    return pyarrow.concat_tables([_COLUMNS.empty_table(), *tables])


@contextmanager
def _counting(dataset: Dataset, counter: TokenCounter, num_proc: int) -> Iterator[_Count]:
    if num_proc == 1 or len(dataset) <= _ROWS_PER_TASK:
        task = _task(dataset, counter)
        yield lambda starts: map(task, starts)
        return
    method = "fork" if "fork" in get_all_start_methods() else "spawn"  # forked, nothing has to be sent
    with ProcessPoolExecutor(
        num_proc, mp_context=get_context(method), initializer=_start_worker, initargs=(dataset, counter)
    ) as pool:
        pool.submit(os.getpid).result()  # forks all workers now: one that is forked later would hold a part's lock
        yield lambda starts: pool.map(_work, starts)


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
    policy, limit = counter.policy, counter.policy.max_length
    num_tokens = table.column("num_tokens").to_numpy()
    has_image = table.column("has_image").to_numpy(zero_copy_only=False)
    is_good = table.column("reason").is_null().to_numpy(zero_copy_only=False)
    report = LengthReport(limit, policy.too_long)
    for row in np.flatnonzero(~is_good).tolist():
        reason, message = table.column("reason")[row].as_py(), table.column("message")[row].as_py()
        if strict or (policy.too_long == "error" and reason == "too_long"):
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


def _write(file: Path, table: pyarrow.Table) -> None:
    keep_file(file, lambda unfinished: pyarrow.parquet.write_table(table, unfinished))


__all__ = ["MeasuredExamples", "measure_examples"]
