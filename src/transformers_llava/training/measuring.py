"""A mixture's Dataset to the part that can be trained on, with the length of each example and a count of the rest."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset
from tqdm.auto import tqdm

from transformers_llava.data.encoding import encode_example
from transformers_llava.data.lengths import ExampleLength, measure_example
from transformers_llava.data.schema import RecordError


_EXAMPLES_PER_REASON = 5


@dataclass
class EncodingReport:
    """What became of the mixture's examples once the chat template and `max_length` were known."""

    max_length: int | None
    num_examples: int = 0
    num_tokens: int = 0  # after truncation, image positions included
    num_with_image: int = 0
    longest: int = 0
    num_truncated: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)  # reason -> the first few messages

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "dropped": dict(self.dropped)}


def measure_mixture(
    dataset: Dataset, processor: Any, *, max_length: int | None, strict: bool = False
) -> tuple[Dataset, list[ExampleLength], EncodingReport]:
    """
    Counts the tokens of every example, and leaves out those that could not be encoded.

    No pixel is decoded, but for the few examples that are longer than `max_length`: whether one of them may be cut is
    known only from its tokens.

    Args:
        dataset (`datasets.Dataset`): Examples.
        processor (`OpenLlavaProcessor`): With the chat template of the run.
        max_length (`int`, *optional*): Longest example in tokens.
        strict (`bool`, *optional*, defaults to `False`): Raise the first error instead of counting it.

    Returns:
        `(Dataset, list[ExampleLength], EncodingReport)`: the examples that remain, in order; their lengths as the
        collator will make them; and the report.
    """
    report = EncodingReport(max_length)
    lengths: list[ExampleLength] = []
    kept: list[int] = []
    for row, example in enumerate(tqdm(dataset, desc="tokens of examples", unit="example", delay=2.0)):
        try:
            length = measure_example(example, processor)
            if max_length is not None and length.num_tokens > max_length:
                encode_example(example, processor, max_length=max_length)
                length = ExampleLength(max_length, length.has_image)
                report.num_truncated += 1
        except RecordError as error:
            if strict:
                raise
            report.dropped[error.reason] += 1
            first = report.examples.setdefault(error.reason, [])
            if len(first) < _EXAMPLES_PER_REASON:
                first.append(str(error))
            continue
        kept.append(row)
        lengths.append(length)
    report.num_examples = len(kept)
    report.num_tokens = sum(length.num_tokens for length in lengths)
    report.num_with_image = sum(length.has_image for length in lengths)
    report.longest = max((length.num_tokens for length in lengths), default=0)
    return (dataset if len(kept) == len(dataset) else dataset.select(kept)), lengths, report


__all__ = ["EncodingReport", "measure_mixture"]
