"""A run on data that is not perfect, and the messages of runs that cannot start."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from transformers_llava.data.schema import RecordError
from transformers_llava.training import sft
from transformers_llava.training.recipe.recipe_error import RecipeError
from transformers_llava.training.trainer import LlavaTrainer


@pytest.fixture
def imperfect(data_file: Path, tmp_path: Path) -> dict[str, Any]:
    """The 24 good records, and one of each kind that is not."""
    records = json.loads(data_file.read_text())
    (data_file.parent / "truncated.png").write_bytes((data_file.parent / "1.png").read_bytes()[:100])
    ask, answer = {"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "red"}
    records += [
        {"id": "gone", "image": "gone.png", "conversations": [ask, answer]},
        {"id": "cut", "image": "truncated.png", "conversations": [ask, answer]},
        {"id": "mute", "image": "1.png", "conversations": [ask, {"from": "gpt", "value": ""}]},
        {"id": "two", "image": "1.png", "conversations": [{**ask, "value": "<image><image>"}, answer]},
        {"id": "odd"},
    ]
    path = tmp_path / "imperfect.json"
    path.write_text(json.dumps(records))
    return {"name": "imperfect", "path": str(path), "image_root": str(data_file.parent)}


def test_broken_records_are_counted_with_their_reason_and_training_goes_on(run: Callable, imperfect: dict) -> None:
    folder, record = run(train_data=[imperfect])
    assert record.data.num_used == 24
    assert record.data.to_dict()["dropped"] == {
        "missing_image": 1,
        "truncated_image": 1,
        "empty_answer": 1,
        "image_count_mismatch": 1,
        "invalid_record": 1,
    }
    assert record.progress.global_step == 6
    assert "truncated_image" in (folder / "mixture.md").read_text()


def test_the_rest_trains_as_if_the_broken_records_had_never_been_there(run: Callable, imperfect: dict) -> None:
    assert run("a")[1].weights_sha256 == run("b", train_data=[imperfect])[1].weights_sha256


def test_strict_stops_at_the_first_broken_record(run: Callable, imperfect: dict) -> None:
    with pytest.raises(RecordError, match="imperfect/"):
        run(train_data=[imperfect], strict=True)


def test_long_examples_are_cut_and_those_that_cannot_be_are_counted(run: Callable) -> None:
    record = run("cut", max_length=230, num_train_epochs=1, chat_template="vicuna_v1")[1]
    lengths = record.data.to_dict()["lengths"]
    assert lengths["longest"] == 230
    assert lengths["num_truncated"] > 0
    with pytest.raises(RecipeError, match="none of the 24 examples can be trained on"):
        run("none", max_length=20)  # nothing of the answer is left of any example
    with pytest.raises(RecordError, match=r"not one of its tokens|cut an image"):
        run("strict", max_length=20, strict=True)


def test_a_loss_that_is_not_finite_stops_and_names_its_records(run: Callable) -> None:
    with pytest.raises(FloatingPointError, match=r"step [123].*toys/r\d+, toys/r\d+"):
        run(learning_rate=1e30, lr_scheduler_type="constant", max_grad_norm=0.0)


def test_a_loss_that_is_not_finite_is_named_by_its_own_step_however_late_it_is_read(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, records = LlavaTrainer._fused_loss, []

    def spoiled(self: LlavaTrainer, *args: Any) -> torch.Tensor:
        loss = original(self, *args)
        if self.state.global_step == 1:
            records[:] = self._records_of_step()
            return loss * float("nan")
        return loss

    monkeypatch.setattr(LlavaTrainer, "_fused_loss", spoiled)
    with pytest.raises(FloatingPointError, match="the loss is nan in step 2;") as logged:
        run("logged", logging_steps=100)
    assert all(record in str(logged.value) for record in records)
    assert len(records) == 8
    with pytest.raises(FloatingPointError, match="in step 2;"):
        run("saved", logging_steps=100, save_strategy="steps", save_steps=1)
    assert [path.name for path in (tmp_path / "saved").glob("checkpoint-*")] == ["checkpoint-1"]


@pytest.mark.parametrize("save_strategy", ["no", "epoch"])
def test_weights_that_the_last_step_has_spoiled_are_not_saved(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_strategy: str
) -> None:
    """No loss comes after the last step, so none could show it: here its gradient is infinite and its loss is not."""
    original = LlavaTrainer._fused_loss

    def spoiled(self: LlavaTrainer, *args: Any) -> torch.Tensor:
        loss = original(self, *args)
        if self.state.global_step == self.state.max_steps - 1:
            loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    monkeypatch.setattr(LlavaTrainer, "_fused_loss", spoiled)
    with pytest.raises(FloatingPointError, match=r"\d+ of \d+ trained tensors .* not finite .*such as '"):
        run("spoiled", logging_steps=100, save_strategy=save_strategy)
    assert not [*(tmp_path / "spoiled").glob("*.safetensors")]
    checkpoints = [path.name for path in (tmp_path / "spoiled").glob("checkpoint-*")]
    assert checkpoints == ([] if save_strategy == "no" else ["checkpoint-3"])  # of two epochs of three steps


def test_the_sampler_gives_every_step_its_own_records(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    trainers = []
    original = LlavaTrainer.__init__

    def remember(self: LlavaTrainer, *args: Any, **kwargs: Any) -> None:
        trainers.append(self)
        original(self, *args, **kwargs)

    monkeypatch.setattr(LlavaTrainer, "__init__", remember)
    run(num_train_epochs=1)
    trainer = trainers[0]
    seen = []
    for trainer.state.global_step in range(3):
        seen += trainer._records_of_step()
    assert sorted(seen) == sorted(f"toys/r{i}" for i in range(24))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chat_template": "vicuna_v11"}, "`chat_template`: .*vicuna"),
        ({"chat_template": None}, "neither the recipe nor the checkpoint has a chat template"),
        ({"train_data": "mixture.yaml"}, "'mixture.yaml' is neither a file nor a packaged mixture"),
        ({"train_data": [{"name": "a", "paht": "b"}]}, "`train_data` cannot be used: .*paht"),
        ({"train_data": [{"name": "a", "path": "nowhere.json"}]}, "`train_data` cannot be used: .*nowhere.json"),
        ({"language_model_name_or_path": "nobody/nothing"}, "recipe names .*nobody/nothing.* cannot be loaded"),
        ({"vision_tower_name_or_path": "./nowhere"}, "recipe names .*nowhere.* cannot be loaded"),
    ],
)
def test_a_run_that_cannot_start_says_why(run: Callable, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"(?s){message}"):
        run(**changes)


def test_a_mixture_file_is_read(run: Callable, data_file: Path, tmp_path: Path) -> None:
    mixture = tmp_path / "mixture.yaml"
    mixture.write_text(f"sources:\n  - {{name: toys, path: {data_file}, num_examples: 16}}\n")
    assert run(train_data=str(mixture), num_train_epochs=1)[1].data.num_used == 16


def test_mistakes_end_in_one_message_and_not_in_a_traceback(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("learning_rat: 1\n")
    with pytest.raises(SystemExit) as ended:
        sft.main(["--config", str(recipe)])
    assert "RecipeError: `learning_rat` is no field" in str(ended.value)
    with pytest.raises(SystemExit, match="no recipe was given"):
        sft.main([])
