"""Render an Example as text in which a typed `</s>` or `<image>` is marked, and encode marked text to token ids.

transformers can read control tokens in user text as text (`sanitize_control_tokens`), and it can say which tokens the
assistant wrote (`return_assistant_tokens_mask`), but not both in one call. This file does both, for the few examples
that need it, with the library's own markers and its way to encode what lies between them.
"""

import re
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from jinja2 import TemplateSyntaxError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import mark_control_tokens, render_jinja_template

from transformers_llava.data.schema import Example, RecordError


_START, _END = "\U000f0000", "\U000f0001"  # what `mark_control_tokens` puts around a control token
_patterns: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, re.Pattern[str]]] = WeakKeyDictionary()


class Rendered(NamedTuple):
    """Text of a dialogue; `spans` are the characters that the assistant wrote (start, end)."""

    text: str
    spans: list[tuple[int, int]]


def chat_template_of(processor: Any, template: str | None) -> str:
    """The template in force: the one given, or the processor's own (its `default` where it has several)."""
    chosen = template if template is not None else processor.chat_template
    if isinstance(chosen, dict):
        chosen = chosen.get("default")
    if not chosen:
        raise ValueError(
            "the processor has no chat template, so there is no text to train on. Pass `template`, or set "
            "`processor.chat_template` (see `transformers_llava.chat_templates`)."
        )
    return chosen


def to_conversation(example: Example) -> list[dict[str, Any]]:
    """Messages as a template expects them: without the null fields that Arrow adds."""
    return [
        {
            "role": message["role"],
            "content": [
                {"type": "text", "text": part["text"]} if part["type"] == "text" else {"type": "image"}
                for part in message["content"]
            ],
        }
        for message in example["messages"]
    ]


def writes_control_tokens(example: Example, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether any text of the dialogue contains a special token of the tokenizer, such as `</s>` or `<image>`."""
    pattern = control_token_pattern(tokenizer)
    return any(pattern.search(part.get("text") or "") for m in example["messages"] for part in m["content"])


def control_token_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Matches every special token, and the markers. Kept per tokenizer, as long as it gets no new tokens."""
    size, pattern = _patterns.get(tokenizer, (-1, None))
    if pattern is None or size != len(tokenizer):
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        special.update(tokenizer.all_special_tokens)
        longest_first = sorted(special, key=lambda token: (-len(token), token))
        pattern = re.compile("|".join([*map(re.escape, longest_first), f"[{_START}{_END}]"]))
        _patterns[tokenizer] = (len(tokenizer), pattern)
    return pattern


def render_marked(example: Example, tokenizer: PreTrainedTokenizerBase, template: str) -> Rendered:
    """One run of the template over the dialogue, with every special token that a user typed marked as text."""
    conversation = to_conversation(example)
    if writes_control_tokens(example, tokenizer):
        conversation = mark_control_tokens(conversation, control_token_pattern(tokenizer))
    variables: dict[str, Any] = dict(tokenizer.special_tokens_map)
    try:
        rendered: Any = render_jinja_template(
            conversations=[conversation], chat_template=template, return_assistant_tokens_mask=True, **variables
        )
    except TemplateSyntaxError as error:
        raise ValueError(
            f"the chat template is no Jinja: {error.message}, in line {error.lineno}. No example can be written as "
            "text. Correct the template, or name one of `transformers_llava.chat_templates`."
        ) from error
    except Exception as error:  # what a template raises by itself, and what Python does with its expressions
        raise RecordError(
            "template_error",
            f"the chat template cannot write it as text ({type(error).__name__}: {error}). Correct the record or the "
            "template.",
            record_id=f"{example['source']}/{example['id']}",
        ) from error
    texts, spans = rendered
    return Rendered(texts[0], list(spans[0]))


def encode_rendered(rendered: Rendered, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[bool]]:
    """
    Tokens of a marked text, and for each whether the assistant wrote it.

    `"a ⟨</s>⟩ b"`, with ⟨⟩ for the markers, is encoded in three pieces: "a " and " b" as they are, "</s>" as
    the letters of a text. Each piece but the first is encoded after a newline that is then removed, so that
    SentencePiece puts no space in front of it, as transformers does.
    """
    ids: list[int] = []
    is_assistant: list[bool] = []
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
    for start, end, as_text in _pieces(rendered.text):
        piece = rendered.text[start:end]
        piece_ids, offsets = _encode(tokenizer, "\n" + piece if ids else piece, as_text)
        if ids and piece_ids[: len(newline)] == newline:
            piece_ids, offsets = piece_ids[len(newline) :], [(a - 1, b - 1) for a, b in offsets[len(newline) :]]
        elif ids:
            piece_ids, offsets = _encode(tokenizer, piece, as_text)
        ids += piece_ids
        is_assistant += [
            any(start + first < span_end and start + last > span_start for span_start, span_end in rendered.spans)
            for first, last in offsets
        ]
    return ids, is_assistant


def _pieces(text: str) -> list[tuple[int, int, bool]]:
    """Where the pieces lie (start, end, is it a typed control token), without the markers and without empty ones."""
    pieces, position = [], 0
    for match in re.finditer(f"{_START}([^{_START}{_END}]*){_END}|[{_START}{_END}]", text):
        pieces.append((position, match.start(), False))
        if match.group(1):
            pieces.append((match.start(1), match.end(1), True))
        position = match.end()
    pieces.append((position, len(text), False))
    return [piece for piece in pieces if piece[0] < piece[1]]


def _encode(tokenizer: PreTrainedTokenizerBase, text: str, as_text: bool) -> tuple[list[int], list[tuple[int, int]]]:
    encoding = tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True if as_text else None
    )
    return list(encoding["input_ids"]), list(encoding["offset_mapping"])


__all__ = [
    "Rendered",
    "chat_template_of",
    "control_token_pattern",
    "encode_rendered",
    "render_marked",
    "to_conversation",
    "writes_control_tokens",
]
