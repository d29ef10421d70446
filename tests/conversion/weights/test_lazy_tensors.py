"""Weight files are read one tensor at a time, written without holding a shard, and a hostile pickle is never run."""

import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from transformers_llava.conversion.weights.lazy_tensors import LazyTensor, fit_rows
from transformers_llava.conversion.weights.shards import parse_size, write_state
from transformers_llava.conversion.weights.tensor_files import open_file, open_state, weight_files


def lazy(state: dict[str, torch.Tensor]) -> dict[str, LazyTensor]:
    return {key: LazyTensor.of(value) for key, value in state.items()}


def mixed_state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "half": torch.randn(3, generator=generator).half(),
        "full": torch.randn(2, 5, generator=generator),
        "brain": torch.randn(7, generator=generator).bfloat16(),
        "count": torch.arange(4),
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 4),
        "flags": torch.tensor([True, False]),
    }


@pytest.mark.parametrize("size", ["5GB", "50", 1])
def test_written_shards_are_what_safetensors_reads(tmp_path, size):
    state = mixed_state()
    names = write_state(lazy(state), tmp_path, max_shard_size=size)
    assert len(names) == {"5GB": 1, "50": 3, 1: 7}[size]
    read = {key: value for name in names for key, value in load_file(tmp_path / name).items()}
    assert set(read) == set(state)
    for key, value in state.items():
        assert read[key].dtype == value.dtype
        assert torch.equal(read[key], value)
    assert {key: tensor.read().tolist() for key, tensor in open_state(tmp_path).items()} == {
        key: value.tolist() for key, value in state.items()
    }


def test_only_one_tensor_is_held_while_writing(tmp_path):
    alive, most = set(), 0

    class Counted(torch.Tensor):
        pass

    def reader(i: int):
        def read():
            nonlocal most
            import gc
            import weakref

            tensor = torch.full((1000,), float(i))
            alive.add(i)
            weakref.finalize(tensor, alive.discard, i)
            gc.collect()
            most = max(most, len(alive))
            return tensor

        return read

    state = {str(i): LazyTensor((1000,), torch.float32, reader(i)) for i in range(6)}
    write_state(state, tmp_path)
    assert most == 1


def test_bin_files_old_and_new_are_read(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "new.bin")
    torch.save({"a": torch.ones(2)}, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    for name in ("new.bin", "old.bin"):
        assert open_file(tmp_path / name)["a"].read().tolist() == [1.0, 1.0]


class _Hostile:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (str(self.file), "w"))


@pytest.mark.parametrize("plain_pickle", [True, False])
def test_a_pickle_that_wants_more_than_tensors_is_refused_and_not_run(tmp_path, plain_pickle):
    trace, file = tmp_path / "trace", tmp_path / "pytorch_model.bin"
    content = {"a": torch.ones(2), "b": _Hostile(trace)}
    if plain_pickle:
        file.write_bytes(pickle.dumps({"b": _Hostile(trace)}))
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match="refused and nothing of it was run"):
        open_state(tmp_path)
    assert not trace.exists()


def test_a_damaged_file_says_so(tmp_path):
    torch.save({"a": torch.ones(2000)}, tmp_path / "whole.bin")
    (tmp_path / "pytorch_model.bin").write_bytes((tmp_path / "whole.bin").read_bytes()[:3000])
    with pytest.raises(ValueError, match="damaged or was not downloaded completely"):
        open_state(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    write_state(lazy(mixed_state()), tmp_path, max_shard_size="50")
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ValueError, match="model-00002-of-00003"):
        weight_files(tmp_path)
    with pytest.raises(ValueError, match="holds no weights"):
        weight_files(tmp_path.parent)


def test_training_files_are_not_taken_for_weights(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "training_args.bin")
    write_state(lazy({"w": torch.ones(1)}), tmp_path)
    assert [file.name for file in weight_files(tmp_path)] == ["model.safetensors"]


def test_rows_are_cut_or_filled_with_the_mean():
    table = LazyTensor.of(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert fit_rows(table, 1).read().tolist() == [[1.0, 2.0]]
    assert fit_rows(table, 4).read().tolist() == [[1.0, 2.0], [3.0, 4.0], [2.0, 3.0], [2.0, 3.0]]
    assert fit_rows(table, 4).shape == (4, 2)
    assert fit_rows(table, 2) is table


def test_casting_leaves_counters_alone(tmp_path):
    state = {key: tensor.to(torch.bfloat16) for key, tensor in lazy(mixed_state()).items()}
    write_state(state, tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as tensors:
        assert tensors.get_tensor("full").dtype == torch.bfloat16
        assert tensors.get_tensor("count").dtype == torch.int64


@pytest.mark.parametrize(("text", "size"), [("2GB", 2 * 10**9), ("1.5MB", 1500000), ("10kb", 10000), ("7", 7), (9, 9)])
def test_sizes(text, size):
    assert parse_size(text) == size


def test_a_size_that_is_none_is_refused():
    with pytest.raises(ValueError, match="'large'"):
        parse_size("large")
