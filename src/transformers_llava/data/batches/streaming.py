"""Stream a mixture while it trains: records to packs through a window; nothing is stored."""

import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from torch.utils.data import IterableDataset, get_worker_info

from transformers_llava.data.batches.collators import RejectRecord
from transformers_llava.data.batches.packing import partition_step
from transformers_llava.data.mixture.config import MixtureConfig, SourceConfig
from transformers_llava.data.mixture.source import image_root_of, record_rules_of
from transformers_llava.data.records.readers import HUB_SCHEME, RawRecord, read_records
from transformers_llava.data.records.record_formats import RecordRules, to_example
from transformers_llava.data.schema import Example, RecordError
from transformers_llava.data.tokens.counting import TokenCounter


class StreamedExample(NamedTuple):
    """An example and what it costs, as the collator will make it."""

    example: Example
    num_tokens: int


class StreamedMixture:
    """
    The usable examples of a mixture, one at a time.

    Contract: a pass holds every usable record of every source once. The order depends on the files, the seed and the
    pass alone: records of a source come in the order of its file, and the source of the next one is drawn in
    proportion to the sizes of the files, so that sources end at about the same time.

    Only the text is read. An image is opened by whoever trains on it, except where its size decides how many tokens
    it costs (`anyres`): then its header is read.

    Args:
        config (`MixtureConfig`):
            The sources. Amounts (`num_examples`, `weight`, `num_tokens`, `sampling`) and `duplicate_ids: drop` need
            all records of a source at once and are refused.
        counter (`TokenCounter`):
            Processor and `EncodingPolicy`.
        strict (`bool`, *optional*, defaults to `False`):
            Raise the first error instead of handing it to `reject`.

    Raises:
        `ValueError`: a source asks for what a stream cannot give.
    """

    def __init__(self, config: MixtureConfig, counter: TokenCounter, *, strict: bool = False) -> None:
        for source in config.sources:
            _check_streamable(source)
        self.config, self.counter, self.strict = config, counter, strict
        self.rates = [_size(source) for source in config.sources]
        self.rules = [record_rules_of(source, image_root_of(source)) for source in config.sources]

    def read(self, pass_number: int, reject: RejectRecord) -> Iterator[StreamedExample]:
        """One pass. What is left out goes to `reject`, with its reason and the name of the record."""
        generator = random.Random(f"{self.config.seed}/{pass_number}")
        streams = [self._read_source(place, reject) for place in range(len(self.rates))]
        rates = list(self.rates)
        while streams:
            place = generator.choices(range(len(streams)), rates)[0]
            item = next(streams[place], None)
            if item is None:
                del streams[place], rates[place]
            else:
                yield item

    def _read_source(self, place: int, reject: RejectRecord) -> Iterator[StreamedExample]:
        source = self.config.sources[place]
        records = read_records(source.path, revision=source.revision, split=source.split, streaming=True)
        for raw in records:
            try:
                item = self._accept(raw, source, self.rules[place])
            except RecordError as error:
                if self.strict or (self.counter.policy.too_long == "error" and error.reason == "too_long"):
                    raise
                reject(error)
                continue
            yield item

    def _accept(self, raw: RawRecord, source: SourceConfig, rules: RecordRules) -> StreamedExample:
        if raw.error is not None:
            raise raw.error.with_record_id(f"{source.name}/{raw.position}")
        example, _ = to_example(raw.record, rules, raw.position)
        name = f"{source.name}/{example['id']}"
        unmet = source.filters.unmet(example, rules.image_root) if source.filters is not None else None
        if unmet:
            raise RecordError("filtered", f"the filter {unmet} does not let it through.", record_id=name)
        num_tokens, reason, message = self.counter.outcome(example)
        if reason is not None:
            raise RecordError(reason, message or "", record_id=name)
        limit = self.counter.policy.max_length
        return StreamedExample(example, num_tokens if limit is None else min(num_tokens, limit))


class StreamedPacks(IterableDataset):
    """
    The packs of one rank, endlessly, pass after pass: lists of examples, one per micro-step.

    Contract: that of `PackedBatchSampler`, within a window. A window of `window_steps` steps is held; each step takes
    `global_batch_size` examples from it at random, and they are replaced by the next ones of the stream. Which
    examples a step sees depends on the files, the seed, `global_batch_size` and `window_steps` alone, not on world
    size, accumulation, rank or workers. The last step of a pass takes what is left; where that is less than one
    example for each pack, the rest of the packs are empty (the collators make them a black image without labels).

    Args:
        mixture (`StreamedMixture`):
            What is read.
        reject (`Callable`):
            Told what was left out, by the first worker of rank 0 alone: all of them read the same text.
        global_batch_size (`int`):
            Examples per optimizer step, over all ranks and micro-steps.
        world_size (`int`), accumulation_steps (`int`), rank (`int`):
            As for `PackedBatchSampler`.
        window_steps (`int`, *optional*, defaults to 64):
            Steps to choose from. The larger, the better the shuffle; an example is text and paths, about a kilobyte.
    """

    def __init__(
        self,
        mixture: StreamedMixture,
        reject: RejectRecord,
        *,
        global_batch_size: int,
        world_size: int = 1,
        accumulation_steps: int = 1,
        rank: int = 0,
        window_steps: int = 64,
    ) -> None:
        if window_steps < 1:
            raise ValueError(f"a window of {window_steps} steps holds nothing to choose from. Use at least 1.")
        self.mixture, self.reject = mixture, reject
        self.global_batch_size, self.window_steps = global_batch_size, window_steps
        self.world_size, self.accumulation_steps, self.rank = world_size, accumulation_steps, rank
        self.first_step = 0  # steps before it are planned and passed over, as a resumed run needs; no image is read

    def __iter__(self) -> Iterator[list[Example]]:
        worker = get_worker_info()
        number, num_workers = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        reject = self.reject if self.rank == 0 and number == 0 else _reject_silently
        packs = (pack for step in self._steps(reject) for pack in step)
        for place, pack in enumerate(packs):
            if place % num_workers == number:  # the loader takes from its workers in turn, so the order stays
                yield pack

    def _steps(self, reject: RejectRecord) -> Iterator[list[list[Example]]]:
        step = 0
        for pass_number in count():
            before = step
            for items in self.steps_of_pass(pass_number, reject):
                if step >= self.first_step:
                    yield self._deal(items)
                step += 1
            if step == before:
                raise ValueError(
                    "not a single record of the mixture is usable, so there is nothing to train on. What was left out "
                    "and why stands in the report of rejections."
                )

    def steps_of_pass(self, pass_number: int, reject: RejectRecord) -> Iterator[list[StreamedExample]]:
        """Which examples each optimizer step of a pass takes."""
        generator = random.Random(f"window/{self.mixture.config.seed}/{pass_number}")
        window: list[StreamedExample] = []
        for item in self.mixture.read(pass_number, reject):
            window.append(item)
            if len(window) == self.window_steps * self.global_batch_size:
                yield _draw(window, self.global_batch_size, generator)
        while window:
            yield _draw(window, self.global_batch_size, generator)

    def _deal(self, items: list[StreamedExample]) -> list[list[Example]]:
        dealt = partition_step(
            [item.num_tokens for item in items],
            [bool(item.example["images"]) for item in items],
            world_size=self.world_size,
            accumulation_steps=self.accumulation_steps,
        )
        return [[items[place].example for place in pack] for pack in dealt[self.rank]]


def _draw(window: list[StreamedExample], num: int, generator: random.Random) -> list[StreamedExample]:
    """Takes up to `num` of the window, in random order."""
    drawn = []
    for _ in range(min(num, len(window))):
        place = generator.randrange(len(window))
        window[place], window[-1] = window[-1], window[place]
        drawn.append(window.pop())
    return drawn


def _reject_silently(error: RecordError) -> None:
    """Another process reports the same record."""


def _check_streamable(source: SourceConfig) -> None:
    asked = [name for name in ("num_examples", "weight", "num_tokens") if getattr(source, name) is not None]
    asked += ["sampling"] if source.sampling not in (None, "all") else []
    asked += ["duplicate_ids: drop"] if source.duplicate_ids == "drop" else []
    if asked:
        raise ValueError(
            f"source {source.name!r} asks for {' and '.join(asked)}, which needs all its records at once; a stream "
            "sees them one by one. Take the source as a whole, or do not stream."
        )


def _size(source: SourceConfig) -> int:
    """Bytes, the only thing that is known of a file before it is read."""
    if source.path.startswith(HUB_SCHEME):
        return _size_on_hub(source)
    path = Path(source.path)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return max(1, sum(file.stat().st_size for file in files))


def _size_on_hub(source: SourceConfig) -> int:
    from huggingface_hub import HfApi

    repository = "/".join(source.path.removeprefix(HUB_SCHEME).split("/")[:2])
    try:
        info: Any = HfApi().dataset_info(repository, revision=source.revision, files_metadata=True)
    except ValueError:
        raise
    except Exception as error:  # of the Hub's client, which also passes on those of the network beneath it
        raise ValueError(
            f"source {source.name!r}: the repository {repository!r} cannot be looked up ({type(error).__name__}: "
            f"{error}), so nothing can be streamed from it. Check its name and the network."
        ) from error
    return max(1, sum(file.size or 0 for file in info.siblings))


__all__ = ["StreamedExample", "StreamedMixture", "StreamedPacks"]
