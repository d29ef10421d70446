"""Rendered text against every recorded prompt of both repositories."""

import json
from collections import Counter
from pathlib import Path

import pytest

from support.recorded_text import dialogue_messages, render
from transformers_llava.chat_templates import chat_template_info, load_chat_template


# Where our text differs on purpose; docs/reference/chat_templates.md says why.
SYSTEM_WITH_HEADER = {"chatml_direct", "mpt", "mistral_orca", "mistral_zephyr", "qwen_1_5", "qwen_2_5"}
SYSTEM_HEADERS = {"mistral_zephyr": "<|system|>\n"}


def expected_text(name: str, key: str, recorded: str) -> str | None:
    """The recorded string, or what differs from it on purpose; None where ours is another dialogue."""
    if key.startswith("custom_system") and name in SYSTEM_WITH_HEADER:
        # The original's `system` field includes the header of the role, a system message does not.
        return SYSTEM_HEADERS.get(name, "<|im_start|>system\n") + recorded
    if key.startswith("image_tuple") and ("mmtag" in name or name == "plain"):
        return None
    if key == "image_tuple_tag_at_end_two_turn" and name == "v0":
        # The demo moves the tag of the dialogue's first message only, which here is the built-in example.
        return recorded.replace("What is shown here?\n<image>", "<image>\nWhat is shown here?")
    return recorded


@pytest.mark.parametrize("repository", ["llava", "next"])
def test_text_equals_every_recorded_prompt(repository: str, golden: Path) -> None:
    recorded = json.loads((golden / "conversations.json").read_text())
    seen: Counter[str] = Counter()
    for alias, template in recorded[repository]["templates"].items():
        name = chat_template_info(alias).name
        for key, text in template["prompts"].items():
            if not isinstance(text, str):
                seen["the original raises"] += 1
                continue
            expected = expected_text(name, key, text)
            if expected is None:
                seen["another dialogue"] += 1
                continue
            messages, is_open = dialogue_messages(recorded["dialogues"][key])
            assert render(load_chat_template(alias), messages, prompt=is_open) == expected, (alias, key)
            seen["equal" if expected == text else "differs on purpose"] += 1
    assert (
        seen
        == {
            "llava": {"equal": 164, "differs on purpose": 8, "another dialogue": 6, "the original raises": 14},
            "next": {"equal": 260, "differs on purpose": 18, "another dialogue": 8, "the original raises": 26},
        }[repository]
    )


def test_the_demos_tuple_with_mmtag_is_two_turns_of_its_own(golden: Path) -> None:
    recorded = json.loads((golden / "conversations.json").read_text())
    answered = [
        {"role": "user", "content": [{"type": "image"}]},
        {"role": "assistant", "content": "Received."},
        {"role": "user", "content": "What is shown here?"},
    ]
    seen = 0
    for repository in ("llava", "next"):
        for alias, template in recorded[repository]["templates"].items():
            if "mmtag" in alias:
                text = render(load_chat_template(alias), answered, prompt=True)
                assert text == template["prompts"]["image_tuple_one_turn"]
                seen += 1
    assert seen == 5


def test_headers_state_the_recorded_system_and_style(golden: Path) -> None:
    recorded = json.loads((golden / "conversations.json").read_text())
    for repository in ("llava", "next"):
        for alias, template in recorded[repository]["templates"].items():
            info = chat_template_info(alias)
            assert template["system"].endswith(info.system)
            assert template["system"].removesuffix(info.system) in ("", "<|im_start|>system\n", "<|system|>\n")
            assert (template["sep_style"], template["version"]) == (info.style, info.version)
