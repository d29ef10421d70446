"""Answers nobody recorded: each scorer and each reader on the smallest case that could go wrong."""

import json
from pathlib import Path

import pytest

from transformers_llava.evaluation.grader import Grade, grade_notes, grading_prompt, parse_grade, summarize_grades
from transformers_llava.evaluation.judges import (
    judge_messages,
    parse_judge_reply,
    parse_judge_reply_lmms,
    read_reviews,
)
from transformers_llava.evaluation.prompts import lmms_text, mmbench_rounds, user_text
from transformers_llava.evaluation.questions.annotations import (
    annotate_mme,
    annotate_pope,
    annotate_textvqa,
    wording_of,
)
from transformers_llava.evaluation.questions.lmms_documents import questions_of_rows
from transformers_llava.evaluation.questions.multiple_choice import annotate_scienceqa, is_missing, read_mmbench
from transformers_llava.evaluation.questions.question import Answer, Key, Question, with_unique_keys
from transformers_llava.evaluation.questions.question_lines import (
    QuestionsError,
    read_own_questions,
    read_question_file,
)
from transformers_llava.evaluation.scoring.answer_normalization import (
    normalize_vqa_answer,
    normalize_vqa_answer_without_word_split,
)
from transformers_llava.evaluation.scoring.mmbench import score_mmbench_lmms
from transformers_llava.evaluation.scoring.mme import parse_mme_answer, parse_mme_answer_lmms, score_mme
from transformers_llava.evaluation.scoring.option_letters import extract_option, infer_option
from transformers_llava.evaluation.scoring.pairing import AnswersError, pair_answers, read_answers
from transformers_llava.evaluation.scoring.pope import parse_pope_answer, score_pope
from transformers_llava.evaluation.scoring.scienceqa import option_index, parse_scienceqa_answer
from transformers_llava.evaluation.scoring.soft_accuracy import score_soft_accuracy, textvqa_score
from transformers_llava.evaluation.scoring.whole_answer import (
    gqa_prediction,
    ignore_case_and_punctuation,
    score_exact_match,
)
from transformers_llava.evaluation.submissions import mmvet_submission, vqav2_submission


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("  \n\t ", ""),
        ("The a an", ""),
        ("Two", "2"),
        ("two-three", "2 3"),  # nothing beside the hyphen, so it becomes a space
        ("two- three", "2 3"),
        ("a - b, c-d", "b cd"),  # one hyphen touches a space, so all of them go
        ("1,000", "1000"),  # the comma goes before anything asks whether it parts thousands
        ("3.5", "3.5"),
        ("3.", "3"),
        ("U.S.A.", "usa"),
        (".5", ".5"),
        ("it's", "it 's"),
        ("cats'", "cats'"),
        ("somebody'd", "somebodyd"),
        ("Im", "im"),  # the table has the capital, the text no longer
        ("dont", "don't"),
        ("yes\nno", "yes no"),
        ("Straße", "straße"),
        ("İ", "i̇"),
        ("１２", "１２"),
        ("none of them", "0 of them"),
        ("$5.00", "$5.00"),
        ("." * 40, "." * 8),  # at most 32 periods are dropped
        ("what?!", "what"),
        ("“a” b", "“a” b"),
    ],
)
def test_normalized_answer(text: str, expected: str) -> None:
    assert normalize_vqa_answer(text) == expected


def test_lmms_eval_leaves_words_together_in_vqav2() -> None:
    assert normalize_vqa_answer_without_word_split("It's 1,000") == "it's 1000"
    assert normalize_vqa_answer("It's 1,000") == "it 's 1000"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes, it is", "yes"),
        ("No", "no"),
        ("NO", "yes"),
        ("no.", "no"),
        ("Nope", "yes"),
        ("", "yes"),
        ("Yes. No.", "yes"),
        ("There is not", "no"),
        ("isn't", "yes"),
        ("no\nyes", "yes"),
        ("No,", "no"),
        ("No;", "yes"),
        (".no", "yes"),
        ("否", "yes"),
    ],
)
def test_pope_answer(text: str, expected: str) -> None:
    assert parse_pope_answer(text) == expected


@pytest.mark.parametrize(
    ("text", "official", "harness"),
    [
        ("Yes", "yes", "yes"),
        ("no.", "no", "no"),
        ("y", "other", "yes"),
        ("N.", "other", "no"),
        ("I know", "other", "other"),
        ("eyes", "yes", "yes"),
        ("Notre-Dame", "no", "no"),
        ("", "other", "other"),
        ("\nYes", "yes", "yes"),
        ("    Yes", "other", "yes"),
        ("y.e.s", "other", "yes"),
    ],
)
def test_mme_answer(text: str, official: str, harness: str) -> None:
    assert (parse_mme_answer(text), parse_mme_answer_lmms(text)) == (official, harness)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A", "A"),
        ("a", "FAILED"),
        ("A.", "FAILED"),
        ("A. x", "A"),
        ("A. ", "A"),
        ("F. x", "FAILED"),
        ("(A)", "FAILED"),
        ("The answer is Z.", "Z"),
        ("The answer is A", "FAILED"),  # something must follow
        ("The answer is A!", "A"),
        ("The answer is A. The answer is A.", "FAILED"),
        ("the answer is A.", "FAILED"),
        ("B. The answer is A.", "B"),
        ("", "FAILED"),
        (" A", "FAILED"),
    ],
)
def test_scienceqa_answer(text: str, letter: str) -> None:
    assert parse_scienceqa_answer(text) == letter


def test_a_letter_beyond_the_options_is_none() -> None:
    assert [option_index(letter, 3) for letter in ("A", "C", "D", "Z", "FAILED")] == [0, 2, -1, -1, -1]


def test_letters_are_found_as_lmms_eval_finds_them() -> None:
    options = {"A": "red", "B": "Blue car", "C": "nan", "D": "green"}
    assert infer_option("B", options) == "B"
    assert infer_option("A or B", options) == ""
    assert infer_option("A man is there B", options) == ""
    assert infer_option("A very red car", options) == "A"  # not by its letter, which may be an article
    assert infer_option("a banana", options) == "C"  # an empty cell says nan, and banana contains it
    assert infer_option("(D).", options) == "D"
    assert infer_option("E", options) == "E"
    assert (
        extract_option("Answer: the answer is (B) not (A)", "ABCD") == "A"
    )  # the last in brackets, the start of none
    assert extract_option("", "ABCD") == ""
    assert extract_option("zzz", "ABCD") == ""
    assert extract_option("答案是C", "ABCD") == "C"


def test_gqa_keeps_spaces_and_drops_full_stops_at_the_end() -> None:
    assert [gqa_prediction(text) for text in ("Yes.", "yes. ", "A.B...", "", "ÉTÉ.")] == [
        "yes",
        "yes. ",
        "a.b",
        "",
        "été",
    ]
    assert ignore_case_and_punctuation("T-Shirt!") == "tshirt"
    assert ignore_case_and_punctuation("İx") == "i̇"  # cut to the two characters it had


def test_the_score_of_people_who_agree() -> None:
    people = ["red"] * 3 + ["blue"] * 7
    assert textvqa_score("red", people) == pytest.approx((3 * 2 / 3 + 7) / 10)
    assert textvqa_score("blue", people) == 1.0
    assert textvqa_score("", people) == 0.0
    with pytest.raises(ValueError, match="9 answers where ten"):
        textvqa_score("red", people[:9])


def test_a_question_without_people_scores_nothing_by_lmms_eval() -> None:
    assert score_soft_accuracy([Question(1, 1, "?")], {1: "red"}, task="vizwiz").values == {"exact_match": 0.0}


def test_ids_pair_with_their_type_and_later_answers_count() -> None:
    questions = [Question(17, 17, "a"), Question("17", "17", "b"), Question("x", "x", "c")]
    lines = [Answer(17, "one"), Answer("17", "two"), Answer(17, "three"), Answer(18, "four")]
    paired = pair_answers(questions, lines)
    assert dict(paired.texts) == {17: "three", "17": "two"}
    assert (paired.num_replaced, paired.unknown_ids) == (1, (18,))


def test_questions_that_share_an_id_are_told_apart_by_their_prompt() -> None:
    questions = with_unique_keys([Question("", "a.jpg", text) for text in ("left?", "right?", "left?")])
    assert [question.key for question in questions] == ["a.jpg#1", "a.jpg#2", "a.jpg#3"]
    lines = [Answer("a.jpg", text, prompt) for text, prompt in (("1", "right?"), ("2", "left?"), ("3", "left?"))]
    paired = pair_answers(questions, lines)
    assert dict(paired.texts) == {"a.jpg#2": "1", "a.jpg#1": "2", "a.jpg#3": "3"}
    assert pair_answers(questions, [Answer("a.jpg", "4", "up?")]).unknown_ids == ("a.jpg",)
    with pytest.raises(ValueError, match=r"would be called 'a\.jpg#1'"):
        with_unique_keys([*questions, Question("", "a.jpg#1", "down?")])


def test_lines_of_an_answers_file_are_read_as_python_reads_lines(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    line = json.dumps({"question_id": 1, "text": "a\u2028b\x0bc"}, ensure_ascii=False)
    path.write_text(line + "\r\n\n" + '{"question_id": 2.0, "text": "é"}', encoding="utf-8", newline="")
    file = read_answers(path)
    assert [(answer.question_id, answer.text) for answer in file.answers] == [(1, "a\u2028b\x0bc"), (2, "é")]
    assert file.num_malformed == 1  # the empty line, as in the original's count
    path.write_bytes(b'{"question_id": 1, "text": "\xff"}')
    with pytest.raises(AnswersError, match="cannot be read as a file of answers"):
        read_answers(path)
    with pytest.raises(AnswersError, match="Nothing is scored"):
        read_answers(tmp_path)


def test_pope_needs_labels_that_belong_to_the_questions(tmp_path: Path) -> None:
    questions = [
        Question(0, 0, "Is there a cat?\nAnswer the question using a single word or phrase.", "a.jpg", category="x")
    ]
    path = tmp_path / "coco_pope_x.json"
    path.write_text('{"image": "b.jpg", "text": "Is there a cat?", "label": "yes"}\n')
    with pytest.raises(QuestionsError, match=r"no label for image 'a\.jpg'"):
        annotate_pope(questions, tmp_path)
    path.write_text(path.read_text() + '{"image": "a.jpg", "text": "Is there a cat?", "label": "perhaps"}\n')
    annotated = annotate_pope(questions, tmp_path)
    with pytest.raises(ValueError, match="label 'perhaps'"):
        score_pope(annotated, {0: "Yes"})
    with pytest.raises(QuestionsError, match="does not exist"):
        annotate_pope([Question(0, 0, "?", "a.jpg", category="y")], tmp_path)


def test_an_unanswered_question_of_pope_lowers_recall_and_accuracy_alone() -> None:
    questions = [
        Question(i, i, "", answers=(label,), category="x") for i, label in enumerate(("yes", "yes", "no", "no"))
    ]
    values = score_pope(questions, {0: "Yes", 2: "No", 3: "Yes"}).values
    assert values == {
        "f1": 0.5,
        "x/f1": 0.5,
        "x/accuracy": 0.5,
        "x/precision": 0.5,
        "x/recall": 0.5,
        "x/yes_ratio": pytest.approx(2 / 3),
    }


def test_both_questions_of_an_image_must_be_right_for_the_second_hundred() -> None:
    questions = [
        Question(f"{image}#{n}", image, "", answers=(truth,), category="count")
        for image in ("count/a.jpg", "count/b.jpg")
        for n, truth in ((1, "Yes"), (2, "No"))
    ]
    keys: list[Key] = [question.key for question in questions]
    result = score_mme(questions, dict(zip(keys, ("yes", "no", "yes", "yes"))))
    assert result.values["Perception"] == 75 + 50
    assert result.values["Cognition"] is None
    assert any("no question of existence" in note for note in result.notes)
    lone = score_mme(questions[:3], dict(zip(keys, ("yes", "no", "yes"))))
    assert lone.values["category/count"] == 100 + 50
    assert any("1 images have not two questions" in note for note in lone.notes)


def test_annotations_that_lack_a_question_are_named(tmp_path: Path) -> None:
    (tmp_path / "count").mkdir()
    (tmp_path / "count" / "a.txt").write_text("Is it?  Please answer yes or no.\tYes\n")
    question = Question("count/a.jpg", "count/a.jpg", "Is it?\nAnswer the question using a single word or phrase.")
    assert annotate_mme([question], tmp_path)[0].truth == "Yes"
    other = Question("count/a.jpg", "count/a.jpg", "Is that?\nAnswer the question using a single word or phrase.")
    with pytest.raises(QuestionsError, match="no answer for the question 'Is that"):
        annotate_mme([other], tmp_path)
    path = tmp_path / "val.json"
    path.write_text('{"data": []}')
    with pytest.raises(QuestionsError, match="no answers for image"):
        annotate_textvqa([Question("x", "x", "What?\nAnswer.")], path)
    (tmp_path / "pid_splits.json").write_text('{"test": ["1"]}')
    (tmp_path / "problems.json").write_text('{"1": {"question": "?", "choices": ["a"], "answer": 1}}')
    with pytest.raises(QuestionsError, match="answer 1 to the choices"):
        annotate_scienceqa((), tmp_path)


@pytest.mark.parametrize(
    ("reply", "scores"),
    [("8 7", (8, 7)), ("8,7\nx", (8, 7)), ("8, 7", (-1, -1)), ("", (-1, -1)), ("8 7 6", (-1, -1)), ("x y", (-1, -1))],
)
def test_judge_reply(reply: str, scores: tuple[float, float]) -> None:
    assert parse_judge_reply(reply) == scores


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        ("8, 7", (8, 7)),
        ("  8/10 and 7/10", (8, 10)),
        ("\n8 7", (8, 7)),
        ("Scores:\n8 7", (-1, -1)),
        ("8-7", (8, -7)),
        ("8.5;7.", (8.5, 7)),
        ("", (-1, -1)),
    ],
)
def test_judge_reply_by_lmms_eval(reply: str, scores: tuple[float, float]) -> None:
    assert parse_judge_reply_lmms(reply) == scores


def test_reviews_without_scores_and_categories_without_a_rule_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_text('{"question_id": 1, "tuple": [8]}\n')
    with pytest.raises(QuestionsError, match="where two scores of the judge"):
        read_reviews(path)
    with pytest.raises(ValueError, match="category 'poem'"):
        judge_messages(Question(1, 1, "?", category="poem"), "c", "r", "a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"question_id": 1, "image": "a.jpg"}\n', "None as `text`"),
        ('{"question_id": null, "image": "a.jpg", "text": "?"}\n', "None as `question_id`"),
        ('{"question_id": 1, "image": 3, "text": "?"}\n', "3 as `image`"),
        ('{"question_id": 1,\n', "line 1, is not JSON"),
        ("[1]\n", "where a mapping is expected"),
    ],
)
def test_a_damaged_question_file_is_refused_by_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(content)
    with pytest.raises(QuestionsError, match=message):
        read_question_file(path)


def test_a_users_own_task(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(
        '{"id": 1, "image": "cat.png", "question": "What is this?", "answers": ["cat", "Kitten"]}\n'
        '{"id": "b", "question": "Two?", "answers": "2", "category": "text"}\n'
    )
    questions = read_own_questions(path)
    assert [(q.key, q.image, q.answers, q.category) for q in questions] == [
        (1, "cat.png", ("cat", "Kitten"), ""),
        ("b", None, ("2",), "text"),
    ]
    result = score_exact_match(questions, {1: " kitten. "})
    assert [verdict.score for verdict in result.verdicts] == [1.0, 0.0]
    assert (result.values, result.num_unanswered) == ({"accuracy": 50.0}, 1)
    path.write_text(path.read_text() + '{"id": 1, "question": "again?"}\n')
    with pytest.raises(QuestionsError, match="repeats the id 1"):
        read_own_questions(path)
    with pytest.raises(ValueError, match="has no right answer"):
        score_exact_match([Question(1, 1, "?")], {1: "x"})


def test_rotations_of_mmbench_must_all_be_right() -> None:
    options = ("red", "blue", "nan", "nan")
    questions = [Question(index, index, "?", answers=("A",), options=options) for index in (1, 1_000_001, 2)]
    result = score_mmbench_lmms(questions, {1: "A", 1_000_001: "B", 2: "red"})
    assert [(verdict.key, verdict.score) for verdict in result.verdicts] == [(1, 0.0), (2, 1.0)]
    assert result.values["overall"] == 0.5
    with pytest.raises(ValueError, match="no number for an index"):
        score_mmbench_lmms([Question("x", "x", "?", answers=("A",))], {})


def test_cells_that_mean_nothing() -> None:
    cells = (None, float("nan"), "nan", "NaN", "None", "NONE", "", " nan", "n/a", "0")
    assert [is_missing(cell) for cell in cells] == [True] * 6 + [False] * 4


def test_a_table_without_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("index\tquestion\n1\t?\n")
    with pytest.raises(QuestionsError, match="no column hint, A, B, C, D, image"):
        read_mmbench(path)
    row = "\t".join(["7", "?", "", "a", "b", "c", "d", "aW1n"])
    path.write_text("\t".join(["index", "question", "hint", "A", "B", "C", "D", "image"]) + f"\n{row}\n{row}\n")
    with pytest.raises(QuestionsError, match="1 ids that stand twice, such as 7"):
        read_mmbench(path)
    with pytest.raises(QuestionsError, match="cannot be read as a table"):
        read_mmbench(tmp_path / "none.tsv")


def test_options_rotate_by_one_while_letters_of_the_text_stay() -> None:
    question = Question(1, 1, "Q?", b"", options=("x", "y", "z"), hint="H")
    rounds = list(mmbench_rounds(question, all_rounds=True))
    assert [asking.text for asking in rounds][1] == "H\nQ?\nA. y\nB. z\nC. x"
    assert [asking.letters for asking in rounds] == [("A", "B", "C"), ("B", "C", "A"), ("C", "A", "B")]
    assert list(mmbench_rounds(Question(1, 1, "Q?"), all_rounds=True)) == []
    assert [asking.text for asking in mmbench_rounds(Question(1, 1, "Q?"))] == ["Q?"]


def test_white_space_of_a_question_stays_in_the_prompt() -> None:
    assert user_text("  Q? ", has_image=True) == "<image>\n  Q? "
    assert user_text("Q?", has_image=False, use_im_start_end=True) == "Q?"


def test_lmms_eval_words_questions_its_own_way() -> None:
    vizwiz = questions_of_rows("vizwiz", [{"question_id": "v", "question": "IS THIS Red?", "answers": []}])[0]
    assert lmms_text("vizwiz", vizwiz).startswith("Is this red?\nWhen the provided")
    pope = questions_of_rows("pope", [{"question_id": "1", "question": " Q? ", "answer": "yes"}])[0]
    assert lmms_text("pope", pope).startswith("Q?\n")
    row = {"index": 3, "question": "Q?", "hint": "nan", "A": "x", "B": "nan", "C": "", "D": "w", "answer": "A"}
    mmbench = questions_of_rows("mmbench", [row])[0]
    assert lmms_text("mmbench", mmbench).startswith("Q? There are several options:\nA. x\nD. w\n\nAnswer")
    assert lmms_text("mmbench_cn", mmbench).startswith("nan Q? There are several options:\nA. x\nD. w\n\n请")
    with pytest.raises(ValueError, match="no task 'docvqa'"):
        lmms_text("docvqa", mmbench)
    with pytest.raises(QuestionsError, match="answers that are no texts"):
        questions_of_rows("gqa", [{"id": 1, "question": "Q?", "answer": [3]}])


def test_submissions_escape_what_the_original_escapes() -> None:
    questions = [Question(1, 1, ""), Question("é", "é", "")]
    content = vqav2_submission(questions, {1: "Crème Brûlée"}).content
    assert (
        content
        == '[{"question_id": 1, "answer": "cr\\u00e8me br\\u00fbl\\u00e9e"}, {"question_id": "\\u00e9", "answer": ""}]'
    )
    assert mmvet_submission(questions, {"é": "x"}).content == '{\n  "v1_\\u00e9": "x"\n}'
    assert mmvet_submission(questions, {}).content == "{}"


def test_an_answer_to_another_wording_of_the_prompt_belongs_to_its_question() -> None:
    """The original finds TextVQA's and MME's questions in the prompt, whatever else that says."""
    textvqa = with_unique_keys(
        Question("", "i", f"{text}\nReference OCR token: X, Y\nAnswer with a word.") for text in ("What?", "Who?")
    )
    lines = [
        Answer("i", "1", "WHO?\nAnswer with a word."),
        Answer("i", "2", "OCR tokens: x. Question: what? Short answer:"),
        Answer("i", "3", "What?"),
    ]
    paired = pair_answers(textvqa, lines, wording=wording_of("textvqa"))
    assert (dict(paired.texts), paired.unknown_ids) == ({"i#2": "1", "i#1": "2"}, ("i",))
    alone = pair_answers([Question("i", "i", textvqa[0].text)], lines[:1], wording=wording_of("textvqa"))
    assert alone.unknown_ids == ("i",)  # another question about the only image that is asked about
    ending = "Answer the question using a single word or phrase."
    mme = with_unique_keys(Question("", "c/a.jpg", f"{text}\n{ending}") for text in ("Is it?", "Is that?"))
    lines = [Answer("c/a.jpg", "Yes", f"Is that? {ending}"), Answer("c/a.jpg", "No", "Is it?")]
    assert dict(pair_answers(mme, lines, wording=wording_of("mme")).texts) == {"c/a.jpg#2": "Yes", "c/a.jpg#1": "No"}
    assert wording_of("pope") is None


def test_the_grader_of_mmvet_is_asked_and_read_as_by_lmms_eval() -> None:
    prompt = grading_prompt("What?", "x<AND>y<OR>z", "an x")
    assert prompt.startswith("Compare the ground truth and prediction from AI models, to give a correctness score")
    assert prompt.endswith("\n\nWhat? | x <AND> y <OR> z | an x |")
    replies = ("0.5", "1 yes", " 0.0\n", "1.1", "-0.1", "nan", "", "half", "0.7\nbecause")
    assert [parse_grade(reply) for reply in replies] == [0.5, 1.0, 0.0, None, None, None, None, None, None]
    grades = [Grade(0, 1.0, "rec,ocr"), Grade(1, None, "ocr"), Grade(2, 0.5, "math")]
    values = {score.name: score.value for score in summarize_grades(grades)}
    assert values == {"overall": 50.0, "capability/rec": 100.0, "capability/ocr": 50.0, "capability/math": 50.0}
    notes = grade_notes(grades, {0: "", 1: "", 2: "", 3: ""})
    assert notes == ("1 of 3 replies of the grader have no grade and count as 0.", "1 answers were not graded.")
    with pytest.raises(ValueError, match="no answer to MM-Vet was graded"):
        summarize_grades([])
