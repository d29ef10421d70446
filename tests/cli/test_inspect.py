"""`llava inspect` on tiny files."""

import json
from pathlib import Path

import pytest

import tiny
from transformers_llava.cli import main as cli


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    config = tiny.make_config()
    tiny.make_model(config).save_pretrained(folder)
    tiny.make_processor(config).save_pretrained(folder)
    return folder


def test_a_model_is_shown_by_its_components(checkpoint: Path, capsys: pytest.CaptureFixture) -> None:
    (checkpoint / "model.safetensors").unlink()  # the configuration is enough
    assert cli.main(["inspect", "model", str(checkpoint)]) == 0
    out = capsys.readouterr().out
    assert "multi_modal_projector" in out
    assert "tower cut to 2 of 3 layers" in out
    assert "4 tokens a tile of 28 pixels" in out


def test_data_is_shown_as_a_run_would_read_it(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    tiny.make_image().save(tmp_path / "a.png")
    ask, answer = {"from": "human", "value": "<image>\nColour?"}, {"from": "gpt", "value": "red"}
    records = [{"id": str(i), "image": f"{name}.png", "conversations": [ask, answer]} for i, name in enumerate("ab")]
    (tmp_path / "train.json").write_text(json.dumps(records))
    fields = ["--model_name_or_path", str(checkpoint), "--output_dir", str(tmp_path / "out")]
    fields += ["--train_data", f"[{{name: mine, path: {tmp_path / 'train.json'}}}]"]
    assert cli.main(["inspect", "data", "--config", "tiny/2_instruct", *fields]) == 0
    out = capsys.readouterr().out
    assert "| mine | missing_image | 1 | mine/1 |" in out
    assert "mine: 1 missing_image\n    record 1: record 'mine/1': the image '" in out
    assert "--- mine/0" in out
    assert "\x1b[32m" in out  # something is supervised, in green
    pytest.importorskip("matplotlib")
    plot = str(tmp_path / "h.png")
    assert cli.main(["inspect", "data", "--config", "tiny/2_instruct", *fields, "--show", "0", "--plot", plot]) == 0
    assert Path(plot).read_bytes().startswith(b"\x89PNG")
    assert "--- mine/0" not in capsys.readouterr().out
    assert cli.main(["inspect", "data", "--config", "tiny/2_instruct", *fields, "--strict"]) == 2
    assert "mine/1" in capsys.readouterr().err


def test_an_example_of_several_images_is_shown_with_the_tokens_that_it_trains_on(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = tiny.make_config(image_aspect_ratio="anyres", image_grid_pinpoints=[[28, 56], [56, 28], [56, 56]])
    tiny.make_model(config).save_pretrained(tmp_path / "tiled")
    tiny.make_processor(config).save_pretrained(tmp_path / "tiled")
    tiny.make_image().save(tmp_path / "a.png")
    turns = [{"from": "human", "value": "<image><image>Q"}, {"from": "gpt", "value": "red"}]
    (tmp_path / "train.json").write_text(json.dumps([{"id": "0", "image": ["a.png"] * 2, "conversations": turns}]))
    fields = ["--model_name_or_path", str(tmp_path / "tiled"), "--output_dir", str(tmp_path / "out")]
    fields += ["--train_data", f"[{{name: mine, path: {tmp_path / 'train.json'}}}]"]
    assert cli.main(["inspect", "data", "--config", "tiny/2_instruct", *fields, "--several_images", "one_tile"]) == 0
    out = capsys.readouterr().out
    longest = out.partition("longest: ")[2].partition("\n")[0]
    assert f"--- mine/0, {longest} tokens" in out


def test_a_template_is_printed_and_an_unknown_one_refused(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["inspect", "template", "plain"]) == 0
    assert "{% generation %}" in capsys.readouterr().out.replace("{%-", "{%").replace("-%}", "%}")
    assert cli.main(["inspect", "template", "plane"]) == 2
    assert "plain" in capsys.readouterr().err


def test_what_cannot_be_inspected_is_one_message(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    turns = [{"from": "human", "value": "Colour?"}, {"from": "gpt", "value": "red"}]
    (tmp_path / "train.json").write_text(json.dumps([{"id": "1", "conversations": turns}]))
    (tmp_path / "broken.jinja").write_text("{% for m in messages %}")
    (tmp_path / "binary.jinja").write_bytes(b"\xff\xfe\0")
    (tmp_path / "raising.jinja").write_text("{{ raise_exception('no such role') }}{% generation %}{% endgeneration %}")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text("[]")

    def message(*fields: str, source: str = "", model: str = str(checkpoint)) -> str:
        train_data = f"[{{name: mine, path: {tmp_path / 'train.json'}{source}}}]"
        common = ["--model_name_or_path", model, "--output_dir", str(tmp_path / "out"), "--train_data", train_data]
        assert cli.main(["inspect", "data", "--config", "tiny/2_instruct", *common, *fields]) == 2
        return capsys.readouterr().err

    assert "gone.jinja' cannot be read" in message("--chat_template", str(tmp_path / "gone.jinja"))
    assert "cannot be read" in message("--chat_template", str(tmp_path / "binary.jinja"))
    assert "the chat template is no Jinja" in message("--chat_template", str(tmp_path / "broken.jinja"))
    assert "no such role" in message("--chat_template", str(tmp_path / "raising.jinja"))
    assert "weight='x'. It must be a number" in message(source=", weight: x")
    assert "seed='x'" in message(source=", seed: x")
    assert "the model 'me/x' cannot be read" in message(model="me/x")
    assert "odd' cannot be read" in message(model=str(tmp_path / "odd"))
    assert "--show -1" in message("--show", "-1")
    assert "num_proc: 0` is below 1" in message("--data_num_proc", "0")
    for name in ("me/x", str(tmp_path / "odd")):
        assert cli.main(["inspect", "model", name]) == 2
        assert "cannot be read" in capsys.readouterr().err
