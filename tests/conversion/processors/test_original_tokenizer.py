"""Tokenizers of original checkpoints: ids, BOS, prefix spaces, added tokens, round trips."""

import io
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from support.recorded_text import IMAGE, TRAINING_TEMPLATES, cut, encode, original_ids, record_messages, text_part
from tiny import make_config
from transformers_llava import OpenLlavaProcessor
from transformers_llava.chat_templates import load_chat_template
from transformers_llava.conversion.processors.original_tokenizer import load_original_tokenizer
from transformers_llava.conversion.processors.sentencepiece_model import read_sentencepiece_model


FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "text"
RECORDED = json.loads((FIXTURES / "tokenization.json").read_text())
LABELS = json.loads((FIXTURES / "labels.json").read_text())
LEGACY: dict[str, dict[str, Any]] = {
    "llama_legacy": {"legacy": True},
    "llama_nonlegacy": {"legacy": False},
    "llama_noflag": {},
}
QWEN_SETTINGS = {
    "tokenizer_class": "Qwen2Tokenizer",
    "bos_token": None,
    "eos_token": "<|im_end|>",
    "pad_token": "<|endoftext|>",
    "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
}


def make_folder(folder: Path, name: str, **settings: Any) -> Path:
    folder.mkdir(exist_ok=True)
    if name == "qwen":
        shutil.copyfile(FIXTURES / "qwen_tokenizer.json", folder / "tokenizer.json")
        settings = QWEN_SETTINGS | settings
    else:
        shutil.copyfile(FIXTURES / "llama.model", folder / "tokenizer.model")
        settings = {"tokenizer_class": "LlamaTokenizer"} | LEGACY[name] | settings
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def ids_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return original_ids(tokenizer, tokenizer((tokenizer.bos_token or "") + text)["input_ids"])


def tokens_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


@pytest.mark.parametrize("name", ["llama_legacy", "llama_nonlegacy", "llama_noflag", "qwen"])
def test_ids_equal_the_recorded_ones_also_after_saving(name: str, tmp_path: Path) -> None:
    tokenizer = load_original_tokenizer(make_folder(tmp_path / "original", name))
    tokenizer.save_pretrained(tmp_path / "saved")
    reloaded = AutoTokenizer.from_pretrained(tmp_path / "saved")
    recorded = RECORDED["ids"]["llama_legacy" if name == "llama_noflag" else name]
    assert len(RECORDED["strings"]) == len(recorded) > 40
    for text, ids in zip(RECORDED["strings"], recorded, strict=True):
        assert ids_of(tokenizer, text) == ids, text
        assert ids_of(reloaded, text) == ids, text
    assert reloaded.image_token == "<image>"
    assert reloaded.bos_token == tokenizer.bos_token


def test_prefix_space_follows_the_legacy_flag(tmp_path: Path) -> None:
    for name, after_eos in {"llama_legacy": ["▁U", "SER"], "llama_nonlegacy": ["USER"]}.items():
        tokenizer = load_original_tokenizer(make_folder(tmp_path / name, name))
        start = ["<s>", "▁U", "SER", ":", "▁", "<image>", "▁", "<0x0A>", "</s>"]
        assert tokens_of(tokenizer, "<s>USER: <image>\n</s>USER") == [*start, *after_eos]


def test_every_repeated_image_token_is_one_id(tmp_path: Path) -> None:
    for name in ("llama_legacy", "llama_nonlegacy", "qwen"):
        tokenizer = load_original_tokenizer(make_folder(tmp_path / name, name))
        once, often = ids_of(tokenizer, "a <image>\nb"), ids_of(tokenizer, "a " + "<image>" * 5 + "\nb")
        assert often == once[: once.index(-200)] + [-200] * 5 + once[once.index(-200) + 1 :]


@pytest.mark.parametrize("legacy", [True, False])
def test_ids_equal_the_slow_tokenizers_on_random_texts_and_vocabularies(legacy: bool, tmp_path: Path) -> None:
    generator = random.Random(7)
    words = [
        "the",
        "a",
        "hello",
        "world",
        "USER",
        "ASSISTANT",
        "what",
        "is",
        "in",
        "image",
        "?",
        ".",
        ":",
        "12",
        "tree",
    ]
    atoms = [*words, " ", "  ", "\n", "\t", "▁", "é", "漢", "🙂", "</s>", "<s>", "<unk>", "<image>", "<im_start>"]
    checked = 0
    for vocab_size in (330, 420):
        folder = tmp_path / str(vocab_size)
        folder.mkdir()
        corpus = [
            " ".join([*generator.choices(words, k=9), "".join(generator.choices("adehlorst", k=5))])
            for _ in range(400)
        ]
        _train(folder / "tokenizer.model", corpus, vocab_size)
        settings = {"tokenizer_class": "LlamaTokenizer", "legacy": legacy, "additional_special_tokens": ["<im_start>"]}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        tokenizer = load_original_tokenizer(folder)
        original = _SlowLlama(folder / "tokenizer.model", legacy=legacy, extra=["<im_start>"])
        for _ in range(700):
            text = "".join(generator.choices(atoms, k=generator.randint(0, 9)))
            if "<image><s>" not in text:  # the one known difference, see the next test
                assert ids_of(tokenizer, text) == original.tokenizer_image_token(text), text
                checked += 1
    assert checked > 1300


def test_known_difference_a_bos_typed_right_after_an_image(tmp_path: Path) -> None:
    tokenizer = load_original_tokenizer(make_folder(tmp_path / "a", "llama_nonlegacy"))
    original = _SlowLlama(tmp_path / "a" / "tokenizer.model", legacy=False)
    text = "a<image><s>b"
    ours, theirs = ids_of(tokenizer, text), original.tokenizer_image_token(text)
    assert tokenizer.convert_ids_to_tokens([i for i in theirs if i >= 0])[-2:] == ["<s>", "b"]
    assert tokenizer.convert_ids_to_tokens([i for i in ours if i >= 0])[-2:] == ["<s>", "▁b"]


@pytest.mark.parametrize(
    "options",
    [
        {"normalization_rule_name": "nmt_nfkc", "byte_fallback": False, "remove_extra_whitespaces": True},
        {"model_type": "unigram"},
        {"user_defined_symbols": ["<foo>"]},
        {"add_dummy_prefix": False, "user_defined_symbols": ["<foo>"]},
        {"remove_extra_whitespaces": True},
    ],
)
def test_settings_inside_the_sentencepiece_model_are_respected(options: dict[str, Any], tmp_path: Path) -> None:
    generator = random.Random(3)
    atoms = ["hello", "world", "ﬁ", " ", "  ", "tree", "x<foo>y", "</s>", "<image>", "é", "a"]
    corpus = [f"hello world tree fi a é {''.join(generator.choices('adehlorstw', k=5))}" for _ in range(300)]
    _train(tmp_path / "tokenizer.model", corpus, 60 if options.get("byte_fallback") is False else 310, **options)
    tokenizer = load_original_tokenizer(tmp_path)
    original = _SlowLlama(tmp_path / "tokenizer.model", legacy=True)
    for _ in range(300):
        text = "".join(generator.choices(atoms, k=generator.randint(1, 7)))
        assert ids_of(tokenizer, text) == original.tokenizer_image_token(text), text


def test_sentencepiece_file_is_read_without_its_package(tmp_path: Path) -> None:
    reference = sentencepiece.SentencePieceProcessor(model_file=str(FIXTURES / "llama.model"))
    model = read_sentencepiece_model(FIXTURES / "llama.model")
    assert [piece.text for piece in model.pieces] == [reference.id_to_piece(i) for i in range(len(reference))]
    assert [piece.score for piece in model.pieces] == [reference.get_score(i) for i in range(len(reference))]
    assert (model.is_bpe, model.byte_fallback, model.add_dummy_prefix) == (True, True, True)
    assert (model.unk_id, model.remove_extra_whitespaces, model.precompiled_charsmap) == (0, False, b"")


@pytest.mark.parametrize(
    "content",
    [b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a", b"", b"IQ== 0\nIg== 1\n", b"\x0a\x7fcut"],
)
def test_a_file_that_is_no_sentencepiece_model_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(ValueError, match=r"tokenizer\.model is no SentencePiece model"):
        load_original_tokenizer(tmp_path)


def test_a_folder_without_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds no vocabulary.*base model"):
        load_original_tokenizer(tmp_path)


def test_settings_that_are_no_json_are_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a", "llama_legacy")
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json' is not JSON"):
        load_original_tokenizer(folder)


def test_only_tokenizer_model_and_nothing_else_loads_as_a_llama(tmp_path: Path) -> None:
    shutil.copyfile(FIXTURES / "llama.model", tmp_path / "tokenizer.model")
    tokenizer = load_original_tokenizer(tmp_path)
    for text, ids in zip(RECORDED["strings"], RECORDED["ids"]["llama_legacy"], strict=True):
        assert ids_of(tokenizer, text) == ids
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "<unk>")


@pytest.mark.parametrize("name", ["llama_legacy", "llama_nonlegacy"])
def test_only_tokenizer_json_gives_the_same_ids(name: str, tmp_path: Path) -> None:
    tokenizer = load_original_tokenizer(make_folder(tmp_path / "a", name))
    tokenizer.save_pretrained(tmp_path / "saved")
    content = json.loads((tmp_path / "saved" / "tokenizer.json").read_text())
    # as transformers 4.37 and 4.40 convert a slow tokenizer
    content["normalizer"] = (
        {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        }
        if name == "llama_legacy"
        else None
    )
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    content["pre_tokenizer"] = None if name == "llama_legacy" else metaspace
    content["added_tokens"] = [token | {"normalized": False} for token in content["added_tokens"]][:3]
    folder = tmp_path / "json"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(content))
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    for flag in (LEGACY[name], {}):
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | flag))
        again = load_original_tokenizer(folder)
        for text, ids in zip(RECORDED["strings"], RECORDED["ids"][name], strict=True):
            assert ids_of(again, text) == ids, text


def test_vocab_and_merges_give_the_same_ids_as_tokenizer_json(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "json", "qwen")
    content = json.loads((folder / "tokenizer.json").read_text())
    files = tmp_path / "files"
    files.mkdir()
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"]]
    (files / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
    (files / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    added = {str(token["id"]): token for token in content["added_tokens"]}
    keep = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    decoder = {index: {key: token[key] for key in keep} for index, token in added.items()}
    (files / "tokenizer_config.json").write_text(json.dumps(QWEN_SETTINGS | {"added_tokens_decoder": decoder}))
    tokenizer = load_original_tokenizer(files)
    for text, ids in zip(RECORDED["strings"], RECORDED["ids"]["qwen"], strict=True):
        assert ids_of(tokenizer, text) == ids, text


def test_a_mistral_folder_follows_its_tokenizer_json(tmp_path: Path) -> None:
    slow = load_original_tokenizer(make_folder(tmp_path / "a", "llama_legacy"))
    folder = make_folder(tmp_path / "b", "llama_nonlegacy")
    slow.save_pretrained(tmp_path / "saved")
    shutil.copyfile(tmp_path / "saved" / "tokenizer.json", folder / "tokenizer.json")
    text = "x</s>USER"
    mistral = load_original_tokenizer(folder, config={"architectures": ["LlavaMistralForCausalLM"]})
    llama = load_original_tokenizer(folder, config={"architectures": ["LlavaLlamaForCausalLM"]})
    assert ids_of(mistral, text) == ids_of(slow, text)
    assert ids_of(llama, text) != ids_of(slow, text)


def test_image_token_gets_the_first_free_id_after_the_builders_own_tokens(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a", "llama_legacy")
    flags = {"mm_vision_tower": "tower", "model_type": "llava_llama"}
    assert load_original_tokenizer(folder).convert_tokens_to_ids("<image>") == 600
    with_patch = load_original_tokenizer(folder, config=flags)
    assert with_patch.convert_tokens_to_ids(["<im_patch>", "<image>"]) == [600, 601]
    without = load_original_tokenizer(folder, config=flags | {"mm_use_im_patch_token": False})
    assert without.convert_tokens_to_ids("<image>") == 600
    all_three = load_original_tokenizer(folder, config=flags | {"mm_use_im_start_end": True})
    names = ["<im_patch>", "<im_start>", "<im_end>", "<image>"]
    assert all_three.convert_tokens_to_ids(names) == [600, 601, 602, 603]
    assert len(all_three) == 604


def test_tokens_the_folder_has_keep_their_ids(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "added_tokens.json").write_text(json.dumps({"<im_start>": 601, "<image>": 602, "[PAD]": 600}))
    folder = make_folder(tmp_path / "a", "llama_legacy")
    config = {"mm_vision_tower": "tower", "model_type": "llava_llama", "mm_use_im_start_end": True}
    tokenizer = load_original_tokenizer(folder, config=config)
    names = ["[PAD]", "<im_start>", "<image>", "<im_patch>", "<im_end>"]
    assert tokenizer.convert_tokens_to_ids(names) == [600, 601, 602, 603, 604]
    assert tokens_of(tokenizer, "a<image>b") == ["▁a", "<image>", "▁b"]


def test_an_id_nobody_names_is_filled_and_the_named_ones_stay(tmp_path: Path) -> None:
    token = {"content": "<extra>", "special": True, "normalized": False}
    folder = make_folder(tmp_path / "a", "llama_legacy", added_tokens_decoder={"603": token})
    tokenizer = load_original_tokenizer(folder)
    assert tokenizer.convert_tokens_to_ids(["<extra>", "<image>"]) == [603, 604]
    assert tokenizer.convert_ids_to_tokens(601) == "<|unused_601|>"


def test_settings_rename_a_piece_of_the_vocabulary(tmp_path: Path) -> None:
    model = read_sentencepiece_model(FIXTURES / "llama.model")
    index = next(i for i, piece in enumerate(model.pieces) if piece.text == "USER")
    token = {"content": "<|im_start|>", "special": True, "normalized": False}
    folder = make_folder(tmp_path / "a", "llama_legacy", added_tokens_decoder={str(index): token})
    tokenizer = load_original_tokenizer(folder)
    assert tokenizer.convert_tokens_to_ids("<|im_start|>") == index
    assert tokens_of(tokenizer, "x<|im_start|>y")[-2:] == ["<|im_start|>", "▁y"]
    assert "USER" not in tokens_of(tokenizer, "aUSER")


def test_bos_token_is_set_exactly_if_the_original_adds_one(tmp_path: Path) -> None:
    assert load_original_tokenizer(make_folder(tmp_path / "a", "llama_legacy")).bos_token == "<s>"
    yi = load_original_tokenizer(make_folder(tmp_path / "b", "llama_legacy", add_bos_token=False))
    assert yi.bos_token is None
    assert yi("x")["input_ids"] == yi("x", add_special_tokens=False)["input_ids"]
    assert load_original_tokenizer(make_folder(tmp_path / "c", "qwen")).bos_token is None


@pytest.mark.parametrize("adds_bos", [True, False])
def test_byte_level_vocabularies_ask_their_post_processor_about_bos(adds_bos: bool, tmp_path: Path) -> None:
    tokenizer = load_original_tokenizer(_llama_3(tmp_path, adds_bos=adds_bos))
    assert tokenizer.bos_token == ("<|begin_of_text|>" if adds_bos else None)
    assert tokens_of(tokenizer, "a!") == ["a", "!"]


def test_byte_level_vocabularies_keep_when_their_added_tokens_are_matched(tmp_path: Path) -> None:
    content = json.loads((FIXTURES / "qwen_tokenizer.json").read_text())
    # GPT-NeoX lists runs of spaces as added tokens that are matched after the normaliser
    content["added_tokens"].append(content["added_tokens"][0] | {"id": 499, "content": "  ", "normalized": True})
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    added = load_original_tokenizer(tmp_path).added_tokens_decoder
    assert {index: added[index].normalized for index in (496, 499, 500)} == {496: False, 499: True, 500: False}
    assert added[500].content == "<image>"


def test_llama_3_pads_with_its_end_token_and_not_with_an_exclamation_mark(tmp_path: Path) -> None:
    tokenizer = load_original_tokenizer(_llama_3(tmp_path, adds_bos=True))
    assert tokenizer.convert_tokens_to_ids("!") == 0
    assert tokenizer.pad_token == "<|eot_id|>"
    padded = tokenizer(["a!", "a"], padding=True)
    assert padded["attention_mask"] == [[1, 1], [0, 1]]


@pytest.mark.parametrize("name", ["llama_legacy", "llama_nonlegacy", "qwen"])
def test_one_bos_on_every_way_from_messages_to_ids(name: str, tmp_path: Path) -> None:
    tokenizer = load_original_tokenizer(make_folder(tmp_path / "a", name))
    template = load_chat_template("qwen_1_5" if name == "qwen" else "vicuna_v1")
    config = make_config(image_token_index=tokenizer.convert_tokens_to_ids("<image>"))
    made = OpenLlavaProcessor.from_model_config(config, tokenizer, chat_template=template)
    made.save_pretrained(tmp_path / "processor")
    for processor in (made, OpenLlavaProcessor.from_pretrained(tmp_path / "processor")):
        messages = [{"role": "user", "content": [text_part("What is this?")]}]
        rendered = processor.apply_chat_template(messages, add_generation_prompt=True)
        ways = [
            processor(text=rendered)["input_ids"][0],
            processor.apply_chat_template([messages], tokenize=True, add_generation_prompt=True)[0],
            processor.tokenizer(rendered)["input_ids"],
            processor.tokenizer.apply_chat_template(
                messages, chat_template=template, add_generation_prompt=True, return_dict=False
            ),
        ]
        ways = [way.tolist() if hasattr(way, "tolist") else list(way) for way in ways]
        assert all(way == ways[0] for way in ways)
        assert ways[0].count(1) == (name != "qwen")
        if name != "qwen":
            assert ways[0][0] == 1


def test_a_special_token_written_by_a_user_is_text_when_asked_for(tmp_path: Path) -> None:
    for name in ("llama_legacy", "llama_nonlegacy"):
        tokenizer = load_original_tokenizer(make_folder(tmp_path / name, name))
        ids = tokenizer.encode("a</s><image>", add_special_tokens=False, split_special_tokens=True)
        assert not {2, tokenizer.convert_tokens_to_ids("<image>")} & set(ids)
        assert tokenizer.decode(ids) == "a</s><image>"


def test_decoding_gives_the_text_back(tmp_path: Path) -> None:
    text = "A pier, 3 people & 漢字 🙂\nover  a lake."
    for name in ("llama_legacy", "llama_nonlegacy", "qwen"):
        tokenizer = load_original_tokenizer(make_folder(tmp_path / name, name))
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("result", LABELS["results"], ids=lambda r: f"{r['version']}-{r['tokenizer']}")
def test_ids_and_labels_equal_the_recorded_ones(result: dict[str, Any], tmp_path: Path) -> None:
    records = {record["id"]: record for record in LABELS["records"]}
    tokenizer = load_original_tokenizer(make_folder(tmp_path / "a", result["tokenizer"]))
    name = TRAINING_TEMPLATES.get(result["version"], result["version"])
    template = load_chat_template(name, use_im_start_end=result["mm_use_im_start_end"])
    for sample in result["samples"]:
        encoded = encode(tokenizer, template, record_messages(records[sample["id"]]))
        if not result["mm_use_im_start_end"]:
            assert encoded.ids == sample["input_ids"]
        ranges = cut(encoded.ranges, len(sample["input_ids"]))
        if result["version"] == "qwen_2_5":  # without the leak into the turns of system and user
            assert ranges[-1][1] == sample["supervised_ranges"][-1][1]
        elif sample["id"] == "answer_contains_role_marker" or result["version"] == "chatml_direct":
            assert ranges  # the original drops such samples without a word
        elif not result["mm_use_im_start_end"]:
            assert ranges == sample["supervised_ranges"]


def test_both_ways_of_finding_the_assistants_tokens_agree(tmp_path: Path) -> None:
    for name in ("llama_legacy", "llama_nonlegacy", "qwen"):
        tokenizer = load_original_tokenizer(make_folder(tmp_path / name, name))
        template = load_chat_template("qwen_1_5" if name == "qwen" else "vicuna_v1")
        messages = [
            {"role": "user", "content": [IMAGE, text_part("How many?")]},
            {"role": "assistant", "content": [text_part("3 people.")]},
        ]
        outputs = tokenizer.apply_chat_template(
            messages, chat_template=template, return_dict=True, return_assistant_tokens_mask=True
        )
        supervised = {i for i, flag in enumerate(outputs["assistant_masks"]) if flag}
        ranges = encode(tokenizer, template, messages).ranges
        assert supervised == {i for start, end in ranges for i in range(start, end)}


def _train(path: Path, corpus: list[str], vocab_size: int, **options: Any) -> None:
    """A SentencePiece model as Llama's is built, unless `options` say otherwise."""
    settings = {
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
    }
    buffer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_writer=buffer, vocab_size=vocab_size, minloglevel=2, **settings | options
    )
    path.write_bytes(buffer.getvalue())


class _SlowLlama:
    """The slow Llama tokenizer of transformers 4.37 and the original's `tokenizer_image_token`, rule by rule."""

    def __init__(self, path: Path, *, legacy: bool, extra: list[str] | None = None) -> None:
        self.legacy = legacy
        # normalizer_spec.add_dummy_prefix = false, appended: the last value of a field counts
        model = path.read_bytes() if legacy else path.read_bytes() + bytes([0x1A, 2, 0x18, 0])
        self.sentencepiece = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.special = {text: self.sentencepiece.piece_to_id(text) for text in ("<unk>", "<s>", "</s>")}
        for text in extra or []:
            self.special[text] = len(self.sentencepiece) + len(self.special) - 3

    def tokenizer_image_token(self, prompt: str) -> list[int]:
        ids = [1]
        for number, chunk in enumerate(prompt.split("<image>")):
            ids += [-200] if number else []
            ids += self._encode(chunk)
        return ids

    def _encode(self, text: str) -> list[int]:
        if not self.legacy and text:
            text = "▁" + text.replace("▁", " ")
        ids: list[int] = []
        pieces = [piece for piece in re.split("(" + "|".join(map(re.escape, self.special)) + ")", text) if piece]
        for piece in pieces:
            ids += [self.special[piece]] if piece in self.special else self._encode_text(piece)
        is_special = len(pieces) > 1 and pieces[1] in self.special
        if not self.legacy and pieces and pieces[0] == "▁" and is_special:
            return ids[1:]
        return ids

    def _encode_text(self, text: str) -> list[int]:
        if self.legacy or not text.startswith(("▁", " ")):
            return self.sentencepiece.encode(text)
        unknown = len(self.sentencepiece.encode("<unk>"))
        return self.sentencepiece.encode("<unk>" + text)[unknown:]


def _llama_3(folder: Path, *, adds_bos: bool) -> Path:
    """A byte-level vocabulary that begins with "!", as Llama-3's does, and has neither unk nor pad."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|start_header_id|>", "<|eot_id|>"])
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 256)]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
