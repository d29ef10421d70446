"""`llava data` on tiny files."""

import json
import os
from pathlib import Path

import pytest

import tiny
from transformers_llava.cli import main as cli


@pytest.fixture(autouse=True)
def mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRANSFORMERS_LLAVA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        tiny.make_image(seed=number).save(tmp_path / f"{number}.png")
    turns = [{"from": "human", "value": "<image>\nQ"}, {"from": "gpt", "value": "A"}]
    for name in "ab":
        records = [{"id": f"{name}{n}", "image": f"{n}.png", "conversations": turns} for n in range(2)]
        (tmp_path / f"{name}.json").write_text(json.dumps(records))
    text = "sources: [{name: a, path: a.json, license: MIT}, {name: b, path: b.json, image_root: .}]"
    (tmp_path / "mine.yaml").write_text(text)
    return tmp_path / "mine.yaml"


def run(capsys: pytest.CaptureFixture, *argv: str, status: int = 0) -> str:
    assert cli.main(["data", *argv]) == status
    captured = capsys.readouterr()
    return captured.err if status == 2 else captured.out


def test_what_was_locked_is_verified(capsys: pytest.CaptureFixture) -> None:
    assert "| a | 2 | 2 | 2 | 50.0% | 2 | MIT |" in run(capsys, "lock", "mine.yaml")
    assert "4 examples, as locked: the same examples in the same order (sha256:" in run(
        capsys, "verify", "mine.yaml", "mixture.lock.json"
    )


def test_verify_says_which_source_changed_and_how(capsys: pytest.CaptureFixture, mixture: Path) -> None:
    run(capsys, "lock", "mine.yaml")
    mixture.with_name("b.json").write_text(mixture.with_name("b.json").read_text().replace('"A"', '"B"'))
    out = run(capsys, "verify", "mine.yaml", "mixture.lock.json", status=1)
    assert out.startswith("source 'b': its messages and image bytes are not what they were (")
    assert len(out.splitlines()) == 1


def test_verify_sees_an_image_exchanged_under_the_same_size_and_time(
    capsys: pytest.CaptureFixture, mixture: Path
) -> None:
    image = mixture.with_name("1.png")
    tiny.make_image(seed=1).save(image, "BMP")
    run(capsys, "lock", "mine.yaml")
    status, content = image.stat(), bytearray(image.read_bytes())
    content[-1] ^= 1
    image.write_bytes(bytes(content))
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    out = run(capsys, "verify", "mine.yaml", "mixture.lock.json", status=1)
    assert [line.split(":")[0] for line in out.splitlines()] == ["source 'a'", "source 'b'"]


LOCK = {"version": 1, "seed": 0, "row_order": "file", "num_used": 1, "digest": "", "order_digest": ""}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"version": 1}', "`seed` is missing"),
        (json.dumps({**LOCK, "sources": [1]}), "`sources` is no list of blocks of fields"),
    ],
)
def test_a_broken_lock_is_one_message(capsys: pytest.CaptureFixture, mixture: Path, text: str, message: str) -> None:
    mixture.with_name("other.json").write_text(text)
    assert message in run(capsys, "verify", "mine.yaml", "other.json", status=2)


def test_without_a_lock_missing_images_are_told(capsys: pytest.CaptureFixture, mixture: Path) -> None:
    assert "4 examples, complete (sha256:" in run(capsys, "verify", "mine.yaml")
    mixture.with_name("1.png").unlink()
    out = run(capsys, "verify", "mine.yaml", status=1)
    assert "source 'a': 1 records are dropped as missing_image, for example a/a1: " in out


def test_published_counts_are_compared(capsys: pytest.CaptureFixture, mixture: Path) -> None:
    part = "{name: p, num_examples: 3, image_folder: coco}"
    mixture.write_text(f"sources: [{{name: a, path: a.json, parts: [{part}]}}]")
    out = run(capsys, "verify", "mine.yaml", status=1)
    assert "source 'a' has 2 records; 3 were published" in out
    assert "source 'a' has 0 records with images in 'coco'; 3 were published" in out


def test_a_token_budget_needs_a_tokenizer(capsys: pytest.CaptureFixture, mixture: Path) -> None:
    mixture.write_text("sources: [{name: a, path: a.json, num_tokens: 50}]")
    assert "Name the checkpoint with --model" in run(capsys, "lock", "mine.yaml", status=2)
    config = tiny.make_config()
    config.save_pretrained("checkpoint")
    tiny.make_processor(config).save_pretrained("checkpoint")
    run(capsys, "lock", "mine.yaml", "--model", "checkpoint", "--max_length", "64")
    lock = json.loads(Path("mixture.lock.json").read_text())
    assert 0 < lock["sources"][0]["num_tokens"] <= 50
    assert lock["sources"][0]["num_beyond_budget"] == 2 - lock["lengths"]["num_examples"]
    assert lock["lengths"]["max_length"] == 64


def test_the_download_plan_says_what_is_here(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "llava_v1_5_mix665k.json").write_text("[]")
    out = run(capsys, "download-plan", "llava-v1.5-mix665k", "--data_root", str(tmp_path))
    assert f"[here   ] {tmp_path / 'llava_v1_5_mix665k.json'}: records, about 1 GB" in out
    assert f"[missing] {tmp_path / 'coco/train2017'}: COCO train2017, about 18 GB" in out
    assert "157,712 LLaVA-Instruct: CC-BY-4.0" in out
    assert "llava-v1.5-mix665k" in run(capsys, "ls")
    assert "b.json: here" in run(capsys, "download-plan", "mine.yaml")


def test_an_unknown_mixture_and_a_missing_lock_are_refused(capsys: pytest.CaptureFixture) -> None:
    assert "Packaged are: demo" in run(capsys, "lock", "yours", status=2)
    assert "there is no lock at" in run(capsys, "verify", "mine.yaml", "nowhere.json", status=2)


MISTYPED = {
    "weight: half": "weight='half'. It must be a number",
    "num_examples: ten": "num_examples='ten'. It must be a whole number",
    'num_examples: "10"': "num_examples='10'. It must be a whole number",
    "num_examples: true": "num_examples=True. It must be a whole number",
    "weight: 2026-11-25": "weight=datetime.date(2026, 11, 25). It must be a number",
    "weight: .nan": "weight=nan. A weight is a positive number",
    "weight: 1.0e+30": "of at most 1000",
    "sampling: 10": "sampling=10. It must be text; put quotes around it",
    "sampling: random:99999999999999999999": "Use all, first:N",
    "seed: x": "seed='x'. It must be a whole number",
    "parts: 5": "parts=5. It must be a list",
    "parts: [{name: p, num_examples: ten}]": "the part 'p' has num_examples='ten'",
    "parts: [{name: p, num_examples: 1, license: 4.0}]": "the part 'p' has license=4.0",
    "downloads: [{name: d, url: 5, target: x}]": "the download 'd' has url=5",
    "filters: {image_folders: 3}": "image_folders=3. Give the names of folders",
    "filters: {5: 3}": "filters={5: 3}",
    "image_root: [a]": "image_root=['a']. It must be text",
    "format: jason": "format='jason'. Use auto, llava, sharegpt or messages",
    "collapse_markers: maybe": "collapse_markers='maybe'. It must be true or false",
    "license: [MIT]": "license=['MIT']. It must be text",
    "5: x": "the unknown fields ['5']",
}


@pytest.mark.parametrize("field", MISTYPED)
def test_a_mistyped_field_of_a_source_is_one_message(capsys: pytest.CaptureFixture, mixture: Path, field: str) -> None:
    mixture.write_text(f"sources:\n- name: a\n  path: a.json\n  {field}\n")
    assert MISTYPED[field] in run(capsys, "lock", "mine.yaml", status=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: [{name: 5, path: a.json}]", "name=5. It must be text"),
        ("sources: [{name: a, path: 5}]", "path=5. It must be text"),
        ("seed: x\nsources: [{name: a, path: a.json}]", "the mixture has seed='x'. It must be a whole number"),
        ("row_order: 3\nsources: [{name: a, path: a.json}]", "row_order=3"),
        ("datasets: [{json_path: 5}]", "json_path=5. It must be a path"),
        ("sources: [{name: a, path: empty}]", "cannot be read as a data set"),
        ("sources: [{name: a, path: broken}]", "cannot be read as a data set"),
        ("sources: [{name: a, path: nowhere.json}]", "does not exist"),
        ("sources: [{name: a, path: a.json, image_root: images.tgz}]", "is a compressed tar"),
        ("sources: !!python/object:os.system {}", "is not YAML"),
        ("5", "holds 5 where a mapping or a list or nothing is expected"),
    ],
)
def test_a_mixture_of_another_form_is_one_message(
    capsys: pytest.CaptureFixture, mixture: Path, text: str, message: str
) -> None:
    mixture.with_name("empty").mkdir()
    mixture.with_name("broken").mkdir()
    mixture.with_name("broken").joinpath("train.json").write_text('[{"id": 1}, {"id": ')
    mixture.with_name("images.tgz").write_bytes(b"")
    mixture.write_text(text)
    assert message in run(capsys, "lock", "mine.yaml", status=2)


def test_aliases_that_multiply_are_not_written_out(capsys: pytest.CaptureFixture, mixture: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    mixture.write_text("\n".join([*lines, "sources: *a11"]))
    assert "once its aliases are written out" in run(capsys, "lock", "mine.yaml", status=2)


def test_settings_that_make_no_sense_are_refused_before_anything_is_read(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    assert "--output 'nowhere' is no folder" in run(capsys, "lock", "mine.yaml", "--output", "nowhere", status=2)
    for number in ("0", "-2"):
        assert f"num_proc={number}" in run(capsys, "lock", "mine.yaml", "--num_proc", number, status=2)
    assert "no processor can be loaded from 'me/x'" in run(capsys, "lock", "mine.yaml", "--model", "me/x", status=2)
    config = tiny.make_config()
    config.save_pretrained("checkpoint")
    tiny.make_processor(config).save_pretrained("checkpoint")
    out = run(capsys, "lock", "mine.yaml", "--model", "checkpoint", "--max_length", "0", status=2)
    assert "max_length=0 leaves no token" in out
    tiny.make_processor(config).tokenizer.save_pretrained("text_only")
    config.text_config.save_pretrained("text_only")
    assert "'text_only'" in run(capsys, "lock", "mine.yaml", "--model", "text_only", status=2)
    assert not Path("mixture.lock.json").exists()
