"""BOS has one owner: the template writes it, the tokenizer adds none, so every path has exactly one."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoProcessor, pipeline

from support.original_folders import write_original
from tiny import make_image
from transformers_llava.conversion.convert import convert_checkpoint


FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "text"
CONTENT = [{"type": "image"}, {"type": "text", "text": "What is this?"}]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same checkpoint as it lies on disk, converted, and exported."""
    root = tmp_path_factory.mktemp("bos")
    original = write_original(root / "original").folder
    (original / "tokenizer.json").unlink()
    shutil.copy(FIXTURES / "llama.model", original / "tokenizer.model")
    settings = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True}
    (original / "tokenizer_config.json").write_text(json.dumps(settings))
    convert_checkpoint(original, root / "converted")
    convert_checkpoint(original, root / "exported", to="builtin")
    return {"original": original, "converted": root / "converted", "exported": root / "exported"}


@pytest.mark.parametrize("kind", ["original", "converted", "exported"])
def test_every_path_has_exactly_one_bos(folders, kind):
    processor = AutoProcessor.from_pretrained(folders[kind])
    bos = processor.tokenizer.bos_token_id
    assert bos == 1
    assert bos not in processor.tokenizer("plain text").input_ids

    image = make_image()
    messages = [{"role": "user", "content": CONTENT}]
    rendered = processor.apply_chat_template(messages, add_generation_prompt=True)
    with_image = [{"role": "user", "content": [{"type": "image", "image": image}, CONTENT[1]]}]
    paths = {
        "a rendered string": processor(text=rendered, images=image),
        "tokenize=True": processor.apply_chat_template(
            with_image, add_generation_prompt=True, tokenize=True, return_dict=True
        ),
        "the tokenizer alone": {
            "input_ids": [
                processor.tokenizer.apply_chat_template(
                    [{"role": "user", "content": "Hi"}], chat_template=processor.chat_template, return_dict=False
                )
            ]
        },
    }
    for path, inputs in paths.items():
        ids = list(inputs["input_ids"][0])
        assert ids.count(bos) == 1, path
        assert ids[0] == bos, path


@pytest.mark.parametrize("kind", ["original", "converted", "exported"])
def test_the_pipeline_has_exactly_one_bos(folders, kind, monkeypatch):
    pipe = pipeline("image-text-to-text", model=str(folders[kind]))
    seen = []
    generate = type(pipe.model).generate

    def watch(self, *args, **kwargs):
        seen.append(kwargs["input_ids"][0].tolist())
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(type(pipe.model), "generate", watch)
    url = {"type": "image", "image": make_image()}
    pipe(text=[{"role": "user", "content": [url, CONTENT[1]]}], max_new_tokens=1, do_sample=False)
    assert len(seen) == 1
    assert seen[0].count(1) == 1
    assert seen[0][0] == 1


@pytest.mark.parametrize("kind", ["original", "converted", "exported"])
def test_a_server_builds_a_prompt_with_exactly_one_bos(folders, kind):
    """Its own loading and its own call of the template; tests/cli/test_serve_client.py asks a running one by HTTP."""
    model_manager = pytest.importorskip("transformers.cli.serving.model_manager", reason="no server in transformers")
    manager = model_manager.ModelManager(device="cpu", dtype="float32")
    _, processor = manager.load_model_and_processor(manager.process_model_name(str(folders[kind])))
    conversation = [{"role": "user", "content": [{"type": "image", "image": make_image()}, CONTENT[1]]}]
    inputs = processor.apply_chat_template(
        conversation, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    ids = inputs["input_ids"][0].tolist()
    assert ids[0] == 1
    assert ids.count(1) == 1
    assert (
        ids
        == AutoProcessor.from_pretrained(folders["converted"]).apply_chat_template(
            conversation, add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"][0]
    )
