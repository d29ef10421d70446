"""Find the letter of an option in free text, by the two rules that lmms-eval's MMBench applies one after the other."""

from collections.abc import Mapping, Sequence


_LETTERS = "ABCDE"
_MARKS = (
    ("", "."),
    ("", ","),
    ("", ":"),
    ("", ")"),
    ("", ")."),
    ("(", ")"),
    ("(", ")."),
    (":", ""),
    (":", ","),
    (":", "."),
    (":", ")"),
    (":", ")."),
)
_MAX_WORDS_BESIDE_A = 3  # in a longer text a lone A may be an article
_PHRASES = (
    "the answer is",
    "answer is",
    "the correct answer is",
    "correct answer is",
    "the best answer is",
    "best answer is",
    "the correct option is",
    "correct option is",
    "the best option is",
    "best option is",
    "the choice is",
    "choice is",
    "the correct choice is",
    "correct choice is",
    "i choose",
    "i select",
    "i pick",
    "my answer is",
    "my choice is",
    "옵션",
    "정답은",
    "답은",
    "답:",
    "答案是",
    "答案为",
    "选",
    "答えは",
)


def infer_option(text: str, options: Mapping[str, str]) -> str:
    """
    MMBench's own rule: the one letter that stands alone or with a mark, else the one option whose text is named.

    Args:
        text (`str`): What the model said.
        options (`Mapping[str, str]`): Letters A to D to their texts.

    Returns:
        `str`: A letter of A to E; empty if none or several qualify.
    """
    return _lone_letter(text) or _named_option(text, options)


def extract_option(text: str, letters: Sequence[str]) -> str:
    """
    lmms-eval's `extract_mcq_answer`: the last letter in the most telling place.

    Places, most telling first: start, end, after a phrase such as "the answer is", in brackets, before a full stop, a
    colon, a bracket, a space; anywhere if there is no other.

    Args:
        text (`str`): What the model said.
        letters (`Sequence[str]`): That count.

    Returns:
        `str`: A letter; empty if there is none.
    """
    text = text.strip()
    if not text:
        return ""
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    text = f" {text} "
    found = _candidates(text, letters) or [(0, text.rfind(letter), letter) for letter in letters if letter in text]
    # The first of equal ones is taken, as a stable sort in falling order does.
    return max(found, key=lambda candidate: candidate[:2])[2] if found else ""


def _lone_letter(text: str) -> str:
    if "Failed to obtain answer via API" in text:
        return ""
    words = text.split()
    alone = [letter for letter in _LETTERS if letter in words]
    if len(alone) == 1 and not ("A" in words and len(words) > _MAX_WORDS_BESIDE_A):
        return alone[0]
    for before, after in _MARKS:
        marked = [letter for letter in _LETTERS if before + letter + after in words]
        if len(marked) == 1:
            return marked[0]
    return ""


def _named_option(text: str, options: Mapping[str, str]) -> str:
    text = text.lower()
    named = [letter for letter, option in options.items() if option.lower() in text]
    return named[0] if len(named) == 1 else ""


def _candidates(text: str, letters: Sequence[str]) -> list[tuple[int, int, str]]:
    """Priority, position, letter."""
    found = []
    for priority, before, after in ((6, "(", ")"), (5, "", "."), (4, "", ":"), (3, "", ")"), (2, "", " ")):
        found += [
            (priority, text.rfind(before + letter + after), letter)
            for letter in letters
            if before + letter + after in text
        ]
    lower = text.lower()
    for phrase in _PHRASES:
        start = lower.find(phrase)
        if start >= 0:
            positions = [(text.find(letter, start + len(phrase)), letter) for letter in letters]
            found += [(7, position, letter) for position, letter in positions if position >= 0]
    stripped = text.strip()
    for letter in letters:
        if stripped.startswith(letter) and (len(stripped) == 1 or not stripped[1].isalpha()):
            found.append((10, 0, letter))
        if stripped.endswith(letter) and (len(stripped) == 1 or not stripped[-2].isalpha()):
            found.append((9, len(text) - 1, letter))
    return found


__all__ = ["extract_option", "infer_option"]
