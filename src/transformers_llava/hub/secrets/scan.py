"""Look through a folder that is about to be published for what must not leave: secrets, private paths, own names."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers_llava.artifacts.limits import SCAN_MAX_FINDINGS, SCAN_OVERLAP
from transformers_llava.hub.secrets.pieces import Piece, Reading, read_pieces
from transformers_llava.hub.secrets.rules import Match, Rule, find, load_rules, name_rules


@dataclass(frozen=True)
class Finding:
    """
    Something that must not be published.

    Args:
        path (`str`): File, from the publication's folder on; after `!` where in it.
        line (`int`): Its line, from 1.
        kind (`str`): What it is.
        excerpt (`str`): Enough of it to find it; of a secret only its beginning.
    """

    path: str
    line: int
    kind: str
    excerpt: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind} ({self.excerpt})"


@dataclass(frozen=True)
class Unread:
    """Some bytes of a file that were not looked into, and why."""

    path: str
    reason: str
    num_bytes: int

    def __str__(self) -> str:
        return f"{self.path} ({self.reason}, {self.num_bytes:,} bytes)"


@dataclass(frozen=True)
class ScanReport:
    """
    What a scan came to.

    Args:
        findings (`list[Finding]`): In the order of files and lines; empty if the folder may leave.
        unread (`list[Unread]`): What was not looked into.
    """

    findings: list[Finding]
    unread: list[Unread]

    def describe(self) -> list[str]:
        """What was not looked into, by reason: one line each, with the largest files by name."""
        lines = []
        for reason in dict.fromkeys(one.reason for one in self.unread):
            files = sorted((one for one in self.unread if one.reason == reason), key=lambda one: -one.num_bytes)
            named = ", ".join(f"{one.path} {one.num_bytes:,}" for one in files[:3])
            others = f" and {len(files) - 3} more files" if len(files) > 3 else ""
            total = sum(one.num_bytes for one in files)
            lines.append(f"not read by the scan for secrets: {reason}, {total:,} bytes ({named}{others})")
        return lines


# Texts of the data, words of a tokenizer: not what people and programs wrote about this machine.
_VOCABULARIES = {"tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json", "tokenizer.model"}
_SHORTEST_IN_BINARY = 12  # characters of a path among bytes: shorter ones turn up by chance


def scan_folder(folder: str | Path) -> ScanReport:
    """
    Looks into every file of a folder: texts, and the texts in archives, tables, weights, pickles and images.

    What comes from data files and tokenizers is read for secrets and not for names or paths: a caption may well say
    `/home/page`, and it is what the publication is about.

    Args:
        folder (`str`): What would be uploaded.

    Returns:
        `ScanReport`: findings, and what was not looked into.
    """
    folder = Path(folder)
    findings: list[Finding] = []
    unread: list[Unread] = []
    rules = (*load_rules(), *name_rules())
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        reading = Reading(path.relative_to(folder).as_posix())
        of_data = path.name in _VOCABULARIES or reading.name.startswith("recipe/data/")
        applied = [rule for rule in rules if rule.in_data] if of_data else rules
        findings += _listed(list(_scan_pieces(read_pieces(path, reading), applied)))
        unread += [Unread(reading.name, reason, size) for reason, size in reading.unread.items() if size]
    return ScanReport(findings, unread)


def _scan_pieces(pieces: Iterator[Piece], rules: Sequence[Rule]) -> Iterator[Finding]:
    before, line, shown = "", 1, set[tuple[str, int]]()
    for piece in pieces:
        if not piece.is_continued:
            before, line, shown = "", 1, set()
        text = before + piece.text
        kept = text[-SCAN_OVERLAP:]
        offset = len(text) - len(kept)
        again = set()
        for match in find(text, rules):
            if match.start >= offset:
                again.add((match.kind, match.start - offset))
            if (match.kind, match.start) in shown or (piece.is_binary and not _stands_out(match)):
                continue
            number = line + text.count("\n", 0, match.start)
            yield Finding(piece.name, number, match.kind, match.excerpt)
        line += text.count("\n", 0, offset)
        before, shown = kept, again


def _stands_out(match: Match) -> bool:
    return match.excerpt.endswith("...") or (match.excerpt.isascii() and len(match.excerpt) >= _SHORTEST_IN_BINARY)


def _listed(findings: list[Finding]) -> list[Finding]:
    """Of each kind the first ones, and how many more there are."""
    findings.sort(key=lambda one: (one.path, one.line))
    counts: Counter[str] = Counter()
    listed = []
    for one in findings:
        counts[one.kind] += 1
        if counts[one.kind] <= SCAN_MAX_FINDINGS:
            listed.append(one)
    for kind, count in counts.items():
        if count > SCAN_MAX_FINDINGS:
            last = next(one for one in reversed(findings) if one.kind == kind)
            listed.append(Finding(last.path, last.line, kind, f"and {count - SCAN_MAX_FINDINGS:,} more like it"))
    return listed


__all__ = ["Finding", "ScanReport", "Unread", "scan_folder"]
