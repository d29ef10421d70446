"""Template files: names, headers, forms of content, BOS, supervised spans."""

import json
import re
from pathlib import Path

import jinja2
import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from support.recorded_text import IMAGE, dialogue_messages, render, text_part
from transformers_llava.chat_templates import chat_template_info, list_chat_templates, load_chat_template


NAMES = list_chat_templates()
DIRECTORY = Path(__file__).resolve().parents[2] / "src" / "transformers_llava" / "chat_templates"
FIXTURE = json.loads((Path(__file__).resolve().parents[1] / "fixtures" / "text" / "conversations.json").read_text())


@pytest.mark.parametrize("name", FIXTURE["prompts"])
def test_text_equals_the_recorded_prompts(name: str) -> None:
    for key, recorded in FIXTURE["prompts"][name].items():
        messages, is_open = dialogue_messages(FIXTURE["dialogues"][key])
        assert render(load_chat_template(name), messages, prompt=is_open) == recorded


def test_every_template_of_both_repositories_has_a_name() -> None:
    llava = "default v0 v1 vicuna_v1 llama_2 mistral_instruct chatml_direct mistral_direct plain v0_plain llava_v0"
    llava += " v0_mmtag llava_v1 v1_mmtag llava_llama_2 mpt"
    llava_next = "mistral_orca mistral_zephyr llava_v0_mmtag llava_v1_mmtag llava_llama_3 llava_llama_2_simple"
    llava_next += " llava_llama_2_mmtag llava_mistral_instruct qwen_1_5 qwen_2 qwen_2_5 gemma_instruct"
    assert set(llava.split()) | set(llava_next.split()) <= set(list_chat_templates(with_aliases=True))


def test_every_file_states_its_provenance() -> None:
    assert {path.stem for path in DIRECTORY.glob("*.jinja")} == set(NAMES)
    for name in NAMES:
        info = chat_template_info(name)
        assert info.name == name
        assert re.search(r"(haotian-liu/LLaVA@c121f04|LLaVA-VL/LLaVA-NeXT@df17966)", info.source)
        assert info.models
        assert info.family
        assert all(load_chat_template(alias) == load_chat_template(name) for alias in info.aliases)


def test_header_is_data() -> None:
    info = chat_template_info("v1")
    assert (info.name, info.aliases, info.style, info.stop) == ("vicuna_v1", ("v1",), "TWO", "</s>")
    assert info.system.startswith("A chat between a curious user and")


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no conversation template 'vicuna_v9'.*qwen_1_5.*vicuna_v1"):
        load_chat_template("vicuna_v9")


def test_the_macro_that_reads_content_is_the_same_everywhere() -> None:
    macros = {}
    for name in NAMES:
        found = re.search(r"\{%- macro text_of.*?endmacro -%\}", load_chat_template(name), flags=re.DOTALL)
        if found:
            text = re.sub(r"\{#-.*?-#\}\n", "", found[0])
            macros.setdefault(text.replace(' and content[0].type == "text"', ""), []).append(name)
    assert len(macros) == 1
    assert set(NAMES) - set(*macros.values()) == {"plain"}


@pytest.mark.parametrize("name", NAMES)
def test_bos_is_written_once_and_first_or_not_at_all(name: str) -> None:
    messages = [
        {"role": "user", "content": [IMAGE, text_part("Q")]},
        {"role": "assistant", "content": [text_part("A")]},
        {"role": "user", "content": [text_part("Q2")]},
    ]
    text = render(load_chat_template(name), messages, bos="<BOS>", prompt=True)
    family_has_bos = chat_template_info(name).family != "qwen"
    assert text.count("<BOS>") == text.startswith("<BOS>") == family_has_bos
    assert render(load_chat_template(name), messages, bos=None, prompt=True) == text.removeprefix("<BOS>")


@pytest.mark.parametrize("name", NAMES)
def test_open_prompt_is_how_the_finished_dialogue_begins(name: str) -> None:
    question = [{"role": "user", "content": [IMAGE, text_part("Q")]}]
    answer = [*question, {"role": "assistant", "content": [text_part("A")]}]
    finished = render(load_chat_template(name), answer)
    assert finished.startswith(render(load_chat_template(name), question, prompt=True))


@pytest.mark.parametrize("name", NAMES)
def test_answers_and_their_end_are_marked(name: str) -> None:
    messages = [
        {"role": "user", "content": [IMAGE, text_part("Q1")]},
        {"role": "assistant", "content": [text_part("First.")]},
        {"role": "user", "content": [text_part("Q2")]},
        {"role": "assistant", "content": "Second."},
    ]
    texts, spans = render_jinja_template(
        [messages], chat_template=load_chat_template(name), return_assistant_tokens_mask=True
    )
    marked = [texts[0][start:end] for start, end in spans[0]]
    assert len(marked) == 2
    assert "First." in marked[0]
    assert "Second." in marked[1]
    assert not any(word in "".join(marked) for word in ("Q1", "Q2", "<image>"))
    assert all(span.endswith((chat_template_info(name).stop, chat_template_info(name).stop + "\n")) for span in marked)


def test_marked_span_begins_with_the_space_the_answer_is_tokenised_with() -> None:
    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    for name, expected in {
        "vicuna_v1": " A</s>",
        "mistral_instruct": " A </s>",
        "mpt": "A<|im_end|>",
        "qwen_1_5": "<|im_start|>assistant\nA<|im_end|>\n",
        "gemma_instruct": "A<end_of_turn>\n",
        "plain": "A\n",
        "llava_v0": " A###",
    }.items():
        texts, spans = render_jinja_template(
            [messages], chat_template=load_chat_template(name), return_assistant_tokens_mask=True
        )
        assert [texts[0][start:end] for start, end in spans[0]] == [expected]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([IMAGE, text_part("Q")], "<image>\nQ"),
        ([IMAGE, text_part("\nQ")], "<image>\nQ"),
        ([text_part("Q\n"), IMAGE], "<image>\nQ"),
        ([text_part("Look at "), IMAGE, text_part(" now")], "<image>\nLook at  now"),
        ([IMAGE], "<image>"),
        ([text_part(" Q ")], " Q "),
        ([text_part("Q"), text_part("R")], "QR"),
        ([IMAGE, IMAGE, text_part("Q")], "<image>\n<image>\nQ"),
        ([IMAGE, text_part("\n"), IMAGE, text_part("\nQ")], "<image>\n<image>\nQ"),
        ([text_part("First "), IMAGE, text_part(" then "), IMAGE, text_part(": Q")], "First <image> then <image>: Q"),
        ([{"type": "image_url", "image_url": {"url": "x"}}, text_part("Q")], "<image>\nQ"),
    ],
)
@pytest.mark.parametrize("name", ["vicuna_v1", "qwen_1_5"])
def test_where_the_image_stands(name: str, parts: list[dict], expected: str) -> None:
    text = render(load_chat_template(name), [{"role": "user", "content": parts}])
    assert {"vicuna_v1": f" USER: {expected} ", "qwen_1_5": f"user\n{expected}<|im_end|>"}[name] in text


def test_llava_strips_a_turn_with_an_image_and_llava_next_keeps_its_spaces() -> None:
    messages = [{"role": "user", "content": [IMAGE, text_part("\n  Q ")]}]
    assert " USER: <image>\nQ " in render(load_chat_template("vicuna_v1"), messages)
    assert "user\n<image>\n  Q <|im_end|>" in render(load_chat_template("qwen_1_5"), messages)


def test_string_content_is_rendered_as_it_stands() -> None:
    messages = [{"role": "user", "content": " look: <image> "}]
    assert "USER:  look: <image>  " in render(load_chat_template("vicuna_v1"), messages)


def test_mmtag_and_start_end_tokens_stand_around_an_image_part() -> None:
    messages = [{"role": "user", "content": [IMAGE, text_part("Q")]}]
    assert "<Image><image></Image>\nQ" in render(load_chat_template("v1_mmtag"), messages)
    assert "<im_start><image><im_end>\nQ" in render(load_chat_template("v1", use_im_start_end=True), messages)
    both = render(load_chat_template("v1_mmtag", use_im_start_end=True), messages)
    assert "<Image><im_start><image><im_end></Image>\nQ" in both


def test_plain_ignores_start_and_end_tokens_as_the_original_does() -> None:
    messages = [{"role": "user", "content": [IMAGE]}, {"role": "assistant", "content": "A cat."}]
    assert render(load_chat_template("plain", use_im_start_end=True), messages) == "<image>A cat.\n"


def test_plain_drops_what_was_asked() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [IMAGE, text_part("Describe the image.")]},
    ]
    caption = {"role": "assistant", "content": [text_part("A cat.")]}
    template = load_chat_template("plain")
    assert render(template, [*messages, caption], bos="<s>") == "<s><image>A cat.\n"
    assert render(template, messages, bos="<s>", prompt=True) == "<s><image>"
    as_string = [{"role": "user", "content": "<image>\nDescribe the image."}, caption]
    assert render(template, as_string, bos="<s>") == "<s><image>A cat.\n"


def test_custom_system_text_keeps_the_header_of_its_role() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q"}]
    for name, start in {
        "qwen_1_5": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user",
        "chatml_direct": "<|im_start|>system\nBe brief.<|im_end|><|im_start|>user",
        "mistral_zephyr": "<|system|>\nBe brief.</s><|user|>",
        "vicuna_v1": "Be brief. USER:",
        "mistral_instruct": "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nQ [/INST]",
        "llava_llama_3": "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user",
    }.items():
        assert render(load_chat_template(name), messages).startswith(start)


def test_llama_3_text_is_that_of_its_own_chat_template() -> None:
    messages = [
        {"role": "user", "content": [IMAGE, text_part("Q ")]},
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": "Q2"},
    ]
    text = render(load_chat_template("llava_llama_3"), messages, bos="<|begin_of_text|>", prompt=True)
    head = "<|start_header_id|>{}<|end_header_id|>\n\n"
    system = chat_template_info("llava_llama_3").system
    assert text == (
        f"<|begin_of_text|>{head.format('system')}{system}<|eot_id|>{head.format('user')}<image>\nQ<|eot_id|>"
        f"{head.format('assistant')}A<|eot_id|>{head.format('user')}Q2<|eot_id|>{head.format('assistant')}"
    )


@pytest.mark.parametrize("name", NAMES)
def test_roles_and_parts_a_template_cannot_render_are_refused(name: str) -> None:
    with pytest.raises(jinja2.TemplateError, match="message 1 has the role 'tool'"):
        render(load_chat_template(name), [{"role": "user", "content": "Q"}, {"role": "tool", "content": "x"}])
    with pytest.raises(jinja2.TemplateError, match="message 1 has the role 'system'"):
        render(load_chat_template(name), [{"role": "user", "content": "Q"}, {"role": "system", "content": "x"}])
    if name != "plain":
        with pytest.raises(jinja2.TemplateError, match="but got 'video'"):
            render(load_chat_template(name), [{"role": "user", "content": [{"type": "video"}]}])


def test_the_reference_table_lists_every_template_and_alias() -> None:
    document = (DIRECTORY.parents[2] / "docs" / "reference" / "chat_templates.md").read_text()
    first_cells = " ".join(line.split(" | ")[0] for line in document.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", first_cells)) >= set(list_chat_templates(with_aliases=True))
