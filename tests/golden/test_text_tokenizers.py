"""Token ids against every recorded string and prompt of the original tokenizers."""

import json
from pathlib import Path

from support.recorded_text import original_ids, render
from transformers_llava.chat_templates import chat_template_info, load_chat_template
from transformers_llava.conversion.processors.original_tokenizer import load_original_tokenizer
from transformers_llava.conversion.processors.template_choice import select_chat_template


def test_ids_of_every_recorded_string(golden: Path) -> None:
    recorded = json.loads((golden / "utilities" / "tokenization.json").read_text())
    checked = 0
    for name, lists in recorded["ids"].items():
        ids_of_strings = recorded["ids"]["llama_legacy"] if isinstance(lists, str) else lists
        tokenizer = load_original_tokenizer(golden / "tokenizers" / name)
        for text, ids in zip(recorded["strings"], ids_of_strings, strict=True):
            assert original_ids(tokenizer, tokenizer((tokenizer.bos_token or "") + text)["input_ids"]) == ids, text
            checked += 1
    assert checked == 4 * 96


def test_ids_of_every_recorded_prompt_of_every_checkpoint(golden: Path) -> None:
    checked = 0
    for path in sorted((golden / "expected").glob("*/expected.json")):
        expected = json.loads(path.read_text())
        checkpoint = golden / "checkpoints" / path.parent.name
        config = json.loads((checkpoint / "config.json").read_text())
        folder = golden / "checkpoints" / Path(expected["loaded_with"].get("model_base") or path.parent.name).name
        tokenizer = load_original_tokenizer(folder, config=config)
        assert tokenizer.convert_tokens_to_ids("<image>") == expected["tokenizer"]["length"]
        for prompts in expected["prompts"].values():
            for prompt in prompts.values():
                if "text" in prompt:
                    text = (tokenizer.bos_token or "") + prompt["text"]
                    assert original_ids(tokenizer, tokenizer(text)["input_ids"]) == prompt["input_ids"]
                    checked += 1
    assert checked == 164


def test_templates_render_the_recorded_prompts_of_every_checkpoint(golden: Path) -> None:
    turns = [
        {"role": "user", "content": "<image>\nDescribe the image concisely."},
        {"role": "assistant", "content": "A wooden pier and a calm lake."},
        {"role": "user", "content": "Is it a sunny day?"},
    ]
    checked = 0
    for path in sorted((golden / "expected").glob("*/expected.json")):
        expected = json.loads(path.read_text())
        for name, prompts in expected["prompts"].items():
            if "text" in prompts["two_turn"] and not expected["config"].get("mm_use_im_start_end"):
                assert render(load_chat_template(name), turns, prompt=True) == prompts["two_turn"]["text"]
                checked += 1
    assert checked == 16


def test_the_recorded_checkpoints_get_the_template_they_were_recorded_with(golden: Path) -> None:
    chosen = {}
    for path in sorted((golden / "expected").glob("*/expected.json")):
        expected = json.loads(path.read_text())
        config = json.loads((golden / "checkpoints" / path.parent.name / "config.json").read_text())
        folder = golden / "checkpoints" / Path(expected["loaded_with"].get("model_base") or path.parent.name).name
        chosen[path.parent.name] = (
            select_chat_template(config, load_original_tokenizer(folder, config=config)),
            chat_template_info(expected["primary_template"]).name,
        )
    # Neither architecture nor vocabulary tells these two from vicuna_v1: they are chosen by name.
    assert chosen.pop("h_mlp3x") == ("vicuna_v1", "llava_llama_2")
    assert chosen.pop("v1_linear_im_start_end") == ("vicuna_v1", "llava_v1")
    assert len(chosen) == 9
    assert all(ours == recorded for ours, recorded in chosen.values()), chosen
