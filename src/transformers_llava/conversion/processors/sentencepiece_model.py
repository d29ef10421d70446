"""Read pieces, scores and flags of a `tokenizer.model`, without the sentencepiece and protobuf packages.

A SentencePiece model is a protocol buffer whose few fields we need have been stable since 2018
(`sentencepiece_model.proto`: pieces are field 1, the trainer's settings field 2, the normaliser's settings field 3),
so sixty lines read it and nobody has to install a compiled package to convert a checkpoint.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from transformers_llava.artifacts.limits import MAX_PIECE_LENGTH, MAX_TOKENIZER_BYTES


class PieceType(IntEnum):
    """`SentencePiece.Type` of the format."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Piece:
    text: str
    score: float
    type: PieceType


@dataclass(frozen=True)
class SentencePieceModel:
    """What a tokenizer needs from a `tokenizer.model`; the position of a piece is its id."""

    pieces: tuple[Piece, ...]
    is_bpe: bool
    byte_fallback: bool
    unk_id: int
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    precompiled_charsmap: bytes


def read_sentencepiece_model(path: Path) -> SentencePieceModel:
    """
    Read a SentencePiece model file.

    Raises:
        ValueError: the file is no SentencePiece model, or one of a kind (word, char) no LLaVA language model uses.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TOKENIZER_BYTES + 1)
        if len(data) > MAX_TOKENIZER_BYTES:
            raise KeyError(f"larger than {MAX_TOKENIZER_BYTES // 2**20} MiB")
        return _parse_model(data)
    except (IndexError, struct.error, UnicodeDecodeError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path.name} is no SentencePiece model ({error!r}), so the vocabulary cannot be read. The file may be "
            f"cut short, a Git LFS pointer, or a tiktoken vocabulary; download it again or provide tokenizer.json."
        ) from error


def _parse_model(data: bytes) -> SentencePieceModel:
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in _fields(data):
        if number == 1:
            piece = dict(_fields(_as_bytes(value)))
            pieces.append(
                Piece(
                    text=_as_bytes(piece[1]).decode("utf-8"),
                    score=struct.unpack("<f", _as_bytes(piece.get(2, b"\0\0\0\0")))[0],
                    type=PieceType(_as_int(piece.get(3, 1))),
                )
            )
        elif number == 2:
            trainer = dict(_fields(_as_bytes(value)))
        elif number == 3:
            normalizer = dict(_fields(_as_bytes(value)))
    if any(len(piece.text) > MAX_PIECE_LENGTH for piece in pieces):
        raise KeyError(f"a piece of more than {MAX_PIECE_LENGTH} characters")
    kind = _as_int(trainer.get(3, 1))
    if not pieces or kind not in (1, 2):
        raise KeyError(f"{len(pieces)} pieces, model type {kind}; expected unigram (1) or BPE (2)")
    return SentencePieceModel(
        pieces=tuple(pieces),
        is_bpe=kind == 2,
        byte_fallback=bool(_as_int(trainer.get(35, 0))),
        unk_id=_as_int(trainer.get(40, 0)),
        add_dummy_prefix=bool(_as_int(normalizer.get(3, 1))),
        remove_extra_whitespaces=bool(_as_int(normalizer.get(4, 1))),
        precompiled_charsmap=_as_bytes(normalizer.get(2, b"")),
    )


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The (field number, value) pairs of one protocol buffer message, values still undecoded."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        wire_type = key & 7
        if wire_type == 0:
            value: int | bytes
            value, position = _varint(data, position)
        else:
            if wire_type == 2:
                length, position = _varint(data, position)
            elif wire_type in (1, 5):
                length = 8 if wire_type == 1 else 4
            else:
                raise KeyError(f"wire type {wire_type} at byte {position}")
            if position + length > len(data):
                raise IndexError(f"a field of {length} bytes at byte {position} of {len(data)}")
            value = data[position : position + length]
            position += length
        yield key >> 3, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[position]
        if shift > 63:
            raise KeyError(f"a number of more than 64 bits at byte {position}")
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return number, position


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    raise KeyError(f"expected bytes, found the number {value}")


def _as_int(value: int | bytes) -> int:
    if isinstance(value, int):
        return value
    raise KeyError(f"expected a number, found {len(value)} bytes")


__all__ = ["Piece", "PieceType", "SentencePieceModel", "read_sentencepiece_model"]
