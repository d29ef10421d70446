"""Put the data of a run into its publication: the files that its records name, and nothing that lies beside them."""

import shutil
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np

from transformers_llava.artifacts.run_record.mixture_sources import MixtureSource, is_address
from transformers_llava.artifacts.untrusted import path_inside, read_json
from transformers_llava.data.images.download import is_remote
from transformers_llava.data.images.opening import image_size, read_image_bytes
from transformers_llava.data.images.paths import path_in_root
from transformers_llava.data.mixture.config import SourceConfig
from transformers_llava.data.mixture.source import image_root_of, parse_request_of
from transformers_llava.data.records.record_store import ParsedSource, ParseRequest, parse_source
from transformers_llava.data.schema import ImageReference, RecordError
from transformers_llava.hub.recipe_folder import DATA_FOLDER, image_archive


class MissingPartError(ValueError):
    """A part that was to go into the publication is not on this machine any more, or cannot be put there."""


@dataclass
class _Source:
    """One source of one stage, as it was read here."""

    stage: str
    recorded: MixtureSource
    request: ParseRequest
    parsed: ParsedSource
    is_held: bool  # whether the data file goes along; else it is on the Hub
    files: list[str] = field(default_factory=list)
    archive: str | None = None
    members: list[str] = field(default_factory=list)
    num_embedded: int = 0
    num_remote: int = 0


@dataclass
class OwnData:
    """
    Data files and images on their way into a publication.

    Args:
        target (`Path`): The `recipe/` folder of the publication; nothing is written outside of it.
        scratch (`Path`): A temporary folder, for what is parsed.
    """

    target: Path
    scratch: Path
    files: dict[str, Path] = field(default_factory=dict)  # path below `target` -> file of this machine
    archives: dict[str, dict[str, ImageReference]] = field(default_factory=dict)  # path -> member -> image
    sources: list[_Source] = field(default_factory=list)
    _sizes: dict[str, dict[str, int | None]] = field(default_factory=dict)  # None: there is no such image

    def add(self, stage: str, recorded: MixtureSource, here: Mapping[str, str]) -> None:
        """
        Take along what one source names.

        Args:
            stage (`str`): Name of the stage, for messages.
            recorded (`MixtureSource`): As the run record has it: its paths are those inside the publication.
            here (`Mapping`): `path` and `image_root` on this machine, where they are not on the Hub.

        Raises:
            `MissingPartError`: a file is gone, or there is no place for it in the publication.
        """
        is_held, has_root = not is_address(recorded.path), not is_address(recorded.image_root or "")
        if not is_held and (recorded.image_root is None or not has_root):
            return  # all of it is on the Hub
        name = recorded.name
        for what, path in recorded.paths.items():
            if not is_address(path):
                path_inside(self.target / DATA_FOLDER, path, f"`{what}` of source {name!r} in the run record")
        if is_held and not ("path" in here and Path(here["path"]).exists()):
            raise MissingPartError(
                f"the data of source {name!r}: {here.get('path')!r} is not there any more. Put it back, or leave out "
                "--self_contained."
            )
        config = SourceConfig.from_dict({**recorded.to_dict(), **here})
        root = image_root_of(config) if has_root else Path(DATA_FOLDER)  # on the Hub: names are all that is read
        request = parse_request_of(config, root)
        parsed = parse_source(request, cache_dir=self.scratch)
        source = _Source(stage, recorded, request, parsed, is_held)
        self.sources.append(source)
        if is_held:
            self._add_files(source, Path(config.path))
        if has_root:
            self._add_images(source, root)

    def write(self) -> list[Path]:
        """
        Write everything that was added.

        Raises:
            `MissingPartError`: from inside the publication a source reads differently than it did here.
        """
        written = []
        for name, path in sorted(self.files.items()):
            written.append(self._place(name))
            shutil.copyfile(path, written[-1])
        for name, members in sorted(self.archives.items()):
            path = self._place(name)
            self._sizes[name] = _write_archive(path, members)
            if any(size is not None for size in self._sizes[name].values()):
                written.append(path)
            else:
                path.unlink()
        for source in self.sources:
            self._check(source)
        return written

    def describe(self) -> Iterator[str]:
        """One line for each source: how much of it goes along, and from where."""
        lines: dict[str, list[str]] = {}
        for source in self.sources:
            lines.setdefault(self._describe(source), []).append(source.stage)
        for line, stages in lines.items():
            yield f"own data of {', '.join(stages)}: {line}"

    def _add_files(self, source: _Source, path: Path) -> None:
        wanted = f"{DATA_FOLDER}/{source.recorded.path}"
        for part in _data_files(path, source.request.split, self.scratch) if path.is_dir() else [Path()]:
            name = PurePosixPath(wanted, part).as_posix()
            known = self.files.setdefault(name, path / part)
            if known != path / part and known.read_bytes() != (path / part).read_bytes():
                raise _collision(name, str(known), str(path / part))
            source.files.append(name)

    def _add_images(self, source: _Source, root: Path | None) -> None:
        recorded = source.recorded
        is_file = root is not None and root.is_file()
        archive = f"{DATA_FOLDER}/{recorded.image_root}" if is_file else image_archive(recorded)
        copied = {str(self.files[name]) for name in source.files}
        for path in source.parsed.image_paths:
            reference: ImageReference = {"bytes": None, "path": path}
            member = path_in_root(reference, root)
            if path is None or path in copied:
                source.num_embedded += 1
            elif is_remote(path) or member is None:
                source.num_remote += 1
            else:
                source.archive = archive
                source.members.append(member)
                known = self.archives.setdefault(archive, {}).setdefault(member, reference)
                if known != reference and _image_bytes(known) != _image_bytes(reference):
                    raise _collision(f"{archive}::{member}", str(known["path"]), path)

    def _place(self, name: str) -> Path:
        path = path_inside(self.target, name, "the place of a file in the publication")
        hidden = [part for part in PurePosixPath(name).parts if part.startswith(".")]
        if hidden:
            raise MissingPartError(
                f"{name!r} has the hidden folder or file {hidden[0]!r}, which the Hub does not take. Rename it and "
                "train again, or leave out --self_contained."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _check(self, source: _Source) -> None:
        """Reads the copy as anybody will: the same records and images, or it is not self-contained."""
        request, before = source.request, source.parsed
        if Path(request.path).is_dir():
            return  # `datasets` would keep a copy of it in the user's cache; `publish` looks at it before it sends
        path, root = request.path, request.rules.image_root
        if source.is_held:
            path = str(self.target / DATA_FOLDER / source.recorded.path)
            root = Path(path).parent if not is_address(source.recorded.image_root or "") else root
        if source.archive is not None and (self.target / source.archive).is_file():
            root = self.target / source.archive
        copied = replace(request, path=path, rules=replace(request.rules, image_root=root))
        after = parse_source(copied, cache_dir=self.scratch)
        same = len(after.image_paths) == len(before.image_paths) and np.array_equal(
            after.image_numbers, before.image_numbers
        )
        if same and np.array_equal(after.digests, before.digests) and after.report.dropped == before.report.dropped:
            return
        new = after.report.dropped - before.report.dropped
        why = next((str(after.report.examples[reason][0].error()) for reason in new), "")
        raise MissingPartError(
            f"source {source.recorded.name!r} of stage {source.stage} reads differently from inside the "
            f"publication ({dict(new) or 'other records'}), so nobody could train on the same data: {why} Write image "
            "paths that start at `image_root`, train again, or leave out --self_contained."
        )

    def _describe(self, source: _Source) -> str:
        sizes = [self._sizes[source.archive][name] for name in source.members] if source.archive is not None else []
        there = [size for size in sizes if size is not None]
        counts = {
            "named images are not there": len(sizes) - len(there),
            "named files are no images and go as empty ones": there.count(0),
            "images are inside the data": source.num_embedded,
            "images are web addresses and stay there": source.num_remote,
        }
        size = sum(self.files[name].stat().st_size for name in source.files)
        parts = [f"{len(source.files)} data files, {size:,} bytes", f"{len(there)} images, {sum(there):,} bytes"]
        parts += [f"{count} {what}" for what, count in counts.items() if count]
        places = dict.fromkeys(
            [*([source.request.path] if source.is_held else []), str(source.request.rules.image_root)]
        )
        return f"{source.recorded.name}: {'; '.join(parts)}; from {', '.join(places)}"


def _data_files(folder: Path, split: str, scratch: Path) -> list[Path]:
    """The files of a data set in a folder that hold a split, relative to the folder."""
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():  # of `save_to_disk`
        shards = read_json(folder / "state.json").get("_data_files", [])
        names = ["state.json", "dataset_info.json", *(shard["filename"] for shard in shards)]
        return [path_inside(folder, name, "a file of the data set").relative_to(folder) for name in names]
    import datasets

    found = datasets.load_dataset_builder(str(folder), cache_dir=str(scratch / "datasets")).config.data_files or {}
    paths = [Path(str(path)) for path in found.get(split, [])]
    outside = [str(path) for path in paths if not path.is_relative_to(folder.resolve())]
    if outside or not paths:
        raise MissingPartError(
            f"the data set in {str(folder)!r} names {outside or 'no file'} for its split {split!r}, so it cannot be "
            "sent along. Write it as one .jsonl or .parquet file, or leave out --self_contained."
        )
    return sorted({path.relative_to(folder.resolve()) for path in paths})


def _write_archive(path: Path, members: dict[str, ImageReference]) -> dict[str, int | None]:
    """Sorted, without compression and without times, so that the same images give the same file; sizes by member."""
    sizes: dict[str, int | None] = {}
    is_tar = path.suffix.lower() == ".tar"
    archive = tarfile.open(path, "w") if is_tar else zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)  # noqa: SIM115
    with archive:
        for name in sorted(members):
            data = _image_bytes(members[name])
            sizes[name] = None if data is None else len(data)
            if data is None:
                continue
            if isinstance(archive, tarfile.TarFile):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, BytesIO(data))
            else:
                member = zipfile.ZipInfo(name)  # dated 1980
                member.external_attr = 0o644 << 16
                archive.writestr(member, data)
    return sizes


def _image_bytes(reference: ImageReference) -> bytes | None:
    """
    The bytes of an image; `None` where there is none.

    A data file may come from somebody else and name any file below the image root. What is no image was not learnt
    from, and stays here: it is replaced by no bytes at all, which are as unreadable.
    """
    try:
        data = read_image_bytes(reference)
    except RecordError as error:
        return None if error.reason == "missing_image" else b""
    except (ValueError, OSError):  # a compressed tar: nothing is read from it in training either
        return None
    try:
        image_size({"bytes": data, "path": None})
    except RecordError as error:
        return b"" if error.reason == "unreadable_image" else data
    return data


def _collision(name: str, first: str, second: str) -> MissingPartError:
    return MissingPartError(
        f"{first!r} and {second!r} are different files, and both are recorded as {name!r}. One would take the place "
        "of the other. Give the sources different names and train again, or leave out --self_contained."
    )


__all__ = ["MissingPartError", "OwnData"]
