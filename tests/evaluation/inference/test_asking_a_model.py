"""A model is asked once: the built-in way's tokens in the task's order, the same bytes after any kill."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

import tiny
from distributed.launching import environment_of, free_port
from forked import Forked, wait_for_all
from support.tiny_benchmarks import write_model, write_pope
from transformers_llava.artifacts.digests.tensor_digests import combined_tensor_digest, tensor_digests
from transformers_llava.artifacts.evaluation_files.predictions import PredictionsError, read_predictions, text_digest
from transformers_llava.cli import main as cli
from transformers_llava.data.images.opening import open_image
from transformers_llava.evaluation.asking import question_turn, read_questions
from transformers_llava.evaluation.inference.asked_model import AskedModel
from transformers_llava.evaluation.inference.asked_task import prepare_task
from transformers_llava.evaluation.inference.evaluation_run import evaluate
from transformers_llava.evaluation.inference.generated_answers import Decoding, decoding_of, read_answer
from transformers_llava.evaluation.inference.image_groups import ImageGroup, group_by_image
from transformers_llava.evaluation.inference.loaded_model import load_model
from transformers_llava.evaluation.questions.question import Question
from transformers_llava.evaluation.tasks import PROTOCOLS, Task, TaskError, load_task, load_tasks


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny-llava")


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pope(tmp_path_factory.mktemp("eval"))


@pytest.fixture
def pope() -> Task:
    return load_task("pope")


def command(model: Path, data_root: Path, out: Path, *more: str) -> list[str]:
    named = ["--tasks", "pope", "--data_root", str(data_root), "--output_dir", str(out)]
    return ["evaluate", str(model), *named, "--device", "cpu", *more]


@pytest.fixture(scope="module")
def whole(model: Path, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The predictions file of a run that was left alone."""
    out = tmp_path_factory.mktemp("whole")
    assert cli.main(command(model, data_root, out)) == 0
    return (out / "predictions" / "pope.jsonl").read_bytes()


def test_questions_about_an_image_are_one_group_whoever_asks() -> None:
    a, b, c = Question(1, 1, "Is it red?", "x"), Question(2, 2, "?", "y"), Question(3, 3, "A?", "x")
    alone = [Question(n, n, "?" * n) for n in (6, 5, 4)]
    assert group_by_image([a, b, c], 8) == (ImageGroup("x", ((c, a),)), ImageGroup("y", ((b,),)))
    assert group_by_image([a, b, c], 1)[0] == ImageGroup("x", ((c,), (a,)))
    assert group_by_image(alone, 2) == (
        ImageGroup(None, ((alone[2], alone[1]),)),
        ImageGroup(None, ((alone[0],),)),
    )


def test_an_answer_ends_at_its_end_token_or_stop_string() -> None:
    tokenizer = tiny.make_tokenizer()
    ids = tokenizer("yes! no")["input_ids"]
    plain, stopping = Decoding(7), Decoding(7, stop_strings=("! n", "!"))
    assert read_answer([*ids[:3], 2, 3, 3], tokenizer, frozenset([2]), plain).__dict__ == {
        "token_ids": (*ids[:3], 2),
        "text": "yes",
        "stop_reason": "end",
    }
    assert read_answer(ids, tokenizer, frozenset([2]), plain).stop_reason == "length"
    stopped = read_answer(ids, tokenizer, frozenset(), stopping)
    assert (stopped.text, stopped.token_ids, stopped.stop_reason) == ("yes", tuple(ids[:4]), "stop_string")


def test_every_packaged_task_can_be_decoded() -> None:
    read = {
        (task.name, name): decoding_of(task.protocol(name).decoding, task.name)
        for task in load_tasks("all")
        for name in PROTOCOLS
    }
    assert len(read) == 24
    assert read["pope", "llava-1.5"] == Decoding(128)
    assert read["textvqa", "lmms-eval"] == Decoding(1024, stop_strings=("ASSISTANT:",))
    with pytest.raises(TaskError, match="mine samples its answers"):
        decoding_of({"do_sample": True}, "mine")
    with pytest.raises(TaskError, match="sets top_k in its decoding"):
        decoding_of({"top_k": 5}, "mine")


def test_the_tokens_are_those_of_the_built_in_way_one_by_one(
    model: Path, data_root: Path, whole: bytes, pope: Task, tmp_path: Path
) -> None:
    (tmp_path / "pope.jsonl").write_bytes(whole)
    file = read_predictions(tmp_path / "pope.jsonl")
    questions = read_questions(pope, "llava-1.5", data_root, annotated=False)
    assert [prediction.key for prediction in file.predictions] == [question.key for question in questions]
    builtin = AutoModelForImageTextToText.from_pretrained(model).eval()
    processor: Any = AutoProcessor.from_pretrained(model)
    for question, prediction in zip(questions, file.predictions, strict=True):
        turn = question_turn(pope, "llava-1.5", question)
        image = open_image({"bytes": None, "path": str(data_root / "pope" / "val2014" / str(question.image))})
        prompt = processor.apply_chat_template([{"role": "user", "content": turn}], add_generation_prompt=True)
        inputs = processor(images=image, text=prompt, add_special_tokens=False, return_tensors="pt")
        ids = builtin.generate(**inputs, max_new_tokens=128, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert list(prediction.token_ids) == ids.tolist()
        assert prediction.text == processor.decode(ids, skip_special_tokens=True).strip()
        assert (prediction.prompt_digest, prediction.stop_reason) == (text_digest(turn), "length")
    assert len({prediction.token_ids for prediction in file.predictions}) > 1


def test_the_first_line_says_what_was_asked_of_whom(model: Path, whole: bytes) -> None:
    header = json.loads(whole.splitlines()[0])
    assert header["model"] == "tiny-llava"
    assert header["model_digest"] == combined_tensor_digest(tensor_digests(model))
    assert (header["num_questions"], header["num_available"]) == (12, 12)
    assert header["decoding"] == {"do_sample": False, "max_new_tokens": 128, "num_beams": 1}
    assert header["versions"]["torch"] == torch.__version__
    assert header["versions"]["dtype"] == "torch.float64"
    assert (header["protocol"], header["protocol_version"]) == ("llava-1.5", "haotian-liu/LLaVA@c121f04")


@pytest.mark.parametrize("ending", [0, 7, 100, 1500, 5000])
def test_a_file_cut_anywhere_is_finished_to_the_same_bytes(
    ending: int, model: Path, data_root: Path, whole: bytes, tmp_path: Path
) -> None:
    folder = tmp_path / "predictions"
    folder.mkdir()
    (folder / "pope.jsonl.part0").write_bytes(whole[:ending])
    assert cli.main(command(model, data_root, tmp_path)) == 0
    assert (folder / "pope.jsonl").read_bytes() == whole
    assert [file.name for file in folder.iterdir()] == ["pope.jsonl"]


def test_a_finished_file_that_lost_its_end_is_made_whole(
    model: Path, data_root: Path, whole: bytes, tmp_path: Path
) -> None:
    (tmp_path / "predictions").mkdir()
    file = tmp_path / "predictions" / "pope.jsonl"
    file.write_bytes(whole[:-40])
    assert cli.main(command(model, data_root, tmp_path)) == 0
    assert file.read_bytes() == whole


def start(words: list[str], log: Path, **env: str) -> Forked:
    return Forked([sys.executable, "-m", "transformers_llava.cli.main", *words], env, log)


@pytest.mark.slow
def test_five_kills_change_no_byte(model: Path, data_root: Path, whole: bytes, tmp_path: Path) -> None:
    words = command(model, data_root, tmp_path, "--batch_size", "1")
    part = tmp_path / "predictions" / "pope.jsonl.part0"
    file = tmp_path / "predictions" / "pope.jsonl"
    num_bytes = 0
    for _ in range(5):
        process = start(words, tmp_path / "log")
        while process.poll() is None and not (part.exists() and part.stat().st_size > num_bytes):
            time.sleep(0.001)
        process.kill()
        process.wait(60)
        assert part.exists() or file.exists(), (tmp_path / "log").read_text()
        num_bytes = part.stat().st_size if part.exists() else 0  # it may have been done before it was killed
    assert start(words, tmp_path / "log").wait(120) == 0
    assert file.read_bytes() == whole, (tmp_path / "log").read_text()


@pytest.mark.slow
def test_two_processes_write_the_file_of_one(model: Path, data_root: Path, whole: bytes, tmp_path: Path) -> None:
    env = {**environment_of("ddp"), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    words = command(model, data_root, tmp_path)
    logs = [tmp_path / f"log{rank}" for rank in range(2)]
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"} for rank in range(2)]
    processes = [start(words, log, **env, **rank) for rank, log in zip(ranks, logs)]
    try:
        wait_for_all(processes, timeout=300)
    finally:
        for process in processes:
            process.kill()
    said = "".join(log.read_text()[-3000:] for log in logs)
    file = tmp_path / "predictions" / "pope.jsonl"
    assert file.exists(), said
    assert file.read_bytes() == whole
    assert ["written:" in log.read_text() for log in logs] == [True, False]


def test_a_limit_is_partial_for_good(
    model: Path, data_root: Path, pope: Task, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(command(model, data_root, tmp_path, "--limit", "3")) == 0
    assert "pope (llava-1.5, haotian-liu/LLaVA@c121f04): 3 questions, partial" in capsys.readouterr().out
    assert json.loads((tmp_path / "evaluation.json").read_text())["results"][0]["is_partial"]
    assert [one.key for one in read_predictions(tmp_path / "predictions" / "pope.jsonl").predictions] == [0, 1, 2]
    with pytest.raises(PredictionsError, match="num_questions: 3 there, 12 now"):
        evaluate(str(model), [pope], "llava-1.5", data_root, tmp_path, device="cpu")
    assert cli.main(command(model, data_root, tmp_path, "--limit", "0")) == 2


def test_the_second_protocol_has_a_file_of_its_own(
    model: Path, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for protocol in ("llava-1.5", "lmms-eval"):
        assert cli.main(command(model, data_root, tmp_path, "--protocol", protocol, "--limit", "2")) == 0
    names = sorted(file.name for file in (tmp_path / "predictions").iterdir())
    assert names == ["pope.jsonl", "pope.lmms-eval.jsonl"]
    printed = capsys.readouterr().out
    assert "pope (lmms-eval, EvolvingLMMs-Lab/lmms-eval@75571cf): 2 questions" in printed


def test_white_space_stays_and_special_tokens_are_text(model: Path, data_root: Path, pope: Task) -> None:
    asked = AskedModel(load_model(str(model), device="cpu"), prepare_task(pope, "llava-1.5", data_root), Decoding(2))
    tokenizer = asked.processor.tokenizer
    spaced = tokenizer.decode(asked.prompt_ids(Question(1, 1, "  Red?  ", "0.png")))
    assert "<image>\n  Red?  " in spaced
    ids = asked.prompt_ids(Question(1, 1, "Is </s> or <image> red?", "0.png"))
    assert (ids.count(tokenizer.convert_tokens_to_ids("<image>")), ids.count(2)) == (1, 0)
    alone = asked.prompt_ids(Question(1, 1, "Red?"))
    assert tokenizer.convert_tokens_to_ids("<image>") not in alone


def test_questions_without_an_image_are_answered_as_one_by_one(model: Path, data_root: Path, pope: Task) -> None:
    loaded = load_model(str(model), device="cpu")
    asked = AskedModel(loaded, prepare_task(pope, "llava-1.5", data_root), Decoding(6))
    questions = [Question(1, 1, "A?"), Question(2, 2, "Which of these colours is it?")]

    def answered(batch_size: int) -> list[Any]:
        groups = group_by_image(questions, batch_size)
        return [one for group in groups for batch in asked.answers(group) for one in batch]

    assert answered(2) == answered(1)
    assert answered(2)[0].image_digest is None


def test_what_is_missing_is_said_before_the_model_is_loaded(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = write_pope(tmp_path / "eval")
    nowhere = tmp_path / "no-model"
    (root / "pope" / "val2014" / "1.png").rename(root / "pope" / "1.png")
    assert cli.main(command(nowhere, root, tmp_path / "out")) == 2
    assert "1 images that pope asks about do not exist, such as" in capsys.readouterr().err
    (root / "pope" / "val2014" / "1.png").write_bytes(b"no image")
    assert cli.main(command(model, root, tmp_path / "out")) == 2
    assert "question 3 of pope asks about an image that cannot be read" in capsys.readouterr().err
    (root / "pope" / "coco" / "coco_pope_popular.json").write_text("")
    assert cli.main(command(nowhere, root, tmp_path / "out")) == 2
    assert "popular" in capsys.readouterr().err
    assert not (tmp_path / "out" / "evaluation.json").exists()


def test_an_image_outside_of_its_folder_is_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = write_pope(tmp_path / "eval")
    for file in [root / "pope" / "llava_pope_test.jsonl", *(root / "pope" / "coco").iterdir()]:
        file.write_text(file.read_text().replace('"0.png"', '"../0.png"'))
    (root / "pope" / "val2014" / "0.png").rename(root / "pope" / "0.png")
    assert cli.main(command(tmp_path / "no-model", root, tmp_path / "out")) == 2
    assert "outside of the image root" in capsys.readouterr().err


def test_unknown_names_are_named(model: Path, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(command(model, data_root, tmp_path, "--protocol", "mine")) == 2
    assert "there is no protocol 'mine'" in capsys.readouterr().err
    assert cli.main(command(model, data_root, tmp_path, "--tasks", "pop")) == 2
    assert "pope" in capsys.readouterr().err
    assert cli.main(command(model, data_root, tmp_path, "--tasks", "all")) == 2
    assert "--tasks pope,mme" in capsys.readouterr().err
    assert cli.main(command(tmp_path / "nowhere", data_root, tmp_path)) == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_model_that_answers_nothing_has_no_score(
    data_root: Path, whole: bytes, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    header, *lines = whole.decode().splitlines()
    silent = [json.dumps(json.loads(line) | {"text": "", "token_ids": [2], "stop_reason": "end"}) for line in lines]
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "pope.jsonl").write_text("\n".join([header, *silent]) + "\n")
    assert cli.main(["evaluate", "--rescore", str(tmp_path), "--data_root", str(data_root)]) == 0
    printed = capsys.readouterr().out
    assert "f1: not defined" in printed
    assert "the model answered nothing at all" in printed
    result = json.loads((tmp_path / "evaluation.json").read_text())["results"][0]
    assert (result["num_unanswered"], result["scores"][0]["value"]) == (12, None)
