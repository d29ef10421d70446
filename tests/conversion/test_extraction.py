"""`--to projector` honours or refuses every flag, and its file appears whole or not at all."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from support.original_folders import write_original
from transformers_llava.cli.main import main
from transformers_llava.conversion import convert as extraction
from transformers_llava.conversion.convert import extract_projector


@pytest.fixture
def original(tmp_path):
    return write_original(tmp_path / "original").folder


@pytest.mark.parametrize(
    "flags",
    [["--check_parity"], ["--template", "plain"], ["--with_code"], ["--max_shard_size", "1GB"]],
)
def test_a_flag_that_a_projector_has_no_use_for_is_refused(tmp_path, original, capsys, flags):
    assert main(["convert", str(original), str(tmp_path / "projector.bin"), "--to", "projector", *flags]) == 2
    message = capsys.readouterr().err
    assert flags[0] in message
    assert "Leave it out" in message
    assert not (tmp_path / "projector.bin").exists()


@pytest.mark.parametrize("name", ["projector.bin", "projector.safetensors"])
def test_the_projector_is_cast_as_asked(tmp_path, original, name):
    file = tmp_path / name
    assert main(["convert", str(original), str(file), "--to", "projector", "--dtype", "bfloat16"]) == 0
    state = load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
    assert len(state) == 4
    assert {tensor.dtype for tensor in state.values()} == {torch.bfloat16}


def test_a_cast_that_overflows_is_refused(tmp_path, original, capsys):
    state = load_file(original / "model.safetensors")
    state["model.mm_projector.2.weight"][0, 0] = 1e6
    save_file(state, original / "model.safetensors", metadata={"format": "pt"})
    assert main(["convert", str(original), str(tmp_path / "p.bin"), "--to", "projector", "--dtype", "float16"]) == 2
    message = capsys.readouterr().err
    assert "linear_2.weight" in message
    assert "1e+06" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["original", "tower"]


@pytest.mark.parametrize(("name", "writer"), [("p.bin", "torch.save"), ("p.safetensors", "save_file")])
def test_a_failure_half_way_leaves_nothing(tmp_path, original, monkeypatch, name, writer):
    def break_down(tensors, path, *args, **kwargs):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(f"{extraction.__name__}.{writer}", break_down)
    with pytest.raises(OSError, match="disk full"):
        extract_projector(original, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["original", "tower"]


def test_a_file_that_is_there_is_kept(tmp_path, original, capsys):
    (tmp_path / "p.bin").write_text("precious")
    assert main(["convert", str(original), str(tmp_path / "p.bin"), "--to", "projector"]) == 2
    assert "exists" in capsys.readouterr().err
    assert (tmp_path / "p.bin").read_text() == "precious"
