"""`run.json`: what it says, and what it must not say."""

import getpass
import hashlib
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from transformers_llava.artifacts.digests.file_digests import combined_digest
from transformers_llava.artifacts.run_record.portable_values import without_absolute_paths
from transformers_llava.artifacts.run_record.record_file import read_run_record, write_run_record
from transformers_llava.artifacts.run_record.run_stages import RunRecord, Stage


def test_the_record_tells_what_was_run_on_what_and_what_came_of_it(run: Callable, data_file: Path) -> None:
    folder, _ = run()
    record = json.loads((folder / "run.json").read_text())
    assert record["stage"] == "instruct"
    assert record["seed"] == record["configuration"]["seed"] == 0
    assert record["configuration"]["adam_beta2"] == 0.999  # a default that nobody wrote
    assert "adam_beta2" not in record["recipe"]
    assert record["recipe"]["learning_rate"] == 1e-3
    rows = {row["component"]: row for row in record["components"]}
    assert (rows["vision_tower"]["trainable"], rows["vision_tower"]["learning_rate"]) == (0, None)
    assert rows["language_model"]["trainable"] == rows["language_model"]["parameters"] > 0
    assert record["data"]["sources"][0]["name"] == "toys"
    assert record["data"]["digest"].startswith("sha256:")
    assert record["data"]["lengths"]["num_examples"] == 24
    assert [entry["step"] for entry in record["loss_history"] if "loss" in entry] == [1, 2, 3, 4, 5, 6]
    assert record["progress"]["global_step"] == 6
    assert record["progress"]["num_tokens"] > 0
    assert record["progress"]["seconds"] > 0
    assert {"torch", "transformers", "trl", "transformers-llava"} <= set(record["versions"])
    assert record["hardware"]["world_size"] == 1
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert record["weights"] == {"model.safetensors": digest}
    assert record["weights_sha256"] == digest


def test_the_record_names_no_machine_user_or_path(run: Callable, tmp_path: Path, data_file: Path) -> None:
    broken = tmp_path / "broken.json"
    records = json.loads(data_file.read_text())
    for record in records:
        if "image" in record:
            record["image"] = str(data_file.parent / record["image"])
    records.append({**records[1], "id": "gone", "image": "gone.png"})
    broken.write_text(json.dumps(records))
    folder, _ = run(
        num_train_epochs=1, train_data=[{"name": "b", "path": str(broken), "image_root": str(data_file.parent)}]
    )
    text = (folder / "run.json").read_text()
    record = json.loads(text)
    assert record["data"]["num_dropped"] == 1
    assert record["recipe"]["train_data"] == [
        {"name": "b", "path": "broken.json", "image_root": data_file.parent.name}
    ]
    for secret in (str(tmp_path), str(data_file.parent), str(Path.home()) + "/", socket.gethostname()):
        assert secret not in text
    assert f'"{getpass.getuser()}"' not in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/data/me/train.json", "train.json"),
        ("~/train.json", "train.json"),
        ("data/train.json", "data/train.json"),
        ("liuhaotian/llava-v1.5-7b", "liuhaotian/llava-v1.5-7b"),
        ("file '/data/me/a.jpg' is empty", "file 'a.jpg' is empty"),
        ("file '/Users/john smith/x' is empty", "file 'x' is empty"),
        ("file /Users/john smith/My Pictures/x.png is empty", "file x.png is empty"),
        ("--config '/mnt/john smith/1 a.yaml' --output_dir /home/john", "--config '1 a.yaml' --output_dir ~"),
        ("/home/john smith/", "~"),
        ("see https://host/a/b.html", "see https://host/a/b.html"),
        ("and/or </s> 1/2", "and/or </s> 1/2"),
        (Path("/data/me"), "me"),
        ({"a": ["/x/y", 1, None]}, {"a": ["y", 1, None]}),
    ],
)
def test_places_are_cut_to_their_last_part(value: object, expected: object) -> None:
    assert without_absolute_paths(value) == expected


def test_several_weight_files_have_one_digest_that_sha256sum_can_check() -> None:
    assert combined_digest({}) is None
    assert combined_digest({"a": "1"}) == "1"
    assert combined_digest({"b": "2", "a": "1"}) == hashlib.sha256(b"1  a\n2  b\n").hexdigest()


def test_two_runs_of_one_seed_give_the_same_bits_and_another_seed_does_not(run: Callable) -> None:
    digests = [run(name, seed=seed)[1].weights_sha256 for name, seed in (("a", 7), ("b", 7), ("c", 8))]
    assert digests[0] == digests[1] != digests[2]


def test_dataloader_workers_do_not_change_a_bit(run: Callable) -> None:
    alone = run("alone", num_train_epochs=1)[1].weights_sha256
    helped = run("helped", num_train_epochs=1, dataloader_num_workers=2)[1].weights_sha256
    assert alone == helped


def test_a_record_is_replaced_whole(tmp_path: Path) -> None:
    record = write_run_record(RunRecord((Stage(seed=0),)), tmp_path)
    write_run_record(record.with_own(loss_history=[{"loss": torch.tensor(1.0).item()}]), tmp_path)
    assert read_run_record(tmp_path).own.loss_history == [{"loss": 1.0}]
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
