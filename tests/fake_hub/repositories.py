"""Tell what the Hub says of a bare git repository, and apply a commit's operations as one atomic move of a ref."""

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fake_hub.errors import HubError, no_file, no_revision, overtaken
from tests.fake_hub.storage import ObjectStore, Pointer, parse_pointer


ABSENT = "0" * 40  # git's name for "there is no such object"
DATE = "%Y-%m-%dT%H:%M:%S.000Z"  # the client insists on the milliseconds
LFS_SUFFIXES = (
    *("safetensors", "bin", "pt", "pth", "ckpt", "onnx", "h5", "msgpack", "npy", "npz", "arrow", "parquet", "gguf"),
    *("zip", "gz", "tar", "jpg", "jpeg", "png"),
)
_ATTRIBUTES = "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()
_LARGEST_POINTER = 200  # bytes; a pointer has about 130
_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,  # the user's own git settings change nothing
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "loopback",
    "GIT_AUTHOR_EMAIL": "loopback@localhost",
    "GIT_COMMITTER_NAME": "loopback",
    "GIT_COMMITTER_EMAIL": "loopback@localhost",
    "TZ": "UTC",
}


@dataclass(frozen=True)
class Entry:
    """One line of a tree. `oid` is git's; a large file has a `pointer` to its content in the object store."""

    path: str
    oid: str
    size: int
    is_folder: bool = False
    pointer: Pointer | None = None


@dataclass(frozen=True)
class Commit:
    oid: str
    title: str
    message: str
    date: str
    author: str


@dataclass(frozen=True)
class Put:
    """The blob `oid` (already in the repository) becomes the file `path`."""

    path: str
    oid: str


@dataclass(frozen=True)
class Remove:
    """The file `path`, or with a final slash the folder, goes."""

    path: str


Operation = Put | Remove


def now() -> str:
    return time.strftime(DATE, time.gmtime())


class Repository:
    """One bare repository `<root>/<type>s/<repo_id>.git`; its facts that git has no place for lie in `hub.json`."""

    def __init__(self, root: Path, repo_type: str, repo_id: str):
        self.root, self.repo_type, self.repo_id = root, repo_type, repo_id
        self.path = root / f"{repo_type}s" / f"{repo_id}.git"
        self.store = ObjectStore(root)

    def exists(self) -> bool:
        return (self.path / "hub.json").is_file()

    def create(self, *, private: bool = False) -> None:
        """A first commit with `.gitattributes`, as the Hub makes it."""
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(self.path)], check=True, env=_environment())
        self.commit("main", "initial commit", [Put(".gitattributes", self.add_blob(_ATTRIBUTES))])
        self.facts = {"private": private, "created": now(), "discussions": []}

    @property
    def facts(self) -> dict:
        return json.loads((self.path / "hub.json").read_text(encoding="utf-8"))

    @facts.setter
    def facts(self, value: dict) -> None:
        (self.path / "hub.json").write_text(json.dumps(value), encoding="utf-8")

    # Reading

    def refs(self, prefix: str = "refs/") -> dict[str, str]:
        """Full name of each ref to the commit it means; of an annotated tag, the commit that was tagged."""
        lines = self._git("for-each-ref", "--format=%(objectname) %(*objectname) %(refname)", prefix).splitlines()
        return {name: peeled or oid for oid, peeled, name in (line.split(" ") for line in lines)}

    def resolve(self, revision: str) -> str:
        """Branch, tag, full ref or (short) commit to the commit. Raises `HubError` 404 `RevisionNotFound`."""
        names = [f"refs/heads/{revision}", f"refs/tags/{revision}"]
        if revision.startswith("refs/") or re.fullmatch("[0-9a-f]{7,40}", revision):
            names.append(revision)
        for name in names:
            if oid := self._parse(f"{name}^{{commit}}"):
                return oid
        raise no_revision(revision)

    def tag_message(self, tag: str) -> str:
        """Empty for a tag without an object of its own."""
        return self._git("for-each-ref", "--format=%(if:equals=tag)%(objecttype)%(then)%(contents)%(end)",
                         f"refs/tags/{tag}").strip()  # fmt: skip

    def commits(self, revision: str = "main", path: str | None = None) -> list[Commit]:
        """Newest first."""
        form = "%H%x00%s%x00%b%x00%cd%x00%an%x1e"
        arguments = ["log", f"--date=format:{DATE}", f"--format={form}", self.resolve(revision)]
        text = self._git(*arguments, *(["--", path] if path else []))
        fields = [record.strip("\n").split("\0") for record in text.split("\x1e") if record.strip()]
        return [Commit(oid, title, body.strip(), date, author) for oid, title, body, date, author in fields]

    def entries(self, revision: str = "main", folder: str = "", *, recursive: bool = True) -> list[Entry]:
        """Files and folders. Raises `HubError` 404: no such revision or folder."""
        commit = self.resolve(revision)
        listed = self._run("ls-tree", "-l", "-z", *(["-r", "-t"] if recursive else []), f"{commit}:{folder}")
        if listed.returncode:
            raise no_file(folder, commit)
        rows = []
        for line in filter(None, listed.stdout.decode().split("\0")):
            (_, kind, oid, size), name = line.split("\t", 1)[0].split(), line.split("\t", 1)[1]
            rows.append((f"{folder}/{name}" if folder else name, kind, oid, 0 if kind == "tree" else int(size)))
        small = self._read_blobs(oid for _, kind, oid, size in rows if kind == "blob" and size <= _LARGEST_POINTER)
        return [self._entry(path, kind, oid, size, small.get(oid)) for path, kind, oid, size in rows]

    def files(self, revision: str = "main") -> dict[str, Entry]:
        return {entry.path: entry for entry in self.entries(revision) if not entry.is_folder}

    def file(self, revision: str, path: str) -> Entry:
        """Raises `HubError` 404 `EntryNotFound`, which says the commit that was looked in."""
        commit, folder = self.resolve(revision), path.rpartition("/")[0]
        for entry in self.entries(commit, folder, recursive=False):
            if entry.path == path and not entry.is_folder:
                return entry
        raise no_file(path, commit)

    def read_blob(self, oid: str) -> bytes:
        return self._run("cat-file", "blob", oid, check=True).stdout

    def read(self, path: str, revision: str = "main") -> bytes:
        """Content of a file as a user downloads it, large or small."""
        entry = self.file(revision, path)
        return self.store.path(entry.pointer.sha256).read_bytes() if entry.pointer else self.read_blob(entry.oid)

    # Writing

    def add_blob(self, content: bytes) -> str:
        return self._git("hash-object", "-w", "--stdin", stdin=content).strip()

    def commit(
        self, ref: str, title: str, operations: Sequence[Operation], *, body: str = "", parent: str | None = None
    ) -> str:
        """
        Writes one commit and moves `ref` to it, if nothing else has moved it meanwhile: all operations or none.

        Args:
            parent (`str`, *optional*): the (short) commit at which `ref` must still be.

        Raises: `HubError` 412: `ref` is elsewhere.
        """
        ref = ref if ref.startswith("refs/") else f"refs/heads/{ref}"
        head = self._parse(ref)
        if parent and not (head or "").startswith(parent):
            raise overtaken()
        with tempfile.TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": f"{folder}/index"}
            self._git("read-tree", *([head] if head else ["--empty"]), environment=index)
            lines = [line for operation in operations for line in self._index_lines(operation, head)]
            self._git("update-index", "--index-info", stdin="".join(lines).encode(), environment=index)
            tree = self._git("write-tree", environment=index).strip()
        return self.land(ref, tree, title, body=body, head=head)

    def land(self, ref: str, tree: str, title: str, *, body: str = "", head: str | None) -> str:
        """A commit of `tree` on top of `head`, to which `ref` moves by compare-and-swap."""
        message = f"{title}\n\n{body}\n" if body else f"{title}\n"
        parents = ["-p", head] if head else []
        commit = self._git("commit-tree", tree, *parents, "-F", "-", stdin=message.encode()).strip()
        if self._run("update-ref", ref, commit, head or ABSENT).returncode:
            raise overtaken()
        return commit

    def merged_tree(self, ours: str, theirs: str) -> str:
        """Tree of a merge that git can do alone. Raises `HubError` 409: it cannot."""
        merged = self._run("merge-tree", "--write-tree", ours, theirs)
        if merged.returncode:
            raise HubError(409, "This pull request has conflicts with its base and cannot be merged.")
        return merged.stdout.decode().split()[0]

    def create_ref(self, ref: str, commit: str, message: str | None = None) -> None:
        """Raises `HubError` 409: `ref` exists."""
        if self._parse(ref):
            raise HubError(409, f"Reference already exists: {ref}")
        if message:
            self._git("tag", "-a", "-m", message, ref.removeprefix("refs/tags/"), commit)
        else:
            self._git("update-ref", ref, commit, ABSENT)

    def delete_ref(self, ref: str) -> None:
        if not self._parse(ref):
            raise no_revision(ref)
        self._git("update-ref", "-d", ref)

    def diff(self, ours: str, theirs: str) -> str:
        return self._git("diff", f"{ours}...{theirs}")

    # Privately

    def _entry(self, path: str, kind: str, oid: str, size: int, content: bytes | None) -> Entry:
        pointer = parse_pointer(content) if content is not None else None
        return Entry(path, oid, pointer.size if pointer else size, kind == "tree", pointer)

    def _index_lines(self, operation: Operation, head: str | None) -> Iterable[str]:
        if isinstance(operation, Put):
            yield f"100644 {operation.oid}\t{operation.path}\n"
        elif operation.path.endswith("/"):
            for entry in self.entries(head or ABSENT, operation.path.rstrip("/")):
                if not entry.is_folder:
                    yield f"0 {ABSENT}\t{entry.path}\n"
        else:
            yield f"0 {ABSENT}\t{operation.path}\n"

    def _parse(self, name: str) -> str | None:
        found = self._run("rev-parse", "--verify", "-q", name)
        return None if found.returncode else found.stdout.decode().strip()

    def _read_blobs(self, oids: Iterable[str]) -> dict[str, bytes]:
        """Many small blobs with one process: `<oid> blob <size>`, a newline, the bytes, a newline, and so on."""
        wanted = sorted(set(oids))
        data = self._run("cat-file", "--batch", stdin="\n".join([*wanted, ""]).encode(), check=True).stdout
        contents, position = {}, 0
        for oid in wanted:
            start = data.index(b"\n", position) + 1
            size = int(data[position:start].split()[2])
            contents[oid], position = data[start : start + size], start + size + 1
        return contents

    def _git(self, *arguments: str, stdin: bytes = b"", environment: dict[str, str] | None = None) -> str:
        return self._run(*arguments, stdin=stdin, environment=environment, check=True).stdout.decode()

    def _run(
        self, *arguments: str, stdin: bytes = b"", environment: dict[str, str] | None = None, check: bool = False
    ) -> subprocess.CompletedProcess[bytes]:
        command = ["git", "-C", str(self.path), *arguments]
        variables = _environment() | (environment or {})
        done = subprocess.run(command, input=stdin, capture_output=True, env=variables, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode().strip()}")
        return done


def _environment() -> dict[str, str]:
    return os.environ | _ENVIRONMENT
