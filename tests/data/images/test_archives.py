"""An archive that is exchanged at its place is read anew, also by a process that has read the one before."""

import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from transformers_llava.data.images.archives import archive_reference, read_member


def _write(path: Path, content: bytes) -> None:
    member = path.parent / "1.png"
    member.write_bytes(content)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(member, member.name)
    else:
        with tarfile.open(path, "w") as archive:
            archive.add(member, member.name)


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.parametrize("is_new_file", [True, False])
def test_an_archive_that_was_exchanged_is_read_anew(tmp_path: Path, suffix: str, is_new_file: bool) -> None:
    path = tmp_path / f"images{suffix}"
    _write(path, b"red")
    before = os.stat(path)
    assert read_member(archive_reference(path, "1.png")) == b"red"
    if is_new_file:
        path.unlink()
    _write(path, b"blue and more" if not is_new_file else b"sky")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as `rsync -a` leaves it
    assert read_member(archive_reference(path, "1.png")) == (b"sky" if is_new_file else b"blue and more")
