"""A folder of weights to what it is: the digest of its weight files, and the commit of a Hub snapshot."""

import hashlib
import re
from pathlib import Path


_WEIGHTS = ("*.safetensors", "*.bin")


def weights_digest(folder: str | Path) -> str | None:
    """
    One SHA-256 for the weight files of a folder, whatever its own name and place.

    It is the digest of what `sha256sum` lists for them, sorted by name; safetensors files alone where there are
    any, for a repository with both holds the same weights twice.

    Returns:
        `str`: 64 hexadecimal digits; `None` for a folder without weights.
    """
    for pattern in _WEIGHTS:
        files = sorted(Path(folder).glob(pattern))
        if files:
            listing = "".join(f"{file_digest(path)}  {path.name}\n" for path in files)
            return hashlib.sha256(listing.encode()).hexdigest()
    return None


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file, as the Hub shows it for large ones."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def commit_of_snapshot(folder: Path) -> str | None:
    """The commit of a folder inside the Hub cache, whose snapshots are named by it."""
    return folder.name if re.fullmatch(r"[0-9a-f]{40}", folder.name) else None


def weight_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every safetensors file of a folder: what `sha256sum`, and the Hub, show for it."""
    digests = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def combined_digest(digests: dict[str, str]) -> str | None:
    """One digest for all weight files: of a single file its own, of several that of their `sha256sum` listing."""
    if len(digests) <= 1:
        return next(iter(digests.values()), None)
    listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(listing.encode()).hexdigest()


__all__ = ["combined_digest", "commit_of_snapshot", "file_digest", "weight_digests", "weights_digest"]
