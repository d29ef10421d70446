"""Fetch transformers' own test mixins into a cache folder; nothing of them lies in this repository.

The source distribution on PyPI has the common mixins (`tests/test_*.py`) and lacks the testers of image-text models
and the tests of generation. They are in the repository at the tag of the same version, which pip downloads as an
archive. Where that address cannot be reached, `--repository` names a clone; without one, models cannot be examined,
and the processors still are.
"""

import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


ARCHIVE = "https://github.com/huggingface/transformers/archive/refs/tags/v{version}.tar.gz"
# What the mixins import and `make install` does not bring.
PACKAGES = ["parameterized", "pytest-timeout", "timeout-decorator", "httpx", "httpcore", "h11", "anyio", "sniffio"]
PACKAGES += ["certifi", "idna"]
PATHS = ["tests", "conftest.py", "utils"]
_REPOSITORY_ONLY = "tests/vlm_tester.py"


@dataclass(frozen=True)
class Suite:
    """
    Args:
        folder: Holds `tests/`; the working directory of a run.
        site: Packages that the tests need.
        origin: Where the files come from, for the record.
        has_models: Whether the tests of models are there, and not those of processors alone.
    """

    folder: Path
    site: Path
    origin: str
    has_models: bool


def prepare(cache: Path, repository: Path | None = None, revision: str = "HEAD") -> Suite:
    """
    Makes the folder, or finds the one that was made before.

    Args:
        cache: Where to put it.
        repository: A clone of transformers, for machines that do not reach its archive.
        revision: Commit of that clone whose tests are taken for what PyPI's source distribution lacks.
    """
    installed = version("transformers")
    folder, site = cache / installed / "suite", cache / installed / "site"
    origin_file = folder / "ORIGIN"
    has_models = (folder / _REPOSITORY_ONLY).is_file()
    if not origin_file.is_file() or (repository is not None and not has_models):
        folder.mkdir(parents=True, exist_ok=True)
        if repository is not None:
            origin = _from_clone(repository, revision, folder)
            _from_sdist(installed, folder)
        elif _from_address(ARCHIVE.format(version=installed), folder):
            origin = f"the repository at v{installed}"
        else:
            _from_sdist(installed, folder)
            origin = "nothing else: the repository could not be reached"
        (folder / "src").mkdir(exist_ok=True)
        link = folder / "src" / "transformers"
        if not link.exists():
            import transformers

            link.symlink_to(Path(transformers.__file__).parent)
        for package in ("tests", "tests/models"):
            if (folder / package).is_dir():
                (folder / package / "__init__.py").touch()
        origin_file.write_text(origin + "\n", encoding="utf-8")
    if not site.is_dir():
        _pip("install", "--quiet", "--no-deps", "--target", str(site), *PACKAGES)
    has_models = (folder / _REPOSITORY_ONLY).is_file()
    return Suite(folder, site, origin_file.read_text(encoding="utf-8").strip(), has_models)


def default_cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "transformers_llava_conformance"


def _from_address(address: str, folder: Path) -> bool:
    downloads = folder / "downloads"
    try:
        _pip("download", "--quiet", "--no-deps", "--no-build-isolation", "--dest", str(downloads), address)
    except subprocess.CalledProcessError:
        return False
    _unpack(next(iter(downloads.glob("*.tar.gz"))), folder)
    return True


def _from_sdist(installed: str, folder: Path) -> None:
    downloads = folder / "downloads"
    command = ["download", "--quiet", "--no-deps", "--no-build-isolation", "--no-binary", "transformers"]
    _pip(*command, "--dest", str(downloads), f"transformers=={installed}")
    _unpack(downloads / f"transformers-{installed}.tar.gz", folder)


def _from_clone(repository: Path, revision: str, folder: Path) -> str:
    git = ["git", "-C", str(repository)]
    commit = subprocess.run([*git, "log", "-1", "--format=%h of %cs", revision], check=True, capture_output=True)
    archive = folder / "clone.tar"
    subprocess.run([*git, "archive", "--output", str(archive), revision, *PATHS], check=True)
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    archive.unlink()
    return f"a clone of the repository at {commit.stdout.decode().strip()}"


def _unpack(archive: Path, folder: Path) -> None:
    """`tests/`, `utils/` and `conftest.py` of a source archive, whose names begin with a folder of their own."""
    with tarfile.open(archive) as files:
        for member in files:
            _, _, name = member.name.partition("/")
            if name in PATHS or name.startswith(("tests/", "utils/")):
                member.name = name
                files.extract(member, folder, filter="data")


def _pip(*arguments: str) -> None:
    """Quietly; what pip said is shown if it fails for another reason than an address out of reach."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        if not arguments[-1].startswith("https://"):
            print(done.stderr[-2000:], file=sys.stderr)
        raise subprocess.CalledProcessError(done.returncode, command)


__all__ = ["Suite", "default_cache", "prepare"]
