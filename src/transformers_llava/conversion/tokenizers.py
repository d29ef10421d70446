"""A tokenizer folder of an original checkpoint to one fast tokenizer that gives the original's ids.

The original cuts a prompt at every `<image>`, hands each chunk to its own tokenizer, drops the BOS of all chunks but the
first and joins them with -200. Here `<image>` is a token, one call does all of it, and the template writes BOS. What
is left to reproduce is where a SentencePiece tokenizer puts its "▁" (the space before the first word):

- **every segment**: after each special token (`legacy: true`, which is also meant where the key is absent);
- **every chunk**: only where a text begins (`legacy: false`), which is the start and what follows an `<image>`;
- **never**: vocabularies trained without it (Gemma), and byte-level ones (Qwen, Llama-3, MPT), which have no "▁".

Everything is expressed in `tokenizer.json`, so a saved folder needs none of this code.
"""

import base64
import json
import logging
import re
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from transformers_llava.conversion.sentencepiece_model import (
    PieceType,
    SentencePieceModel,
    read_sentencepiece_model,
)
from transformers_llava.conversion.tokenizer_settings import TokenizerSettings, read_tokenizer_settings


logger = logging.getLogger(__name__)

# The original's builder loads these with the fast class (so tokenizer.json speaks), all others with the slow one.
_FAST_ARCHITECTURES = {"mistral", "mixtral", "mpt", "qwen", "gemma"}
_JsonDict = dict[str, Any]


class PrefixRule(Enum):
    """Where "▁" is put before a text."""

    EVERY_SEGMENT = "every segment"
    EVERY_CHUNK = "every chunk"
    NEVER = "never"


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
    settings = read_tokenizer_settings(folder)
    backend, rule = _vocabulary(folder, settings, config or {})
    adds_bos = _adds_bos(backend, settings)
    tokens = _added_tokens(backend, settings, config or {}, image_token)
    if rule is not None:
        _set_sentencepiece_pipeline(backend, rule, tokens, image_token, settings.named.get("bos_token"))
    else:
        # Untrimmed offsets: the space of "Ġword" belongs to the token, or assistant masks would lose its first token.
        backend["post_processor"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    backend["added_tokens"] = [
        {
            "id": index,
            "content": token.content,
            "single_word": token.single_word,
            "lstrip": token.lstrip,
            "rstrip": token.rstrip,
            # In the chunk rule the normaliser must see a whole chunk, special tokens included.
            "normalized": rule is PrefixRule.EVERY_CHUNK and token.content != image_token,
            "special": token.special,
        }
        for index, token in tokens.items()
    ]
    backend["truncation"] = backend["padding"] = None

    named = dict(settings.named)
    if not adds_bos:
        named.pop("bos_token", None)
    # The originals train with pad = unk; a vocabulary without one (Llama-3) pads with its end token, masked like any pad.
    if padding := named.get("pad_token") or named.get("unk_token") or named.get("eos_token"):
        named["pad_token"] = padding
    by_text = {token.content: token for token in tokens.values()}
    extra = [by_text[text] for text in settings.extra_special if text in by_text and text != image_token]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(backend)),
        **{name: by_text.get(text, text) for name, text in named.items()},
        extra_special_tokens=extra,
        model_specific_special_tokens={"image_token": by_text[image_token]},
        padding_side=settings.padding_side,
        clean_up_tokenization_spaces=False,
        **({"model_max_length": settings.model_max_length} if settings.model_max_length else {}),
    )
    expected = {token.content: index for index, token in tokens.items()}
    actual = tokenizer.get_vocab()
    moved = {text: (index, actual.get(text)) for text, index in expected.items() if actual.get(text) != index}
    assert not moved, f"added tokens did not get their ids (wanted, got): {moved}"
    return tokenizer


def _vocabulary(
    folder: Path, settings: TokenizerSettings, config: dict[str, Any]
) -> tuple[_JsonDict, PrefixRule | None]:
    """The content of a `tokenizer.json`, and its prefix rule; None for byte-level vocabularies."""
    json_file, sentencepiece_file = folder / "tokenizer.json", folder / "tokenizer.model"
    loads_fast = str(config.get("model_type", "")).removeprefix("llava_") in _FAST_ARCHITECTURES
    if sentencepiece_file.is_file() and not (loads_fast and json_file.is_file()):
        model = read_sentencepiece_model(sentencepiece_file)
        rule = PrefixRule.EVERY_SEGMENT if model.add_dummy_prefix else PrefixRule.NEVER
        if settings.is_llama and settings.legacy is False and not loads_fast:
            rule = PrefixRule.EVERY_CHUNK if settings.add_prefix_space else PrefixRule.NEVER
        return _sentencepiece_backend(model), rule
    if json_file.is_file():
        backend = json.loads(json_file.read_text(encoding="utf-8"))
        return backend, _prefix_rule_of_json(backend, None if loads_fast else settings.legacy)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return _byte_level_backend(folder), None
    found = ", ".join(sorted(path.name for path in folder.glob("*token*"))) or "nothing of the kind"
    raise ValueError(
        f"the folder {folder.name!r} holds no vocabulary ({found}), so prompts cannot become ids. It needs tokenizer.model, "
        f"tokenizer.json, or vocab.json with merges.txt; LoRA and projector folders take them from their base model."
    )


def _prefix_rule_of_json(backend: _JsonDict, legacy: bool | None) -> PrefixRule | None:
    """What the pipeline of a `tokenizer.json` does with "▁", where a `legacy` flag does not say it."""
    parts = {part["type"]: part for part in chain(_steps(backend.get("normalizer")), _steps(backend.get("pre_tokenizer")))}
    if "ByteLevel" in parts or not any(token.startswith("▁") for token in backend["model"]["vocab"]):
        return None
    scheme = parts.get("Metaspace", {}).get("prepend_scheme", "always" if "Metaspace" in parts else "never")
    if "Prepend" not in parts and scheme == "never":
        return PrefixRule.NEVER
    if legacy is None:
        return PrefixRule.EVERY_CHUNK if scheme == "first" else PrefixRule.EVERY_SEGMENT
    return PrefixRule.EVERY_SEGMENT if legacy else PrefixRule.EVERY_CHUNK


def _steps(part: _JsonDict | None) -> list[_JsonDict]:
    if part is None:
        return []
    return part.get("normalizers") or part.get("pretokenizers") or [part]


def _sentencepiece_backend(model: SentencePieceModel) -> _JsonDict:
    vocabulary = {piece.text: index for index, piece in enumerate(model.pieces)}
    core: _JsonDict = {"type": "BPE", "dropout": None, "unk_token": model.pieces[model.unk_id].text, "fuse_unk": True}
    if model.is_bpe:
        core |= {"byte_fallback": model.byte_fallback, "vocab": vocabulary, "merges": _merges(model, vocabulary)}
    else:
        core = {"type": "Unigram", "unk_id": model.unk_id, "byte_fallback": model.byte_fallback}
        core["vocab"] = [[piece.text, piece.score] for piece in model.pieces]
    steps: list[_JsonDict] = []
    if model.precompiled_charsmap:
        charsmap = base64.b64encode(model.precompiled_charsmap).decode("ascii")
        steps.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if model.remove_extra_whitespaces:
        steps += [_replace(r"\A +| +\z", ""), _replace(" {2,}", " ")]
    added = [
        {"id": index, "content": piece.text, "special": piece.type is not PieceType.USER_DEFINED}
        for index, piece in enumerate(model.pieces)
        if piece.type in (PieceType.CONTROL, PieceType.UNKNOWN, PieceType.USER_DEFINED)
    ]
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "model": core,
    }


def _merges(model: SentencePieceModel, vocabulary: dict[str, int]) -> list[list[str]]:
    """All ways to build a piece from two, best score first; SentencePiece joins by score, fast BPE by this order."""
    mergeable = {piece.text for piece in model.pieces if piece.type in (PieceType.NORMAL, PieceType.UNUSED)}
    ranked = []
    for piece in model.pieces:
        if piece.type is not PieceType.NORMAL:
            continue
        for cut in range(1, len(piece.text)):
            left, right = piece.text[:cut], piece.text[cut:]
            if left in mergeable and right in mergeable:
                ranked.append((-piece.score, len(left), len(right), vocabulary[piece.text], left, right))
    return [[left, right] for *_, left, right in sorted(ranked)]


def _byte_level_backend(folder: Path) -> _JsonDict:
    """`vocab.json` and `merges.txt` as the Qwen2 tokenizer reads them."""
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": json.loads((folder / "vocab.json").read_text(encoding="utf-8")),
            "merges": [line.split() for line in lines if line and not line.startswith("#version")],
        },
    }


def _adds_bos(backend: _JsonDict, settings: TokenizerSettings) -> bool:
    if settings.adds_bos is not None or not backend.get("post_processor"):
        return bool(settings.adds_bos)
    bos = settings.named.get("bos_token")
    return bos is not None and Tokenizer.from_str(json.dumps(backend)).encode("a").tokens[:1] == [bos]


def _added_tokens(
    backend: _JsonDict, settings: TokenizerSettings, config: dict[str, Any], image_token: str
) -> dict[int, AddedToken]:
    """Every added token by id, in the order of ids, as the original's builder leaves them, then the image token."""
    vocabulary = backend["model"]["vocab"]
    if isinstance(vocabulary, list):
        vocabulary = {text: index for index, (text, _) in enumerate(vocabulary)}
    tokens = {}
    for entry in backend["added_tokens"]:
        flags = {key: bool(entry.get(key, False)) for key in ("single_word", "lstrip", "rstrip", "special")}
        tokens[entry["id"]] = AddedToken(entry["content"], **flags)
    tokens |= settings.added
    ids = {token.content: index for index, token in tokens.items()}

    def add(text: str) -> None:
        """Give a token its id: the one it has, or the first free one."""
        index = ids.get(text, vocabulary.get(text))
        index = max([len(vocabulary) - 1, *vocabulary.values(), *tokens]) + 1 if index is None else index
        old = tokens.get(index)
        keep = {name: getattr(old, name) for name in ("single_word", "lstrip", "rstrip")} if old else {}
        tokens[index] = AddedToken(text, special=True, **keep)
        ids[text] = index

    for text in chain(settings.named.values(), settings.extra_special):
        add(text)
    # The builder's own additions; a checkpoint of the v0/v1 generation usually carries them in its files already.
    if config.get("mm_use_im_patch_token", True) and config.get("mm_vision_tower"):
        add("<im_patch>")
    if config.get("mm_use_im_start_end", False):
        add("<im_start>")
        add("<im_end>")
    add(image_token)

    by_id = {index: text for text, index in vocabulary.items()}
    for index, token in list(tokens.items()):
        if by_id.get(index, token.content) != token.content:
            _rename(backend["model"], by_id[index], token.content, index)
    for index in range(len(vocabulary), max(tokens)):
        # An id nobody names: tokenizers cannot leave a gap, so a placeholder stands in it.
        tokens.setdefault(index, AddedToken(f"<|unused_{index}|>", special=True))
    return dict(sorted(tokens.items()))


def _rename(model: _JsonDict, old: str, new: str, index: int) -> None:
    """Where the settings give an id another text than the vocabulary has (Yi's chat tokens), the settings win."""
    if isinstance(model["vocab"], list):
        model["vocab"][index][0] = new
    else:
        del model["vocab"][old]
        model["vocab"][new] = index
        model["merges"] = [pair for pair in model["merges"] if old not in (*_pair(pair), "".join(_pair(pair)))]


def _pair(merge: str | list[str]) -> list[str]:
    return merge.split(" ", 1) if isinstance(merge, str) else merge


def _set_sentencepiece_pipeline(
    backend: _JsonDict, rule: PrefixRule, tokens: dict[int, AddedToken], image_token: str, bos: str | None
) -> None:
    """Write normaliser, pre-tokenizer, decoder and post-processor of a "▁" vocabulary under one of the prefix rules."""
    steps = [step for step in _steps(backend.get("normalizer")) if step["type"] in ("Precompiled", "Replace")]
    steps = [step for step in steps if step.get("pattern") != {"String": " "}]
    if rule is not PrefixRule.NEVER:
        steps.append({"type": "Prepend", "prepend": "▁"})
    if rule is PrefixRule.EVERY_CHUNK:
        # A chunk is what stands between images, special tokens included: all of them but the image token are matched
        # after these steps. Example: "<s>A b</s>C" -> "▁<s>A b</s>C" -> "<s>A b</s>C" -> "<s>▁A b</s>C"; "</s>C" keeps
        # its bare C. A token's own text runs through here too and must come out as it went in, hence `\z`.
        # \A and \z are the ends of the text; ^ and $ would be those of a line.
        special = "|".join(re.escape(token.content) for token in tokens.values() if token.special)
        other = "|".join(re.escape(token.content) for token in tokens.values() if not token.special)
        steps.append(_replace(rf"\A▁(?=(?:{special}))" + (rf"|\A▁(?=(?:{other})\z)" if other else ""), ""))
        if bos is not None:
            steps.append(_replace(rf"(?<=\A{re.escape(bos)})(?!{special}|\z)", "▁"))
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    backend["normalizer"] = {"type": "Sequence", "normalizers": steps}
    backend["pre_tokenizer"] = backend["post_processor"] = None
    decoders: list[_JsonDict] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if rule is not PrefixRule.NEVER:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    backend["decoder"] = {"type": "Sequence", "decoders": decoders}


def _replace(pattern: str, content: str) -> _JsonDict:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


__all__ = ["PrefixRule", "load_original_tokenizer"]
