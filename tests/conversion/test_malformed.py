"""Whatever a folder holds, `llava convert` ends in one message that names the file, and leaves nothing behind."""

import json
import shutil

import pytest

from support.original_folders import write_original
from transformers_llava.cli.main import main
from transformers_llava.conversion.convert import convert_checkpoint


ONE_TENSOR = b'{"%s":{"dtype":"%s","shape":[1],"data_offsets":[0,4]}}'
DEEP = "[" * 200 + "]" * 200


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("malformed")
    write_original(root / "original")
    convert_checkpoint(root / "original", root / "open_llava")
    convert_checkpoint(root / "original", root / "builtin", to="builtin")
    original = root / "original"
    (root / "sharded").mkdir()
    for file in original.iterdir():
        name = "one.safetensors" if file.name == "model.safetensors" else file.name
        shutil.copyfile(file, root / "sharded" / name)
    shutil.copyfile(original / "model.safetensors", root / "secret.safetensors")
    (root / "bin").mkdir()
    for file in original.iterdir():
        if file.name != "model.safetensors":
            shutil.copyfile(file, root / "bin" / file.name)
    return root


def tensors(name: bytes, dtype: bytes) -> bytes:
    header = ONE_TENSOR % (name, dtype)
    return len(header).to_bytes(8, "little") + header + b"\0\0\0\0"


def fields(**changes):
    """An edit of a JSON file."""
    return lambda content: json.dumps(json.loads(content) | changes).encode()


def nested(name, **changes):
    def edit(content):
        config = json.loads(content)
        return json.dumps(config | {name: config[name] | changes}).encode()

    return edit


WORDS = "image_grid_pinpoints"
# (kind of folder, file, its new content or an edit of it, what the message says beside the file's name)
CASES = {
    "truncated weights": ("original", "model.safetensors", lambda content: content[:-100], "damaged"),
    "half a header": ("original", "model.safetensors", lambda content: content[:40], "damaged"),
    "empty weights": ("original", "model.safetensors", b"", "damaged"),
    "a web page as weights": ("original", "model.safetensors", b"<!DOCTYPE html><html></html>", "damaged"),
    "a header of exabytes": ("original", "model.safetensors", b"\xff" * 64, "damaged"),
    "MLX's type": ("original", "model.safetensors", tensors(b"lm_head.weight", b"U32"), "U32"),
    "a type of the future": ("original", "model.safetensors", tensors(b"lm_head.weight", b"F4"), ""),
    "weights in a folder": ("open_llava", "model.safetensors", None, "no weights"),
    "no pickle": ("bin", "pytorch_model.bin", b"hello", ""),
    "an index without weight_map": ("sharded", "model.safetensors.index.json", b"{}", "weight_map"),
    "an index that is a list": ("sharded", "model.safetensors.index.json", b"[1]", "mapping"),
    "an index that is a number": ("sharded", "model.safetensors.index.json", b"5", "mapping"),
    "an index of numbers": ("sharded", "model.safetensors.index.json", b'{"weight_map": {"a": 5}}', "5"),
    "an index of lists": ("sharded", "model.safetensors.index.json", b'{"weight_map": {"a": []}}', "[]"),
    "an index of nothing": ("sharded", "model.safetensors.index.json", b'{"weight_map": {}}', "weight_map"),
    "an index that leaves": (
        "sharded",
        "model.safetensors.index.json",
        b'{"weight_map": {"a": "../secret.safetensors"}}',
        "../secret.safetensors",
    ),
    "an absolute index": ("sharded", "model.safetensors.index.json", b'{"weight_map": {"a": "/etc/passwd"}}', "/etc/"),
    "an index of another kind": (
        "sharded",
        "model.safetensors.index.json",
        b'{"weight_map": {"a": "config.json"}}',
        "config.json",
    ),
    "config: broken": ("original", "config.json", b"{", "not JSON"),
    "config: a list": ("original", "config.json", b"[1]", "mapping"),
    "config: deep": ("original", "config.json", b'{"a": %s}' % DEEP.encode(), "nested"),
    "config: not UTF-8": ("original", "config.json", b"\xff\xfe{}", "not JSON"),
    "config: a word for a number": ("original", "config.json", fields(hidden_size="x"), "hidden_size"),
    "config: a list for a number": ("original", "config.json", fields(num_attention_heads=[1]), "num_attention_heads"),
    "config: no layers": ("original", "config.json", fields(num_hidden_layers=-1), ""),
    "config: heads that do not divide": ("original", "config.json", fields(num_attention_heads=5), ""),
    "config: no heads": ("original", "config.json", fields(num_attention_heads=0), ""),
    "config: an activation of the future": ("original", "config.json", fields(hidden_act="selu_9"), "selu_9"),
    "config: tower a number": ("original", "config.json", fields(mm_vision_tower=5), "mm_vision_tower"),
    "config: tower a list": ("original", "config.json", fields(mm_vision_tower=["a"]), "mm_vision_tower"),
    "config: projector a list": ("original", "config.json", fields(mm_projector_type=["mlp2x_gelu"]), "projector"),
    "config: layer a word": ("original", "config.json", fields(mm_vision_select_layer="x"), "layer"),
    "config: feature a number": ("original", "config.json", fields(mm_vision_select_feature=5), "feature"),
    "config: aspect a number": ("original", "config.json", fields(image_aspect_ratio=5), "image_aspect_ratio"),
    "config: architectures a number": ("original", "config.json", fields(architectures=5), "architectures"),
    "config: model_type a list": (
        "original",
        "config.json",
        fields(model_type=["x"], architectures=None),
        "model_type",
    ),
    "config: dtype of the future": ("original", "config.json", fields(dtype="float3"), "float3"),
    "config: rope a word": ("original", "config.json", fields(rope_scaling="x"), "rope"),
    "config: a billion layers": ("original", "config.json", fields(num_hidden_layers=10**9), "1000000000"),
    "config: a deep projector": ("original", "config.json", fields(mm_projector_type="mlp99999999x_gelu"), "mlp9999"),
    "pinpoints of words": ("original", "config.json", fields(image_grid_pinpoints=[["a", "b"]]), WORDS),
    "pinpoints: a bomb": ("original", "config.json", fields(image_grid_pinpoints="(1x1),...,(30000x30000)"), WORDS),
    "pinpoints: digits": ("original", "config.json", fields(image_grid_pinpoints=f"(1x{'9' * 5000})"), WORDS),
    "pinpoints: a long list": ("original", "config.json", fields(image_grid_pinpoints=[[28, 56]] * 20000), WORDS),
    "pinpoints: nested text": ("original", "config.json", fields(image_grid_pinpoints="[" * 5000), WORDS),
    "pinpoints: zero": ("original", "config.json", fields(image_grid_pinpoints=[[0, 28]]), WORDS),
    "generation_config: a list": ("original", "generation_config.json", b"[1]", "mapping"),
    "generation_config: words": ("original", "generation_config.json", b'{"do_sample": 1, "temperature": "x"}', ""),
    "tokenizer: broken": ("original", "tokenizer.json", b"{", "not JSON"),
    "tokenizer: empty": ("original", "tokenizer.json", b"{}", ""),
    "tokenizer: a list": ("original", "tokenizer.json", b"[]", "mapping"),
    "tokenizer: no model": ("original", "tokenizer.json", fields(model=5), ""),
    "tokenizer: tokens of numbers": ("original", "tokenizer.json", fields(added_tokens=[5]), ""),
    "tokenizer settings: broken": ("original", "tokenizer_config.json", b"{", "not JSON"),
    "tokenizer settings: tokens": ("original", "tokenizer_config.json", fields(added_tokens_decoder={"x": 5}), ""),
    "tokenizer settings: length": ("original", "tokenizer_config.json", fields(model_max_length="x"), ""),
    "a token far away": ("original", "added_tokens.json", b'{"<a>": 999999999}', "999999999"),
    "added tokens of words": ("original", "added_tokens.json", b'{"<a>": "x"}', ""),
    "no sentencepiece": ("original", "tokenizer.model", b"\x08\x96\x01", "SentencePiece"),
    "ours: processor broken": ("open_llava", "processor_config.json", b"{", "not JSON"),
    "ours: processor a list": ("open_llava", "processor_config.json", b"[]", "mapping"),
    "ours: processor of numbers": ("open_llava", "processor_config.json", fields(image_processor=5), ""),
    "ours: tokenizer broken": ("open_llava", "tokenizer.json", b"{", "not JSON"),
    "ours: tokenizer empty": ("open_llava", "tokenizer.json", b"{}", ""),
    "ours: tokenizer settings a list": ("open_llava", "tokenizer_config.json", b"[]", "mapping"),
    "ours: template not UTF-8": ("open_llava", "chat_template.jinja", b"\xff\xfe", ""),
    "ours: text a word": ("open_llava", "config.json", fields(text_config="x"), "text_config"),
    "ours: pinpoints of words": ("open_llava", "config.json", fields(image_grid_pinpoints=[["a", "b"]]), WORDS),
    "ours: a billion layers": (
        "open_llava",
        "config.json",
        nested("text_config", num_hidden_layers=10**9),
        "1000000000",
    ),
    "ours: sizes of words": ("open_llava", "config.json", nested("text_config", hidden_size="x"), "hidden_size"),
    "ours: a tower of the future": ("open_llava", "config.json", nested("vision_config", model_type="eva9"), "eva9"),
    "builtin: text a list": ("builtin", "config.json", fields(text_config=[1]), "text_config"),
    "builtin: kept a number": ("builtin", "config.json", fields(open_llava=5), "open_llava"),
    "builtin: image token a word": ("builtin", "config.json", fields(image_token_index="x"), "image_token"),
    "builtin: settings broken": ("builtin", "preprocessor_config.json", b"{", "not JSON"),
    "builtin: settings a list": ("builtin", "preprocessor_config.json", b"[]", "mapping"),
    "builtin: mean of words": ("builtin", "preprocessor_config.json", fields(image_mean="x"), ""),
    "builtin: size a word": ("builtin", "preprocessor_config.json", fields(size="x"), "size"),
    "builtin: template a list": ("builtin", "chat_template.json", b"[]", "mapping"),
}


@pytest.mark.parametrize("name", CASES)
def test_one_message_that_names_the_file_and_nothing_left_behind(folders, tmp_path, capsys, name):
    kind, file, content, said = CASES[name]
    shutil.copytree(folders / kind, tmp_path / "source")
    shutil.copytree(folders / "tower", tmp_path / "tower")
    path = tmp_path / "source" / file
    if content is None:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(content(path.read_bytes()) if callable(content) else content)
    assert main(["convert", str(tmp_path / "source"), str(tmp_path / "target")]) == 2
    message = capsys.readouterr().err
    assert file in message
    assert said in message
    assert "Traceback" not in message
    assert len(message) < 1500
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["source", "tower"]


@pytest.mark.parametrize("size", ["xGB", "GB", "-5GB", "0", "0GB", "nanGB", "infGB", "1e999GB", "5 TB", "", "١GB"])
def test_a_size_that_is_none_is_refused_with_what_would_be_one(folders, tmp_path, capsys, size):
    arguments = ["convert", str(folders / "open_llava"), str(tmp_path / "target"), f"--max_shard_size={size}"]
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert repr(size) in message
    assert "'5GB'" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", [".", "./", "..", "", "inside/.."])
def test_the_current_folder_and_those_above_it_cannot_be_the_target(folders, tmp_path, capsys, monkeypatch, target):
    here = tmp_path / "above" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    assert main(["convert", str(folders / "open_llava"), target]) == 2
    message = capsys.readouterr().err
    assert "current folder" in message
    assert repr(target) in message
    assert here.is_dir()
    assert list(here.iterdir()) == []


def test_a_target_is_found_by_its_whole_path(folders, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["convert", str(folders / "open_llava"), "../beside/"]) == 0
    assert (tmp_path / "beside" / "config.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside", "here"]
