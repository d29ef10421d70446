"""Build one fast tokenizer that gives the original's ids from the tokenizer folder of its checkpoint.

The original cuts a prompt at every `<image>`, hands each chunk to its own tokenizer, drops the BOS of all chunks but
the first and joins them with -200. Here `<image>` is a token, the template writes BOS, and one call does the rest. All
of it is expressed in `tokenizer.json`, so a saved folder needs none of this code.
"""

import json
from itertools import chain
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from transformers_llava.artifacts.limits import MAX_TOKEN_ID
from transformers_llava.conversion.configs.text import text_model_type
from transformers_llava.conversion.processors.tokenizer_backends import (
    Backend,
    PrefixRule,
    read_backend,
    write_prefix_rule,
)
from transformers_llava.conversion.processors.tokenizer_settings import TokenizerSettings, read_tokenizer_settings
from transformers_llava.conversion.small_files import TOKENIZER_FILES, reading


# For these language models the original's builder takes the fast tokenizer class, for all others the slow one.
_FAST_LANGUAGE_MODELS = {"mistral", "mixtral", "mpt", "qwen2", "qwen2_moe", "gemma"}
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


def load_original_tokenizer(
    folder: str | Path, *, config: dict[str, Any] | None = None, image_token: str = "<image>"
) -> PreTrainedTokenizerFast:
    """
    Build the tokenizer of an original LLaVA checkpoint.

    Args:
        folder (`str` or `Path`):
            holds `tokenizer.model`, `tokenizer.json` or `vocab.json` + `merges.txt`, and usually their settings.
        config (`dict`, *optional*):
            the checkpoint's `config.json`. It says whether the original's builder adds `<im_patch>`, `<im_start>` and
            `<im_end>`, and whether it takes the fast tokenizer class. Leave it out for a language model's own folder.
        image_token (`str`, *optional*, defaults to `"<image>"`):
            becomes a special token with the first free id, unless the folder has it.

    Returns:
        `PreTrainedTokenizerFast`: adds no BOS and no EOS. Contract: its `bos_token` is set exactly if the original's
        tokenizer adds one, so a template that writes `bos_token` writes what the original had.

    Raises:
        ValueError: the folder holds no vocabulary, or one that cannot be read.

    Example:

        >>> tokenizer = load_original_tokenizer("llava-v1.5-7b")  # doctest: +SKIP
        >>> tokenizer.convert_ids_to_tokens(tokenizer("<s>USER: <image>\\nHi").input_ids)  # doctest: +SKIP
        ['<s>', '▁US', 'ER', ':', '▁', '<image>', '▁', '<0x0A>', 'Hi']
    """
    folder = Path(folder)
    with reading(folder, *TOKENIZER_FILES):
        return _load(folder, config or {}, image_token)


def _load(folder: Path, config: dict[str, Any], image_token: str) -> PreTrainedTokenizerFast:
    settings = read_tokenizer_settings(folder)
    loads_fast = bool(config) and text_model_type(config) in _FAST_LANGUAGE_MODELS
    backend = read_backend(folder, settings, loads_fast=loads_fast)
    adds_bos = _adds_bos(backend, settings)
    tokens = _added_tokens(backend, settings, config, image_token)
    _write_pipeline(backend, settings, tokens, image_token)

    by_text = {token.content: token for token in tokens.values()}
    named = dict(settings.named)
    if not adds_bos:
        named.pop("bos_token", None)
    # The originals train with pad = unk. A vocabulary without unk (Llama-3) pads with its end token: labels and
    # attention know a pad by its place, so a genuine token of that id is kept (the original loses every "!" there).
    if padding := named.get("pad_token") or named.get("unk_token") or named.get("eos_token"):
        named["pad_token"] = padding
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(backend.content)),
        **{name: by_text[text] for name, text in named.items()},
        extra_special_tokens=[by_text[text] for text in settings.extra_special if text != image_token],
        model_specific_special_tokens={"image_token": by_text[image_token]},
        padding_side="left",  # the files say "right", which is for training: generate() continues from the end
        clean_up_tokenization_spaces=False,
        **({"model_max_length": settings.model_max_length} if settings.model_max_length else {}),
    )
    vocabulary = tokenizer.get_vocab()
    moved = {token.content: index for index, token in tokens.items() if vocabulary.get(token.content) != index}
    assert not moved, f"added tokens did not get the ids they must have: {moved}"
    return tokenizer


def _adds_bos(backend: Backend, settings: TokenizerSettings) -> bool:
    if settings.adds_bos is not None:
        return settings.adds_bos and "bos_token" in settings.named
    if not backend.content.get("post_processor") or "bos_token" not in settings.named:
        return False
    tokens = Tokenizer.from_str(json.dumps(backend.content)).encode("a").tokens
    return tokens[:1] == [settings.named["bos_token"]]


def _added_tokens(
    backend: Backend, settings: TokenizerSettings, config: dict[str, Any], image_token: str
) -> dict[int, AddedToken]:
    """Every added token by id, ascending: the folder's, then the builder's own additions, then the image token."""
    vocabulary = backend.vocabulary
    tokens: dict[int, AddedToken] = {}
    for entry in backend.content["added_tokens"]:
        flags = {key: bool(entry.get(key, False)) for key in (*_FLAGS, "special")}
        tokens[entry["id"]] = AddedToken(entry["content"], **flags)
    tokens |= settings.added
    ids = {token.content: index for index, token in tokens.items()}
    first_free = max([len(vocabulary) - 1, *vocabulary.values(), *tokens]) + 1

    if first_free > MAX_TOKEN_ID:
        raise ValueError(f"a token has id {first_free - 1}, above {MAX_TOKEN_ID}: every id below would need a row")

    def add(text: str) -> None:
        """Make a text a special token, with the id it has or the first free one."""
        nonlocal first_free
        index = ids.get(text, vocabulary.get(text, first_free))
        first_free = max(first_free, index + 1)
        flags = {name: index in tokens and getattr(tokens[index], name) for name in _FLAGS}
        tokens[index] = AddedToken(text, special=True, **flags)
        ids[text] = index

    for text in chain(settings.named.values(), settings.extra_special):
        add(text)
    # A missing mm_use_im_patch_token counts as true. v0/v1 checkpoints usually have these rows in their files already.
    if config.get("mm_vision_tower") and config.get("mm_use_im_patch_token", True):
        add("<im_patch>")
    if config.get("mm_use_im_start_end", False):
        add("<im_start>")
        add("<im_end>")
    add(image_token)

    for text, index in vocabulary.copy().items():
        if index in tokens and tokens[index].content != text:
            backend.rename(index, text, tokens[index].content)
    for index in range(len(vocabulary), first_free):
        # tokenizers cannot leave an id out, so a placeholder stands where nobody names one.
        tokens.setdefault(index, AddedToken(f"<|unused_{index}|>", special=True))
    return dict(sorted(tokens.items()))


def _write_pipeline(
    backend: Backend, settings: TokenizerSettings, tokens: dict[int, AddedToken], image_token: str
) -> None:
    """Normaliser, added tokens and post-processor: no BOS is added, and "▁" stands where the original puts it."""
    if backend.rule is not None:
        others = [token for token in tokens.values() if token.content != image_token]
        special = [token.content for token in others if token.special]
        other = [token.content for token in others if not token.special]
        write_prefix_rule(backend, special, other, settings.named.get("bos_token"))
    else:
        # Untrimmed offsets: the space of "Ġword" belongs to its token, or an answer's mask would miss its first token.
        backend.content["post_processor"] = {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": False,
            "use_regex": True,
        }
    # Tokens matched after the normaliser has placed "▁"; matched before it, they would get one behind them.
    if backend.rule is None:
        late = {token.content for token in tokens.values() if token.normalized}
    elif backend.rule is PrefixRule.EVERY_CHUNK:
        late = {token.content for token in tokens.values()}
    else:
        late = set(backend.user_defined) - {token.content for token in settings.added.values()}
    backend.content["added_tokens"] = [
        {
            "id": index,
            "content": token.content,
            "single_word": token.single_word,
            "lstrip": token.lstrip,
            "rstrip": token.rstrip,
            "normalized": token.content in late and token.content != image_token,
            "special": token.special,
        }
        for index, token in tokens.items()
    ]
    backend.content["truncation"] = backend.content["padding"] = None


__all__ = ["load_original_tokenizer"]
