"""Sign a publication, and check a signature, with OpenSSF's `model-signing`; an option, for those who have a key."""

from pathlib import Path
from typing import Any

from transformers_llava.hub.publication.manifest import MANIFEST_NAME, NOT_LISTED, NOT_LISTED_FOLDERS


SIGNATURE_NAME = "model.sig"
_INSTALL = "Install it with `pip install transformers-llava[sign]`."


class SigningError(ValueError):
    """It cannot be signed, or the signature is not that of the holder of this key."""


def sign(folder: Path, private_key: Path) -> Path:
    """
    Signs everything in a publication but the card, with an elliptic-curve key in a PEM file.

    Raises:
        `SigningError`: no `model-signing`, or the key is none.
    """
    signing = _module("signing")
    path = folder / SIGNATURE_NAME
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=private_key)
        config.set_hashing_config(_what_is_signed()).sign(folder, path)
    except Exception as error:  # of several libraries below
        raise SigningError(
            f"{private_key.name!r} did not sign: {error}. Use an EC key (P-256) in PEM form."
        ) from error
    return path


def check(folder: Path, public_key: Path) -> None:
    """
    Proves that the holder of the key's other half signed exactly these files.

    Raises:
        `SigningError`: no `model-signing`, another key, or other files.
    """
    verifying = _module("verifying")
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
        config.set_hashing_config(_what_is_signed()).verify(folder, folder / SIGNATURE_NAME)
    except Exception as error:
        raise SigningError(f"the signature does not hold for {public_key.name}: {error}") from error


def _what_is_signed() -> Any:
    """
    Everything that the manifest lists, and the manifest.

    The names are relative: the library puts them behind the folder's. In the Hub's cache every file is a link, so
    links are followed; `verify` has refused those that lead out of the publication before.
    """
    ignored = [*sorted(NOT_LISTED - {MANIFEST_NAME}), *NOT_LISTED_FOLDERS]
    config = _module("hashing").Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)
    return config.set_allow_symlinks(True)


def _module(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"model_signing.{name}")
    except ImportError as error:
        raise SigningError(f"signatures need `model-signing`, which is not here ({error}). {_INSTALL}") from error


__all__ = ["SIGNATURE_NAME", "SigningError", "check", "sign"]
