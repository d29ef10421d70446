"""Image references to verdicts: each picture is looked at once, before training and not in the middle of it."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import Literal, NamedTuple

from tqdm.auto import tqdm

from transformers_llava.data.images import check_image
from transformers_llava.data.schema import ImageReference, RecordError


VerificationLevel = Literal["decode", "header", "none"]


class ImageVerdict(NamedTuple):
    """What a look at one picture gave: the SHA-256 of its bytes (level `decode` only), or why it cannot be used."""

    sha256: str | None
    error: RecordError | None


def check_level(level: str) -> None:
    if level not in ("decode", "header", "none"):
        raise ValueError(
            f"verify_images must be 'decode' (finds truncated pictures), 'header' or 'none', not {level!r}."
        )


def verify_images(
    references: Sequence[ImageReference],
    *,
    level: VerificationLevel = "decode",
    num_proc: int | None = None,
    name: str,
) -> list[ImageVerdict]:
    """
    Look at each picture once.

    Args:
        references (`list`):
            Distinct references.
        level (`str`, *optional*, defaults to `"decode"`):
            `decode` decodes every pixel and finds truncated files, `header` reads the size, `none` only looks whether
            the file is there.
        num_proc (`int`, *optional*):
            Threads (Pillow decodes outside the interpreter lock, so threads do it without copies); by default one per
            core.
        name (`str`):
            What the progress bar calls it. The bar appears after two seconds.

    Returns:
        `list[ImageVerdict]`: in the order of `references`, whatever the number of workers.
    """
    check_level(level)

    def verdict(reference: ImageReference) -> ImageVerdict:
        try:
            return ImageVerdict(check_image(reference, level), None)
        except RecordError as error:
            return ImageVerdict(None, error)

    num_workers = max(1, num_proc or cpu_count() or 1)
    if num_workers == 1 or len(references) < 2:
        return list(_with_progress(map(verdict, references), len(references), name))
    with ThreadPoolExecutor(num_workers, thread_name_prefix="verify-images") as pool:
        return list(_with_progress(pool.map(verdict, references), len(references), name))


def _with_progress(verdicts: Iterable[ImageVerdict], total: int, name: str) -> Iterable[ImageVerdict]:
    return tqdm(verdicts, total=total, desc=f"images of {name}", unit="image", delay=2.0, mininterval=0.5)


__all__ = ["ImageVerdict", "VerificationLevel", "check_level", "verify_images"]
