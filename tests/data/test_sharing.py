"""The cache is shared by processes, machines and users, and none of them fails because of it."""

import json
import logging
import multiprocessing
import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset

from transformers_llava.data import cache as keeping
from transformers_llava.data.cache import keep_file, only_one, remove_leftovers
from transformers_llava.data.mixture import image_verification as verification
from transformers_llava.data.mixture.config import MixtureConfig, SourceConfig
from transformers_llava.data.mixture.mixture_building import build_mixture
from transformers_llava.data.mixture.source import load_source
from transformers_llava.data.records import record_store as parsing
from transformers_llava.data.schema import EXAMPLE_FEATURES
from transformers_llava.data.tokens import length_filter as measuring
from transformers_llava.data.tokens.counting import TokenCounter
from transformers_llava.data.tokens.length_filter import measure_examples


FORK = multiprocessing.get_context("fork") if sys.platform != "win32" else None
pytestmark = pytest.mark.skipif(FORK is None, reason="the kernel's locks of files are asked for")


def run_two(target: Callable[[int, Path], None], folder: Path) -> None:
    """Two processes at the same time; what they raise fails the test."""
    processes = [FORK.Process(target=target, args=(number, folder)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]


@pytest.fixture
def dataset(example) -> Dataset:
    examples = [example(f"Q{number}", "A" * (number % 7 + 1), id=str(number)) for number in range(40)]
    return Dataset.from_list(examples, features=EXAMPLE_FEATURES)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file to which every process that counts an example adds a line; parts of four rows."""
    monkeypatch.setattr(measuring, "_ROWS_PER_TASK", 2)
    monkeypatch.setattr(measuring, "_ROWS_PER_PART", 4)
    outcome = TokenCounter.outcome

    def slow(counter, example):
        time.sleep(0.01)
        with open(tmp_path / "counted", "a") as file:
            file.write(f"{os.getpid()} {example['id']}\n")
        return outcome(counter, example)

    monkeypatch.setattr(TokenCounter, "outcome", slow)
    return tmp_path / "counted"


def test_processes_share_out_the_counting_and_each_has_all_of_it(tiny_processor, dataset, counted, tmp_path) -> None:
    expected = measure_examples(dataset, tiny_processor)
    counted.unlink()

    def measure(number: int, folder: Path) -> None:
        measured = measure_examples(
            dataset, tiny_processor, cache_key="a", cache_dir=folder / "shared", num_proc=number
        )
        assert measured.lengths == expected.lengths

    meeting = FORK.Barrier(2)  # neither has counted all before the other has begun

    def both(number: int, folder: Path) -> None:
        outcome, has_met = TokenCounter.outcome, FORK.Value("b", 0)

        def meet(counter, example):
            with has_met.get_lock():
                if not has_met.value:
                    meeting.wait(300)
                    has_met.value = 1
            return outcome(counter, example)

        TokenCounter.outcome = meet
        measure(number + 1, folder)  # one of them with processes of its own

    run_two(both, tmp_path)
    lines = [line.split() for line in counted.read_text().splitlines()]
    assert sorted(int(row) for _, row in lines) == list(range(40))  # nobody counted what another did
    assert len({process for process, _ in lines}) > 1
    assert [file.suffix for file in (tmp_path / "shared").iterdir()] == [".parquet"]


def test_a_process_that_is_slower_than_the_cleaning_counts_its_part_again(
    tiny_processor, dataset, counted, tmp_path, monkeypatch
) -> None:
    """The others have removed the parts between this one's making of the folder and its writing into it."""
    expected = measure_examples(dataset, tiny_processor)
    write_table, raced = measuring.pyarrow.parquet.write_table, []

    def race(table, path) -> None:
        if Path(path).parent.suffix == ".parts" and len(raced) < 3:
            raced.append(path)
            keeping.shutil.rmtree(Path(path).parent)
        write_table(table, path)

    monkeypatch.setattr(measuring.pyarrow.parquet, "write_table", race)
    measured = measure_examples(dataset, tiny_processor, cache_key="a", cache_dir=tmp_path / "shared")
    assert measured.lengths == expected.lengths
    assert len(raced) == 3


def test_a_killed_process_leaves_its_part_to_the_others(tiny_processor, dataset, counted, tmp_path) -> None:
    parent, child = FORK.Pipe()
    outcome = TokenCounter.outcome

    def die(counter, example):
        child.send(example["id"])
        time.sleep(300)

    def measure() -> None:
        TokenCounter.outcome = die
        measure_examples(dataset, tiny_processor, cache_key="a", cache_dir=tmp_path / "shared")

    process = FORK.Process(target=measure)
    process.start()
    assert parent.poll(300)
    assert TokenCounter.outcome is outcome
    parts = next((tmp_path / "shared").glob("*.parts"))
    with only_one(parts / "0.lock", wait=False) as is_ours:
        assert not is_ours
    process.kill()
    process.join()
    measured = measure_examples(dataset, tiny_processor, cache_key="a", cache_dir=tmp_path / "shared")
    assert len(measured.lengths) == 40


def test_one_process_reads_and_looks_and_the_others_take_it(write_source, png, tmp_path, monkeypatch) -> None:
    turns = [{"from": "human", "value": "<image>\nQ"}, {"from": "gpt", "value": "A"}]
    records = [{"id": str(n), "image": f"{n}.png", "conversations": turns} for n in range(6)]
    path = write_source(records, {f"{n}.png": png(seed=n) for n in range(6)})
    check = verification.check_image

    def slow(*args):
        time.sleep(0.02)
        with open(tmp_path / "looked", "a") as file:
            file.write("x")
        return check(*args)

    monkeypatch.setattr(verification, "check_image", slow)

    def load(number: int, folder: Path) -> None:
        _, report = load_source(SourceConfig("s", str(path)), cache_dir=folder / "shared", num_proc=1)
        assert report.num_kept == 6

    run_two(load, tmp_path)
    assert (tmp_path / "looked").read_text() == "x" * 6


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.suffix != ".lock"}


def test_what_is_kept_has_the_modes_of_new_files(write_source, png, tiny_processor, tmp_path) -> None:
    turns = [{"from": "human", "value": "<image>\nQ"}, {"from": "gpt", "value": "A"}]
    path = write_source([{"id": "1", "image": "a.png", "conversations": turns}], {"a.png": png()})
    umask = os.umask(0o002)  # a group shares its files
    try:
        dataset, report = build_mixture(MixtureConfig([SourceConfig("s", str(path))]), cache_dir=tmp_path / "shared")
        measure_examples(dataset, tiny_processor, cache_key=report.content_key(), cache_dir=tmp_path / "shared")
        keep_file(tmp_path / "shared" / "remote_images" / "a", lambda file: file.write_bytes(b""))
    finally:
        os.umask(umask)
    assert modes(tmp_path / "shared") == {0o775, 0o664}


def source(write_source) -> SourceConfig:
    turns = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
    return SourceConfig("s", str(write_source([{"id": "1", "conversations": turns}])))


def test_a_cache_that_cannot_be_written_is_one_warning(
    write_source, tiny_processor, tmp_path, caplog, monkeypatch, png
) -> None:
    """Where the cache should be there is a file: so even root cannot write it."""
    (tmp_path / "file").write_text("")
    turns = [{"from": "human", "value": "<image>\nQ"}, {"from": "gpt", "value": "A"}]
    path = write_source([{"id": "1", "image": "a.png", "conversations": turns}], {"a.png": png()})
    monkeypatch.setattr(keeping, "_warned", set())
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            config = MixtureConfig([SourceConfig("s", str(path))])
            dataset, report = build_mixture(config, cache_dir=tmp_path / "file" / "cache")
            measured = measure_examples(
                dataset, tiny_processor, cache_key=report.content_key(), cache_dir=tmp_path / "file" / "cache"
            )
            assert (dataset["id"], len(measured.lengths)) == (["1"], 1)
    said = [one.message for one in caplog.records if "cannot be used" in one.message]
    assert 1 <= len(said) <= 2
    assert "Set TRANSFORMERS_LLAVA_CACHE" in said[0]


def test_a_full_disk_is_a_warning_too(write_source, tmp_path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(keeping, "_warned", set())
    savez = parsing.np.savez

    def full(file, **arrays):
        if str(tmp_path) in str(file):
            raise OSError(28, "No space left on device")
        savez(file, **arrays)

    monkeypatch.setattr(parsing.np, "savez", full)
    monkeypatch.setattr(keeping.tempfile, "tempdir", None)
    dataset, _ = load_source(source(write_source), cache_dir=tmp_path / "shared")
    assert dataset["id"] == ["1"]
    assert "No space left on device" in caplog.text
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["locks"]


@pytest.mark.parametrize("file", ["rows.npz", "examples.arrow", "images.parquet", "report.json"])
def test_a_kept_source_that_was_cut_short_is_parsed_again(write_source, tmp_path, file) -> None:
    config = source(write_source)
    load_source(config, cache_dir=tmp_path / "shared")
    kept = next((tmp_path / "shared").glob(f"*/{file}"))
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 3])
    assert load_source(config, cache_dir=tmp_path / "shared")[0]["id"] == ["1"]
    if file != "report.json":
        assert len(kept.read_bytes()) == len(whole)
    json.loads(kept.with_name("report.json").read_text())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_folder_of_another_user_is_read_or_does_not_matter(png, monkeypatch, mode) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # that of pytest cannot be entered by others
        folder = Path(name)
        folder.chmod(0o755)
        data = folder / "data.json"
        (folder / "a.png").write_bytes(png())
        turns = [{"from": "human", "value": "<image>\nQ"}, {"from": "gpt", "value": "A"}]
        data.write_text(json.dumps([{"id": "1", "image": "a.png", "conversations": turns}]))
        config = SourceConfig("s", str(data))
        load_source(config, cache_dir=folder / "shared")
        kept = next(path for path in (folder / "shared").iterdir() if path.name != "locks")
        (kept / "verdicts.decode.parquet").unlink()  # cannot be written by the others
        kept.chmod(mode)

        def load(number: int, folder: Path) -> None:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            monkeypatch.setattr(keeping.tempfile, "tempdir", "/tmp")
            assert load_source(config, cache_dir=folder / "shared")[0]["id"] == ["1"]

        run_two(load, folder)
        assert (kept / "rows.npz").is_file()


def test_leftovers_of_killed_runs_are_removed_a_day_later(write_source, tmp_path) -> None:
    shared = tmp_path / "shared"
    digest = "0123456789abcdef0123456789abcdef"
    old = [f".{digest}.{digest}.unfinished", f"{digest}.a1b2c3_x", f"lengths.{digest}.4711"]
    other = [digest, "locks", f"lengths.{digest}.parquet", f"lengths.{digest}.parts", "a.unfinished.txt"]
    for name in (*old, *other):
        (shared / name).mkdir(parents=True)
        os.utime(shared / name, (0, 0))
    (shared / f".x.{digest}.unfinished").mkdir()
    remove_leftovers(shared)
    assert sorted(path.name for path in shared.iterdir()) == sorted([*other, f".x.{digest}.unfinished"])
    (shared / old[0]).mkdir()
    os.utime(shared / old[0], (0, 0))
    load_source(source(write_source), cache_dir=shared)
    assert not (shared / old[0]).exists()


def test_two_machines_with_equal_process_numbers_do_not_meet(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 7)
    names = set()

    def write(file: Path) -> None:
        names.add(file)
        if len(names) == 1:
            assert keep_file(tmp_path / "a.parquet", write)  # the other machine, in between
        file.write_text(f"{len(names)}")

    assert keep_file(tmp_path / "a.parquet", write)
    assert len(names) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
