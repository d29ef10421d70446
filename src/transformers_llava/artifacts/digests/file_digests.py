"""
Digest files and weights: SHA-256 everywhere, of one file or of the `sha256sum` listing of several.

What each recorded digest covers:

| recorded as | function | covers |
|---|---|---|
| `sha256` in `manifest.json`, `weights` in `run.json` | `file_digest`, `weight_digests` | the bytes of one file |
| `digest` of a base model in `run.json` | `weights_digest` | the listing of its weight files, also of a single one |
| `weights_sha256` in `run.json` | `combined_digest` | of one weight file its own digest, of several their listing |
| `tensors` in both files | `tensor_digests.tensor_digest` | type, shape and bytes of one tensor, in any sharding |
| `tensors_digest` in `manifest.json` | `tensor_digests.combined_tensor_digest` | names and digests of all tensors |

New code uses the listing: `weights_sha256` differs for one file because published records do.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path


def weights_digest(folder: str | Path) -> str | None:
    """
    One SHA-256 for the weight files of a folder, whatever its own name and place.

    It is the digest of what `sha256sum` lists for them, sorted by name; safetensors files alone where there are
    any, for a repository with both holds the same weights twice.

    Returns:
        `str`: 64 hexadecimal digits; `None` for a folder without weights.
    """
    for suffix in (".safetensors", ".bin"):
        if digests := weight_digests(folder, suffix):
            return listing_digest(digests)
    return None


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file, as the Hub shows it for large ones."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def commit_of_snapshot(folder: Path) -> str | None:
    """The commit of a folder inside the Hub cache, whose snapshots are named by it."""
    return folder.name if is_commit(folder.name) else None


def is_commit(name: str) -> bool:
    """Whether a revision is a whole commit, which names the same content for ever."""
    return re.fullmatch(r"[0-9a-f]{40}", name) is not None


def weight_digests(folder: str | Path, suffix: str = ".safetensors") -> dict[str, str]:
    """SHA-256 of every weight file of a folder, by name."""
    return {path.name: file_digest(path) for path in sorted(Path(folder).glob(f"*{suffix}"))}


def listing_digest(digests: Mapping[str, str]) -> str:
    """The digest of what `sha256sum` prints for some files: a line of digest and name each, sorted by name."""
    listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(listing.encode()).hexdigest()


def combined_digest(digests: Mapping[str, str]) -> str | None:
    """What `weights_sha256` of a run record states: see the table above."""
    return next(iter(digests.values()), None) if len(digests) <= 1 else listing_digest(digests)


__all__ = [
    "combined_digest",
    "commit_of_snapshot",
    "file_digest",
    "is_commit",
    "listing_digest",
    "weight_digests",
    "weights_digest",
]
