"""Build the content of a `tokenizer.json` from the vocabulary files of a folder, and say where its "▁" goes.

A SentencePiece tokenizer writes "▁" for a space, and one before the first word. Which words are first differs:

- **every segment**: what follows a special token (`legacy: true`, which is also meant where the key is absent);
- **every chunk**: only what begins a text, which is the start and what follows an `<image>` (`legacy: false`);
- **never**: vocabularies trained without it (Gemma). Byte-level ones (Qwen, Llama-3, MPT) have no "▁" and no rule.
"""

import base64
import logging
import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.untrusted import read_json
from transformers_llava.conversion.processors.sentencepiece_model import (
    PieceType,
    SentencePieceModel,
    read_sentencepiece_model,
)
from transformers_llava.conversion.processors.tokenizer_settings import TokenizerSettings


logger = logging.getLogger(__name__)

JsonDict = dict[str, Any]
SENTENCEPIECE_FILE = "tokenizer.model"


class PrefixRule(Enum):
    """Where "▁" is put before a text."""

    EVERY_SEGMENT = "every segment"
    EVERY_CHUNK = "every chunk"
    NEVER = "never"


@dataclass(frozen=True)
class Backend:
    """
    A vocabulary on its way to a fast tokenizer.

    Attributes:
        content: what `tokenizer.json` will hold; `normalizer` still lacks what the prefix rule adds.
        rule: None for byte-level vocabularies.
        user_defined: pieces SentencePiece never splits, and after which it puts no "▁".
    """

    content: JsonDict
    rule: PrefixRule | None
    user_defined: frozenset[str] = frozenset()

    @property
    def vocabulary(self) -> dict[str, int]:
        vocabulary = self.content["model"]["vocab"]
        return vocabulary if isinstance(vocabulary, dict) else {text: id for id, (text, _) in enumerate(vocabulary)}

    def rename(self, index: int, old: str, new: str) -> None:
        """Give an id another text: where the settings disagree with the vocabulary (Yi's chat tokens), they win."""
        model = self.content["model"]
        if isinstance(model["vocab"], list):
            model["vocab"][index][0] = new
            return
        del model["vocab"][old]
        model["vocab"][new] = index
        pairs = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"]]
        model["merges"] = [pair for pair in pairs if old not in (*pair, "".join(pair))]


def read_backend(folder: Path, settings: TokenizerSettings, *, loads_fast: bool) -> Backend:
    """
    Read the vocabulary of a folder.

    Args:
        folder (`Path`): holds `tokenizer.model`, `tokenizer.json`, or `vocab.json` with `merges.txt`.
        settings (`TokenizerSettings`): of the same folder.
        loads_fast (`bool`): the original takes the fast class here, for which `tokenizer.json` counts and `legacy`
            does not; otherwise it takes the slow class, for which it is the other way round.

    Raises:
        ValueError: there is no vocabulary, or none that can be read.
    """
    json_file, sentencepiece_file = folder / "tokenizer.json", folder / SENTENCEPIECE_FILE
    if sentencepiece_file.is_file() and not (loads_fast and json_file.is_file()):
        return _sentencepiece_backend(read_sentencepiece_model(sentencepiece_file), settings, loads_fast)
    if json_file.is_file():
        content = read_json(json_file)
        return Backend(content, _prefix_rule_of_json(content, None if loads_fast else settings.legacy))
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return Backend(_byte_level_content(folder), None)
    found = ", ".join(sorted(path.name for path in folder.glob("*token*"))) or "nothing of the kind"
    raise ValueError(
        f"the folder {folder.name!r} holds no vocabulary (it has {found}), so prompts cannot become ids. It needs "
        "tokenizer.model, tokenizer.json, or vocab.json with merges.txt; LoRA and projector folders take them from "
        "their base model."
    )


def write_prefix_rule(
    backend: Backend, special: Collection[str], other: Collection[str], bos_token: str | None
) -> None:
    """
    Write normaliser, pre-tokenizer, decoder and post-processor of a "▁" vocabulary.

    Args:
        special, other (`Collection[str]`): the added tokens but the image token, special ones and not.
        bos_token (`str`, *optional*): what the template writes first.
    """
    steps = _steps(backend.content.get("normalizer"))
    steps = [step for step in steps if step["type"] in ("Precompiled", "Replace") and step.get("content") != "▁"]
    if backend.rule is not PrefixRule.NEVER:
        steps.append({"type": "Prepend", "prepend": "▁"})
    # Tokens matched after these steps see their own text pass through them, and it must come out as it went in: `\z`.
    # \A and \z are the ends of the text; ^ and $ would be those of a line.
    if backend.rule is PrefixRule.EVERY_SEGMENT and backend.user_defined:
        steps.append(_replace(rf"\A▁(?={_any_of(backend.user_defined)}\z)", ""))
    if backend.rule is PrefixRule.EVERY_CHUNK:
        # A chunk is what stands between images, special tokens included: all of them but the image token are matched
        # after these steps. "<s>A b</s>C" -> "▁<s>A b</s>C" -> "<s>A b</s>C" -> "<s>▁A b</s>C": "</s>C" keeps its C.
        if other:
            steps.append(_replace(rf"\A▁(?={_any_of(other)}\z)", ""))
        steps.append(_replace(rf"\A▁(?={_any_of(special)})", ""))
        if bos_token is not None:
            steps.append(_replace(rf"(?<=\A{re.escape(bos_token)})(?!{_any_of(special)}|\z)", "▁"))
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    decoders: list[JsonDict] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if backend.rule is not PrefixRule.NEVER:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    backend.content["normalizer"] = {"type": "Sequence", "normalizers": steps}
    backend.content["pre_tokenizer"] = backend.content["post_processor"] = None
    backend.content["decoder"] = {"type": "Sequence", "decoders": decoders}


def _sentencepiece_backend(model: SentencePieceModel, settings: TokenizerSettings, loads_fast: bool) -> Backend:
    core: JsonDict = {"type": "Unigram", "unk_id": model.unk_id, "byte_fallback": model.byte_fallback}
    if model.is_bpe:
        core = {"type": "BPE", "unk_token": model.pieces[model.unk_id].text, "byte_fallback": model.byte_fallback}
        core |= {"dropout": None, "fuse_unk": True, "merges": _merges(model)}
        core["vocab"] = {piece.text: index for index, piece in enumerate(model.pieces)}
    else:
        core["vocab"] = [[piece.text, piece.score] for piece in model.pieces]
    steps: list[JsonDict] = []
    if model.precompiled_charsmap:
        charsmap = base64.b64encode(model.precompiled_charsmap).decode("ascii")
        steps.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if model.remove_extra_whitespaces:
        steps += [_replace(r"\A[ ▁]+|[ ▁]+\z", ""), _replace("[ ▁]{2,}", " ")]
    content = {
        "version": "1.0",
        "added_tokens": [
            {"id": index, "content": piece.text, "special": piece.type is not PieceType.USER_DEFINED}
            for index, piece in enumerate(model.pieces)
            if piece.type in (PieceType.CONTROL, PieceType.UNKNOWN, PieceType.USER_DEFINED)
        ],
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "model": core,
    }
    rule = PrefixRule.EVERY_SEGMENT if model.add_dummy_prefix else PrefixRule.NEVER
    if settings.is_llama and settings.legacy is False and not loads_fast:
        rule = PrefixRule.EVERY_CHUNK if settings.add_prefix_space else PrefixRule.NEVER
    if rule is PrefixRule.EVERY_CHUNK and model.remove_extra_whitespaces:
        # SentencePiece strips between special tokens, which a normaliser that sees the whole chunk cannot tell apart.
        logger.warning(
            "%s: this vocabulary removes extra spaces and is not `legacy`; spaces beside special tokens keep their "
            "own ids. No Llama vocabulary is built that way; `legacy: true` in tokenizer_config.json avoids it.",
            SENTENCEPIECE_FILE,
        )
    user_defined = frozenset(piece.text for piece in model.pieces if piece.type is PieceType.USER_DEFINED)
    return Backend(content, rule, user_defined)


def _merges(model: SentencePieceModel) -> list[list[str]]:
    """All ways to build a piece from two, best score first: SentencePiece joins by score, fast BPE in this order."""
    mergeable = {piece.text for piece in model.pieces if piece.type in (PieceType.NORMAL, PieceType.UNUSED)}
    ranked = []
    for index, piece in enumerate(model.pieces):
        if piece.type is PieceType.NORMAL:
            for cut in range(1, len(piece.text)):
                left, right = piece.text[:cut], piece.text[cut:]
                if left in mergeable and right in mergeable:
                    ranked.append((-piece.score, len(left), len(right), index, left, right))
    return [[left, right] for *_, left, right in sorted(ranked)]


def _prefix_rule_of_json(content: JsonDict, legacy: bool | None) -> PrefixRule | None:
    """What the pipeline of a `tokenizer.json` does with "▁", where no `legacy` flag says it."""
    steps = chain(_steps(content.get("normalizer")), _steps(content.get("pre_tokenizer")))
    by_type = {step["type"]: step for step in steps}
    if "ByteLevel" in by_type or not ("Prepend" in by_type or "Metaspace" in by_type or _has_space_pieces(content)):
        return None
    # Before tokenizers 0.15 a Metaspace said `add_prefix_space` in place of `prepend_scheme`.
    metaspace = by_type.get("Metaspace", {"prepend_scheme": "never"})
    scheme = metaspace.get("prepend_scheme", "always" if metaspace.get("add_prefix_space", True) else "never")
    if "Prepend" not in by_type and scheme == "never":
        return PrefixRule.NEVER
    is_legacy = scheme != "first" if legacy is None else legacy
    return PrefixRule.EVERY_SEGMENT if is_legacy else PrefixRule.EVERY_CHUNK


def _has_space_pieces(content: JsonDict) -> bool:
    return any((piece if isinstance(piece, str) else piece[0]).startswith("▁") for piece in content["model"]["vocab"])


def _byte_level_content(folder: Path) -> JsonDict:
    """`vocab.json` and `merges.txt` as the Qwen2 tokenizer reads them."""
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    rest = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": words + rest}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": read_json(folder / "vocab.json"),
            "merges": [line.split() for line in lines if line and not line.startswith("#version")],
        },
    }


def _steps(part: JsonDict | None) -> list[JsonDict]:
    if part is None:
        return []
    return part["normalizers"] if "normalizers" in part else part.get("pretokenizers", [part])


def _any_of(texts: Collection[str]) -> str:
    return "(?:" + "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True)) + ")"


def _replace(pattern: str, content: str) -> JsonDict:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


__all__ = ["Backend", "PrefixRule", "SENTENCEPIECE_FILE", "read_backend", "write_prefix_rule"]
