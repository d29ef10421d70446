"""Read the JSON files beside a vocabulary as one record of what the original's tokenizer would have done.

`tokenizer_config.json` wins over `special_tokens_map.json`, and its `added_tokens_decoder` over `added_tokens.json`,
as in the transformers versions the originals pinned (4.31 to 4.40).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from transformers_llava.conversion.small_files import optional_json


# Names of special tokens that both transformers generations know, in the order in which missing ones get their ids.
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# Classes that decide about BOS and the prefix space themselves; all others do what their tokenizer.json says.
_SENTENCEPIECE_CLASSES = {"LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer"}


@dataclass(frozen=True)
class TokenizerSettings:
    """
    What the files of a tokenizer folder say, apart from the vocabulary.

    Attributes:
        class_name: the tokenizer class without "Fast"; `""` where no file names one.
        legacy: the `legacy` flag of Llama tokenizers; None where absent, which the originals take for true.
        add_prefix_space: whether a non-legacy Llama tokenizer writes "▁" before a text.
        adds_bos: whether the class itself adds BOS; None where tokenizer.json decides.
        named: special tokens by their name, for example `{"bos_token": "<s>"}`.
        extra_special: special tokens without a name.
        added: added tokens by their id.
    """

    class_name: str
    legacy: bool | None
    add_prefix_space: bool
    adds_bos: bool | None
    named: dict[str, str]
    extra_special: tuple[str, ...]
    added: dict[int, AddedToken]
    model_max_length: int | None

    @property
    def is_llama(self) -> bool:
        return self.class_name in ("", "LlamaTokenizer", "CodeLlamaTokenizer")

    @property
    def special(self) -> set[str]:
        """Everything the slow tokenizer's `all_special_tokens` would list."""
        flagged = {token.content for token in self.added.values() if token.special}
        return flagged | set(self.named.values()) | set(self.extra_special)


def read_tokenizer_settings(folder: Path) -> TokenizerSettings:
    """
    Read `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`; each may be absent.

    Raises:
        ValueError: one of them is no JSON object.
    """
    config = optional_json(folder / "tokenizer_config.json")
    special_map = optional_json(folder / "special_tokens_map.json")
    class_name = str(config.get("tokenizer_class") or "").removesuffix("Fast")

    named = {name: _content(config.get(name) or special_map.get(name)) for name in NAMED_TOKENS}
    if class_name in ("", *_SENTENCEPIECE_CLASSES) and (folder / "tokenizer.model").is_file():
        for name, default in (("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")):
            named[name] = named[name] or default
    extra = config.get("additional_special_tokens") or special_map.get("additional_special_tokens") or []
    extra_special = [text for token in extra if (text := _content(token))]

    added = {int(index): _added_token(token) for index, token in config.get("added_tokens_decoder", {}).items()}
    if not added:
        special = {text for text in [*named.values(), *extra_special] if text}
        for text, index in optional_json(folder / "added_tokens.json").items():
            added[int(index)] = AddedToken(text, special=text in special, normalized=False)

    adds_bos = bool(config.get("add_bos_token", True)) if class_name in ("", *_SENTENCEPIECE_CLASSES) else None
    max_length = config.get("model_max_length")
    return TokenizerSettings(
        class_name=class_name,
        legacy=config.get("legacy"),
        add_prefix_space=config.get("add_prefix_space") is not False,
        adds_bos=adds_bos,
        named={name: text for name, text in named.items() if text},
        extra_special=tuple(extra_special),
        added=dict(sorted(added.items())),
        model_max_length=int(max_length) if max_length is not None and max_length < 1e9 else None,
    )


def _content(token: Any) -> str | None:
    """`"<s>"` of `"<s>"`, of `{"content": "<s>", ...}` and of nothing."""
    return token["content"] if isinstance(token, dict) else token


def _added_token(token: Any) -> AddedToken:
    if isinstance(token, str):
        return AddedToken(token, special=True, normalized=False)
    return AddedToken(**{key: value for key, value in token.items() if key != "__type"})


__all__ = ["NAMED_TOKENS", "TokenizerSettings", "read_tokenizer_settings"]
