"""Task files: all twelve, with the recorded decoding, readable through one call, and refused when damaged."""

from pathlib import Path

import pytest

from support.recorded_evaluation import FILES, annotated, benchmark, documents, recorded
from transformers_llava.evaluation.asking import question_text, question_turn, read_questions
from transformers_llava.evaluation.questions.question_lines import QuestionsError
from transformers_llava.evaluation.scorers import SCORERS, scorer_of
from transformers_llava.evaluation.tasks import PROTOCOLS, Task, TaskError, load_task, load_tasks
from transformers_llava.packaged import PackagedFileError, file_or_packaged, list_packaged


@pytest.fixture
def data_root(golden: Path, tmp_path: Path) -> Path:
    """The recorded benchmarks below one folder, as `playground/data/eval` has them."""
    for task in map(load_task, list_packaged("task")):
        (tmp_path / task.folder).symlink_to(benchmark(golden, task.name))
    return tmp_path


def test_there_are_the_twelve_and_each_names_what_scores_it() -> None:
    tasks = load_tasks("all")
    assert {task.name for task in tasks} == set(FILES)
    used = set()
    for task in tasks:
        assert set(task.protocols) == set(PROTOCOLS)
        assert task.source
        for protocol in task.protocols.values():
            used |= {protocol.scorer} - {None}
            assert protocol.version.split("@")[1] in ("c121f04", "75571cf")
            assert protocol.scorer is None or scorer_of(protocol.scorer)
            assert protocol.scorer or protocol.note  # says who scores it, and why not we
    assert used == set(SCORERS)


@pytest.mark.parametrize("name", FILES)
def test_files_and_decoding_are_those_of_the_original_script(name: str, golden: Path) -> None:
    task, generation = load_task(name), recorded(golden, name, "generation.json")
    assert task.questions == FILES[name]
    arguments = generation["arguments"]
    assert f"playground/data/eval/{task.folder}/{task.questions}" in arguments
    if "--image-folder" in arguments:
        folder = Path("playground/data/eval") / task.folder / (task.images or "")
        assert Path(arguments[arguments.index("--image-folder") + 1]) == folder
    else:
        assert task.images is None
    protocol = task.protocol("llava-1.5")
    assert dict(protocol.decoding) == generation["generate_kwargs"]
    assert protocol.name == generation["script"]


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("llava_bench", "mmvet")])
def test_decoding_is_that_of_the_task_file_of_lmms_eval(name: str, golden: Path) -> None:
    harness = recorded(golden, name, "lmms_eval.json")
    protocol = load_task(name).protocol("lmms-eval")
    assert dict(protocol.decoding) == harness["generation_kwargs"]
    assert protocol.name.removesuffix("_static") == harness["task"]


@pytest.mark.parametrize("name", FILES)
def test_every_recorded_question_is_read_and_asked_through_the_task(name: str, golden: Path, data_root: Path) -> None:
    task = load_task(name)
    needs_answers = name != "gqa"  # whose annotations are not among the recorded files
    questions = read_questions(task, "llava-1.5", data_root, annotated=needs_answers)
    assert questions == annotated(golden, name)
    turns = {question_turn(task, "llava-1.5", question) for question in questions}
    rows = recorded(golden, name, "prompts.json")["script_run"]
    assert turns == {row["user_message"] for row in rows}
    if name in ("vqav2", "gqa", "vizwiz"):
        with pytest.raises(QuestionsError, match="Give the rows of lmms-lab-encoder/"):
            read_questions(task, "lmms-eval", data_root)
        docs = recorded(golden, name, "lmms_eval.json")["docs"]
        assert read_questions(task, "lmms-eval", data_root, rows=docs) == documents(golden, name)
    elif name not in ("llava_bench", "mmvet"):
        docs = recorded(golden, name, "lmms_eval.json")["docs"]
        asked = {question_text(task, "lmms-eval", q) for q in read_questions(task, "lmms-eval", data_root)}
        assert asked >= {doc["prompt"] for doc in docs}
    else:
        assert len(read_questions(task, "lmms-eval", data_root)) == len(rows)


def test_gqa_is_scored_when_its_annotations_are_there(tmp_path: Path) -> None:
    folder = tmp_path / "gqa"
    (folder / "data").mkdir(parents=True)
    line = '{"question_id": "201", "image": "n1.jpg", "text": "What?\\nAnswer with a word."}'
    (folder / "llava_gqa_testdev_balanced.jsonl").write_text(line + "\n")
    (folder / "data" / "testdev_balanced_questions.json").write_text('{"201": {"answer": "cat"}}')
    task = load_task("gqa")
    questions = read_questions(task, "llava-1.5", tmp_path)
    assert questions[0].answers == ("cat",)
    result = scorer_of("gqa")(questions, {"201": "Cat."})
    assert result.values == {"accuracy": 100.0}


def test_an_unknown_task_protocol_or_scorer_is_named_with_what_there_is() -> None:
    with pytest.raises(PackagedFileError, match="Did you mean 'pope'"):
        load_task("popee")
    with pytest.raises(TaskError, match=r"no protocol 'llava-1\.6'"):
        load_task("pope").protocol("llava-1.6")
    with pytest.raises(ValueError, match="Did you mean 'textvqa'"):
        scorer_of("textvqaa")
    with pytest.raises(TaskError, match="no task is named"):
        load_tasks(" , ")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("license: MIT\n", "", r"lacks \['license'\]"),
        ("license: MIT\n", "license: MIT\nlicence: MIT\n", r"\['licence'\] too many"),
        ("num_questions: 8910", "num_questions: many", "'many' as `num_questions`"),
        ("  lmms-eval:\n", "  other:\n", "exactly the protocols"),
        ("scored: here", "scored: there", "scored 'there'"),
        ("scorer: pope\n", "scorer: null\n", "needs a scorer"),
    ],
)
def test_a_damaged_task_file_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    text = file_or_packaged("task", "pope").read_text()
    assert old in text
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(TaskError, match=message):
        load_task(str(path))


def test_a_missing_folder_says_where_files_come_from(tmp_path: Path) -> None:
    task: Task = load_task("pope")
    with pytest.raises(QuestionsError, match=r"llava_pope_test\.jsonl' does not exist.*--list"):
        read_questions(task, "llava-1.5", tmp_path)
