"""A predictions file is read back as it was written, at any byte where its writing stopped; damage is named."""

from dataclasses import replace
from pathlib import Path

import pytest

from transformers_llava.artifacts.evaluation_files.predictions import (
    Prediction,
    PredictionsError,
    PredictionsHeader,
    header_line,
    prediction_line,
    read_predictions,
    resume_predictions,
    text_digest,
)


HEADER = PredictionsHeader(
    task="pope",
    protocol="llava-1.5",
    protocol_version="haotian-liu/LLaVA@c121f04",
    model="tiny",
    model_digest="a" * 64,
    model_revision=None,
    chat_template=text_digest("{{ messages }}"),
    decoding={"do_sample": False, "temperature": 0.0, "top_p": None, "until": ("ASSISTANT:",)},
    versions={"transformers": "5.23.0"},
    data_digest="b" * 64,
    num_questions=2,
    num_available=2,
)
ANSWERS = (
    Prediction(0, "c" * 64, "d" * 64, (3681, 2), "Yes", "end"),
    Prediction("a.jpg#2", "e" * 64, None, (), "so long \u2028 \U0001f600 \n", "length"),
)
CONTENT = header_line(HEADER) + "".join(map(prediction_line, ANSWERS))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pope.jsonl"
    path.write_text(CONTENT)
    found = read_predictions(path)
    assert found.predictions == ANSWERS
    assert replace(found.header, decoding=HEADER.decoding) == HEADER
    assert found.texts == {0: "Yes", "a.jpg#2": ANSWERS[1].text}
    assert (found.num_missing, found.num_bytes_lost, found.is_partial, found.notes) == (0, 0, False, ())


def test_a_file_cut_anywhere_is_counted_or_refused_and_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "pope.jsonl"
    ends = {i + step for i, character in enumerate(CONTENT) if character == "\n" for step in (-1, 0, 1)}
    for size in sorted(ends | set(range(0, len(CONTENT), 97))):
        path.write_text(CONTENT[:size])
        if size < len(header_line(HEADER)):
            with pytest.raises(PredictionsError, match="no whole first line"):
                read_predictions(path)
        else:
            found = read_predictions(path)
            assert found.num_bytes + found.num_bytes_lost == size
            assert found.predictions == ANSWERS[: len(found.predictions)]
            assert bool(found.num_missing) == any("interrupted" in note for note in found.notes)
        done = resume_predictions(path, HEADER)
        with path.open("a") as file:
            file.write("".join(map(prediction_line, ANSWERS[len(done) :])))
        assert path.read_text() == CONTENT


def test_a_limit_makes_it_partial_for_good(tmp_path: Path) -> None:
    path = tmp_path / "new" / "pope.jsonl"
    assert resume_predictions(path, replace(HEADER, num_available=9)) == ()
    with path.open("a") as file:
        file.write("".join(map(prediction_line, ANSWERS)))
    found = read_predictions(path)
    assert found.is_partial
    assert found.notes == ("partial: 2 of 9 questions were to be asked.",)


def test_answers_of_two_runs_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "pope.jsonl"
    path.write_text(CONTENT)
    other = replace(HEADER, protocol="lmms-eval", decoding={"do_sample": True})
    with pytest.raises(PredictionsError, match=r"protocol: 'llava-1.5' there, 'lmms-eval' now; decoding: .*mixed"):
        resume_predictions(path, other)
    assert path.read_text() == CONTENT


DAMAGE = {
    "no JSON": (CONTENT.replace('"key": 0', '"key": 0,,'), "line 2, is damaged"),
    "NaN": (CONTENT.replace('"key": 0', '"key": NaN'), "line 2, is damaged"),
    "a text for a number": (CONTENT.replace('"num_questions": 2', '"num_questions": "2"'), "line 1, has '2'"),
    "true for a number": (CONTENT.replace('"key": 0', '"key": true'), "line 2, has 'True' as `key`"),
    "a question twice": (CONTENT.replace('"a.jpg#2"', "0"), "question 0 a second time"),
    "too many answers": (CONTENT.replace('"num_questions": 2', '"num_questions": 1'), "one answer more than the 1"),
    "another stop reason": (CONTENT.replace('"length"', '"tired"'), "stop reason 'tired'"),
    "a negative token": (CONTENT.replace("3681", "-1"), "token ids that are none"),
    "a field too many": (CONTENT.replace('"key": 0', '"key": 0, "score": 1'), r"has \['score'\] too many"),
    "a later format": (CONTENT.replace('"format_version": 1', '"format_version": 2'), "format version 2"),
    "something else": ('{"question_id": 1}\n', "not a predictions file of ours"),
    "a list": ("[]\n", "no mapping"),
    "more asked than there is": (CONTENT.replace('"num_available": 2', '"num_available": 1'), "which cannot be"),
    "nothing": ("", "no whole first line"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(kind: str, tmp_path: Path) -> None:
    content, message = DAMAGE[kind]
    path = tmp_path / "pope.jsonl"
    path.write_text(content)
    with pytest.raises(PredictionsError, match=message):
        read_predictions(path)


def test_a_folder_or_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(PredictionsError, match="cannot be read"):
            read_predictions(path)
