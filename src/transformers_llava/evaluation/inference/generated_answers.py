"""Turn a task's decoding into options of `generate`, and the tokens that it returns into an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers_llava.artifacts.evaluation_files.predictions import DecodingValue, StopReason
from transformers_llava.evaluation.tasks import TaskError


# What lmms-eval's model class fills in where a task file is silent; the tasks of LLaVA-1.5 name them all.
_DEFAULTS: Mapping[str, DecodingValue] = {"do_sample": False, "max_new_tokens": 1024, "num_beams": 1}
# `image_aspect_ratio` is for models whose configuration has none. The others change nothing where nothing is sampled,
# and the cache of an image is always used.
_WITHOUT_EFFECT = ("image_aspect_ratio", "temperature", "top_p", "use_cache")


@dataclass(frozen=True)
class Decoding:
    """
    How answers are generated: greedily, or by beams.

    Args:
        max_new_tokens (`int`): Longest answer.
        num_beams (`int`): 1 is greedy.
        stop_strings (`tuple[str, ...]`): An answer ends before the first of them.
    """

    max_new_tokens: int
    num_beams: int = 1
    stop_strings: tuple[str, ...] = ()

    @property
    def recorded(self) -> dict[str, DecodingValue]:
        """As the header of predictions has it."""
        stop = {"stop_strings": list(self.stop_strings)} if self.stop_strings else {}
        return {"do_sample": False, "max_new_tokens": self.max_new_tokens, "num_beams": self.num_beams, **stop}

    def options(self, tokenizer: Any) -> dict[str, Any]:
        """As `generate` takes them."""
        stop = {"stop_strings": list(self.stop_strings), "tokenizer": tokenizer} if self.stop_strings else {}
        return {"do_sample": False, "max_new_tokens": self.max_new_tokens, "num_beams": self.num_beams, **stop}


@dataclass(frozen=True)
class GeneratedAnswer:
    """Token ids up to the end of an answer, its text, and why it ended."""

    token_ids: tuple[int, ...]
    text: str
    stop_reason: StopReason


def decoding_of(values: Mapping[str, DecodingValue], task: str) -> Decoding:
    """
    Read the decoding of a task file.

    Raises:
        `TaskError`: It samples, or has an option that is not known here.
    """
    settings = {**_DEFAULTS, **{name: value for name, value in values.items() if name not in _WITHOUT_EFFECT}}
    until = settings.pop("until", ())
    if settings.pop("do_sample"):
        raise TaskError(
            f"{task} samples its answers, so an interrupted run could not be resumed to the same answers. Set "
            "`do_sample: false` in the task file."
        )
    max_new_tokens, num_beams = settings.pop("max_new_tokens"), settings.pop("num_beams")
    if settings:
        raise TaskError(
            f"{task} sets {', '.join(sorted(settings))} in its decoding, which has no effect here, so its answers "
            "would not be what the task file says. Remove it."
        )
    if not isinstance(max_new_tokens, int) or not isinstance(num_beams, int) or min(max_new_tokens, num_beams) < 1:
        raise TaskError(f"{task} has max_new_tokens={max_new_tokens!r} and num_beams={num_beams!r}; both are counts.")
    if not isinstance(until, Sequence) or isinstance(until, str):
        raise TaskError(f"{task} has until={until!r}, where a list of texts is expected.")
    return Decoding(max_new_tokens, num_beams, tuple(map(str, until)))


def read_answer(ids: Sequence[int], tokenizer: Any, end_ids: frozenset[int], decoding: Decoding) -> GeneratedAnswer:
    """
    Cut a row of `generate` where its answer ended.

    Args:
        ids (`Sequence[int]`): New tokens, padded on the right.
        tokenizer (`PreTrainedTokenizerBase`): That decodes them.
        end_ids (`frozenset[int]`): Tokens that end an answer.
        decoding ([`Decoding`]): By which they were made.

    Example:

        With the end token 2, `[5, 6, 2, 3, 3]` is the answer `[5, 6, 2]` and ended; `[5, 6, 7]` of at most three
        tokens was cut off.
    """
    ids = list(ids)
    end = next((place for place, token in enumerate(ids) if token in end_ids), None)
    whole = ids if end is None else ids[: end + 1]
    text = _decode(whole, tokenizer)
    if found := [stop for stop in decoding.stop_strings if stop in text]:
        length = next(n for n in range(len(whole) + 1) if any(stop in _decode(whole[:n], tokenizer) for stop in found))
        text = text[: min(text.index(stop) for stop in found)]
        return GeneratedAnswer(tuple(whole[:length]), text.strip(), "stop_string")
    return GeneratedAnswer(tuple(whole), text.strip(), "length" if end is None else "end")


def end_ids_of(model: Any) -> frozenset[int]:
    """Tokens at which the model's `generate` ends an answer."""
    ids = model.generation_config.eos_token_id
    return frozenset() if ids is None else frozenset([ids] if isinstance(ids, int) else ids)


def _decode(ids: Sequence[int], tokenizer: Any) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True))


__all__ = ["Decoding", "GeneratedAnswer", "decoding_of", "end_ids_of", "read_answer"]
