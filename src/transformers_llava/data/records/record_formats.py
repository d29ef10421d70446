"""Convert raw records (LLaVA and ShareGPT conversations, chat messages) to Examples. Pure: opens no image."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from transformers_llava.data.images.download import is_remote
from transformers_llava.data.images.paths import resolve_image
from transformers_llava.data.schema import ContentPart, Example, ImageReference, Message, RecordError


RecordFormat = Literal["auto", "llava", "sharegpt", "messages"]

IMAGE_MARKER = "<image>"

# "gpt" and "human" are LLaVA's; the others occur in ShareGPT exports and in chat data.
_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "system": "system",
}


@dataclass(frozen=True)
class RecordRules:
    """
    How the records of one source become `Example`s.

    Args:
        source (`str`):
            Name of the source, kept in its examples.
        image_root (`Path`, *optional*):
            Where the paths of the records start: a folder, or a zip or tar file.
        format (`str`, *optional*, defaults to `"auto"`):
            `llava`, `sharegpt` (its text-only sibling), `messages`, or `auto`, which looks at the keys.
        allow_remote (`bool`, *optional*, defaults to `False`):
            An image may be an address (`http`, `https`), which is fetched when it is first opened.
        collapse_markers (`bool`, *optional*, defaults to `False`):
            Several `<image>` of a turn become one at its front, as LLaVA does, also where only one image was meant.
    """

    source: str
    image_root: Path | None
    format: RecordFormat = "auto"
    allow_remote: bool = False
    collapse_markers: bool = False


def to_example(record: Any, rules: RecordRules, default_id: str = "?") -> tuple[Example, tuple[str, ...]]:
    """
    Turn one raw record into an `Example`, and say what was changed on the way.

    `<image>` in a text is an image exactly where the record declares one: the markers of the human turns (LLaVA) or of
    string contents (chat messages) must be as many as its images. A record without images keeps `<image>` as text, and
    so does every answer; but a LLaVA turn whose first or last line is the marker alone has lost its image. In a
    LLaVA turn with one marker the image goes to the front and the text is stripped, as in the original; several
    markers in one turn stay where they are (the original collapsed them into one).

    Args:
        record (`dict`):
            `{"id", "image", "conversations": [{"from", "value"}]}` or `{"id", "messages": [...], "images": [...]}`.
        rules (`RecordRules`):
            How the records of its source are read.
        default_id (`str`, *optional*):
            Id for a record that has none.

    Returns:
        `(Example, tuple[str, ...])`: the example, and words to count, such as `leading_answer_dropped`.

    Raises:
        `RecordError`: with its reason, for a record that must not be trained on.

    ```python
    >>> record = {"id": 7, "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
    >>> example, notes = to_example(record, RecordRules("chat", image_root=None))
    >>> example["messages"][0]
    {'role': 'user', 'content': [{'type': 'text', 'text': 'Hi'}]}
    ```
    """
    record_id = default_id
    try:
        if not isinstance(record, dict):
            raise _invalid(f"it is {_kind(record)}, not a JSON object. Each record must be an object.")
        if record.get("id") not in (None, ""):
            record_id = str(record["id"])
        collapsed: tuple[str, ...] = ()
        if rules.collapse_markers:
            record, collapsed = _collapse_markers(record)
        messages, images, notes = _reader(record, rules.format)(record, rules.image_root)
        _check_turns(messages)
        if not rules.allow_remote:
            _check_local(images, rules.image_root)
        example: Example = {"id": record_id, "messages": messages, "images": images, "source": rules.source}
        _check_utf8(example)
    except RecordError as error:
        raise error.with_record_id(
            f"{rules.source}/{record_id}".encode("utf-8", "backslashreplace").decode()
        ) from None
    return example, (*notes, *collapsed)


def _collapse_markers(record: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """LLaVA's own preparation of a turn with images, and whether it changed the number of markers."""
    turns, notes = [], set()
    for turn in record.get("conversations") or []:
        value = turn.get("value") if isinstance(turn, dict) else None
        if isinstance(value, str) and value.count(IMAGE_MARKER) > 1:
            turn = {**turn, "value": f"{IMAGE_MARKER}\n{value.replace(IMAGE_MARKER, '').strip()}".strip()}
            notes.add("markers_collapsed")
        turns.append(turn)
    return ({**record, "conversations": turns}, tuple(notes)) if notes else (record, ())


_Parts = tuple[list[Message], list[ImageReference], tuple[str, ...]]


def _reader(record: dict[str, Any], format: RecordFormat) -> Callable[[dict[str, Any], Path | None], _Parts]:
    if format not in ("auto", "llava", "sharegpt", "messages"):
        raise ValueError(f"format must be auto, llava, sharegpt or messages, not {format!r}.")
    if format == "auto":
        if "conversations" in record:
            return _from_conversations
        if "messages" in record:
            return _from_messages
        raise _invalid(f"it has neither `conversations` nor `messages`, only {sorted(map(str, record))[:8]}.")
    return _from_messages if format == "messages" else _from_conversations


def _from_conversations(record: dict[str, Any], image_root: Path | None) -> _Parts:
    turns = [_role_and_text(turn) for turn in _list_of(record, "conversations")]
    notes = []
    if turns and turns[0][0] == "assistant":  # the original drops an answer that nobody asked for
        turns, notes = turns[1:], ["leading_answer_dropped"]
    images = _declared_images(record, image_root)
    users = [text for role, text in turns if role == "user"]
    if images:
        num_markers = sum(text.count(IMAGE_MARKER) for text in users)
    else:  # typed inside a text it is text; on a line of its own, where LLaVA's data puts it, an image has been lost
        num_markers = sum(_stands_alone(text) for text in users)
    _check_image_count(num_markers, len(images), "<image> marker")
    messages: list[Message] = []
    for role, text in turns:
        num_here = text.count(IMAGE_MARKER) if images and role == "user" else 0
        if num_here == 0:
            content: list[ContentPart] = [{"type": "text", "text": text}]
        elif num_here == 1:
            rest = text.replace(IMAGE_MARKER, "").strip()
            content = [{"type": "image"}, {"type": "text", "text": rest}] if rest else [{"type": "image"}]
        else:
            content = list(_split_at_markers(text))
        messages.append({"role": role, "content": content})
    return messages, images, tuple(notes)


def _from_messages(record: dict[str, Any], image_root: Path | None) -> _Parts:
    declared = _declared_images(record, image_root)
    inline: list[ImageReference] = []
    messages: list[Message] = []
    num_markers = 0
    for turn in _list_of(record, "messages"):
        if not isinstance(turn, dict) or turn.get("role") not in ("system", "user", "assistant"):
            raise _invalid(f"a message must have the role system, user or assistant, but one is {str(turn)[:200]}.")
        content = turn.get("content")
        if isinstance(content, str):
            has_markers = bool(declared) and turn["role"] == "user" and IMAGE_MARKER in content
            parts: list[ContentPart] = (
                list(_split_at_markers(content)) if has_markers else [{"type": "text", "text": content}]
            )
        elif isinstance(content, list):
            parts = []
            for part in content:
                parsed, reference = _content_part(part, image_root)
                parts.append(parsed)
                inline += [reference] if reference is not None else []
        else:
            raise _invalid(f"the content of a message is {_kind(content)}, not a string or a list of parts.")
        num_images = sum(part["type"] == "image" for part in parts)
        if num_images and turn["role"] != "user":
            raise _invalid(f"a {turn['role']} message has an image part; images belong into user messages.")
        num_markers += num_images
        messages.append({"role": turn["role"], "content": parts})
    if declared and inline:
        raise _invalid("it has `images` and also image parts with their own file. Use one of the two ways.")
    images = declared or inline
    _check_image_count(num_markers, len(images), "image part")
    return messages, images, ()


def _role_and_text(turn: Any) -> tuple[Any, str]:
    if not isinstance(turn, dict):
        raise _invalid(f"a turn is {_kind(turn)}, not an object with `from` and `value`.")
    name, text = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    role = _ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise _invalid(f"a turn comes from {str(name)[:80]!r}. Known are {sorted(_ROLES)}.")
    if not isinstance(text, str):
        raise _invalid(f"the `value` of a turn is {_kind(text)}, not a string.")
    return role, text


def _content_part(part: Any, image_root: Path | None) -> tuple[ContentPart, ImageReference | None]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}, None
    if kind in ("image", "image_url"):
        value = next((part[key] for key in ("image", "path", "url", "image_url") if part.get(key) is not None), None)
        if kind == "image_url" and isinstance(value, dict):
            value = value.get("url")
        return {"type": "image"}, None if value is None else _reference(value, image_root)
    raise _invalid(f"a content part must be text or image, but one is {str(part)[:200]}.")


def _declared_images(record: dict[str, Any], image_root: Path | None) -> list[ImageReference]:
    """The images a record names: `image` or `images`, one or a list; null and [] mean a text-only record."""
    value = record.get("image")
    if value is None or value == []:
        value = record.get("images")
    if value is None:
        return []
    return [_reference(item, image_root) for item in (value if isinstance(value, list) else [value])]


def _reference(value: Any, image_root: Path | None) -> ImageReference:
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        return {"bytes": value["bytes"], "path": None}
    path = value.get("path") if isinstance(value, dict) else value
    if isinstance(path, str):
        return {"bytes": None, "path": path} if is_remote(path) else resolve_image(path, image_root)
    raise _invalid(f"an image is {_kind(value)}, not a path or an object with `bytes` or `path`.")


def _check_local(images: list[ImageReference], image_root: Path | None) -> None:
    for reference in images:
        if is_remote(reference["path"]):
            resolve_image(str(reference["path"]), image_root)  # says that nothing is fetched, and what to do


def _stands_alone(text: str) -> bool:
    """Whether the first or the last line is the marker and nothing else: `"<image>\\nWhat is it?"`."""
    lines = text.strip().split("\n")
    return IMAGE_MARKER in (lines[0].strip(), lines[-1].strip())


def _split_at_markers(text: str) -> Iterator[ContentPart]:
    """`"a <image>b"` to text "a ", image, text "b": every character but the markers stays."""
    for number, piece in enumerate(text.split(IMAGE_MARKER)):
        if number:
            yield {"type": "image"}
        if piece:
            yield {"type": "text", "text": piece}


def _list_of(record: dict[str, Any], key: str) -> list[Any]:
    turns = record.get(key)
    if not isinstance(turns, list) or not turns:
        raise _invalid(f"`{key}` is {_kind(turns)}, not a list with turns.")
    return turns


def _check_image_count(num_markers: int, num_images: int, noun: str) -> None:
    if num_markers != num_images:
        raise RecordError(
            "image_count_mismatch",
            f"it has {num_markers} {noun}s but {num_images} images. Training on it would misalign pixels and text. "
            "Add the missing image or marker, or remove the extra one.",
        )


def _check_turns(messages: list[Message]) -> None:
    roles = [message["role"] for message in messages]
    dialogue = roles[1:] if roles[:1] == ["system"] else roles
    expected = ["user", "assistant"] * len(dialogue)
    if dialogue != expected[: len(dialogue)]:
        raise RecordError(
            "roles_do_not_alternate",
            f"its turns are {', '.join(roles[:12])}. User and assistant must alternate, starting with user.",
        )
    if len(dialogue) < 2:
        raise RecordError("no_answer", "it has no assistant turn, so there is nothing to learn from.")
    for message in messages:
        if message["role"] == "assistant" and not any((part.get("text") or "").strip() for part in message["content"]):
            raise RecordError(
                "empty_answer", "an assistant turn is empty. Training on it would teach silence. Fill or remove it."
            )


def _check_utf8(example: Example) -> None:
    """Refuse lone surrogates: bytes that were not UTF-8, or a broken `\\udXXX` escape. They cannot be stored."""
    texts = [example["id"], *(image["path"] or "" for image in example["images"])]
    texts += [part.get("text") or "" for message in example["messages"] for part in message["content"]]
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            near = text[max(0, error.start - 20) : error.end + 20].encode("utf-8", "backslashreplace").decode()
            raise RecordError("invalid_utf8", f"it is not valid UTF-8 near '{near}'. Re-encode the file.") from None


def _kind(value: Any) -> str:
    return "missing" if value is None else "empty" if value == [] else f"of type {type(value).__name__}"


def _invalid(message: str) -> RecordError:
    return RecordError("invalid_record", message)


__all__ = ["IMAGE_MARKER", "RecordFormat", "RecordRules", "to_example"]
