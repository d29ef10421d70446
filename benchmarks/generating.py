"""Time answers against the built-in model: prefill, decoding, padded batches, several questions about one image.

    python -m benchmarks.generating --json benchmarks/results/cpu.json

Both models have the same random weights (CLIP of 24 layers at 336 pixels, 576 image tokens, a small Llama) and get
the same tensors. Answers are greedy and as long as asked for. Exit status 1 if a target is missed.
"""

import io
import sys
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image

from benchmarks.harness.ceilings import count_flops, matmul_rate, read_rate
from benchmarks.harness.command import main
from benchmarks.harness.models import make_pair
from benchmarks.harness.processors import IMAGE_TOKEN_ID, VOCABULARY, make_image, make_processor
from benchmarks.harness.results import Comparison, compared
from benchmarks.harness.timing import take_turns
from transformers_llava.evaluation.inference.asked_model import AskedModel
from transformers_llava.evaluation.inference.asked_task import AskedTask
from transformers_llava.evaluation.inference.generated_answers import Decoding
from transformers_llava.evaluation.inference.image_groups import group_by_image
from transformers_llava.evaluation.inference.loaded_model import LoadedModel
from transformers_llava.evaluation.questions.question import Question
from transformers_llava.evaluation.tasks import load_task
from transformers_llava.generation.answering import ImageAnswerer


QUESTIONS = ["What is this?", "Is there a person in it?", "Which colour is most of it?", "How many dogs are there?"]
THINGS = ["dog", "fountain", "bicycle", "person", "red car", "table"]
NUM_NEW_TOKENS = 16
BUILTIN = "built-in LlavaForConditionalGeneration, the same tensors"


def measure(repeats: int, *, vision_layers: int = 24, layers: int = 6, hidden: int = 384) -> list[Comparison]:
    """The lines of this question; the sizes are arguments so that a test can make them small."""
    ours, builtin = make_pair(
        vision_hidden=256,
        vision_layers=vision_layers,
        hidden=hidden,
        layers=layers,
        vocabulary=VOCABULARY,
        image_token=IMAGE_TOKEN_ID,
    )
    for model in (ours, builtin):
        model.generation_config.eos_token_id = None  # every answer is as long as asked for
        model.generation_config.pad_token_id = 3
    processor = make_processor(ours.config)
    image = make_image()
    with torch.inference_mode():
        return [
            _prefill(ours, builtin, _encode(processor, [QUESTIONS[0]], image), repeats),
            _decode(ours, builtin, _encode(processor, [QUESTIONS[0]], image), repeats),
            _batch(ours, builtin, _encode(processor, QUESTIONS, image), repeats),
            *_one_image(ours, builtin, processor, image, repeats),
            _evaluation(ours, builtin, processor, repeats),
        ]


def _encode(processor: Any, questions: list[str], image: Any) -> dict[str, torch.Tensor]:
    """Whole prompts, padded on the left."""
    conversations = [
        [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": question}]}]
        for question in questions
    ]
    batch = processor.apply_chat_template(
        conversations,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left", "add_special_tokens": False},
    )
    return {name: batch[name] for name in ("input_ids", "attention_mask", "pixel_values")}


def _prefill(ours: Any, builtin: Any, inputs: dict[str, torch.Tensor], repeats: int) -> Comparison:
    def run(model: Any) -> torch.Tensor:
        return model(**inputs, use_cache=True, logits_to_keep=1).logits

    difference = float((run(ours) - run(builtin)).abs().max())
    assert difference < 1e-4, difference
    return compared(
        take_turns(lambda: run(ours), lambda: run(builtin), repeats=repeats),
        name="prefill",
        unit="s",
        ours_is=f"image and question, {inputs['input_ids'].shape[1]} positions, to the first logits",
        other_is=BUILTIN,
        checked=f"logits of the last position differ by at most {difference:.1g}",
        floor=round(count_flops(lambda: run(ours)) / matmul_rate(), 4),
        floor_is="counted operations of ours at the rate of a large matrix product on this machine",
    )


def _decode(ours: Any, builtin: Any, inputs: dict[str, torch.Tensor], repeats: int) -> Comparison:
    prompt = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    caches = {}
    for model in (ours, builtin):
        caches[model] = model(**inputs, use_cache=True, logits_to_keep=1).past_key_values
        caches[model].crop(-1)  # the last prompt token is read again, by `generate`

    def run(model: Any) -> torch.Tensor:
        ids = model.generate(
            **prompt, past_key_values=caches[model], max_new_tokens=NUM_NEW_TOKENS * 2, do_sample=False
        )
        caches[model].crop(-(NUM_NEW_TOKENS * 2))
        return ids

    assert torch.equal(run(ours), run(builtin))
    language_model = ours.model.language_model
    weights = sum(p.numel() for p in language_model.layers.parameters()) + ours.lm_head.weight.numel()
    return compared(
        take_turns(lambda: run(ours), lambda: run(builtin), repeats=repeats),
        amount=NUM_NEW_TOKENS * 2,
        unit="tokens/s",
        name="decode",
        ours_is=f"{NUM_NEW_TOKENS * 2} greedy tokens after a prompt that is in the cache, one sequence",
        other_is=BUILTIN,
        checked="the same tokens",
        floor=round(read_rate() / (weights * 4), 1),
        floor_is="bytes of the weights, read once a token at this machine's rate",
    )


def _batch(ours: Any, builtin: Any, inputs: dict[str, torch.Tensor], repeats: int) -> Comparison:
    def run(model: Any) -> torch.Tensor:
        return model.generate(**inputs, max_new_tokens=NUM_NEW_TOKENS, do_sample=False)

    assert torch.equal(run(ours), run(builtin))
    return compared(
        take_turns(lambda: run(ours), lambda: run(builtin), repeats=repeats),
        name="batch of 4, left-padded",
        unit="s",
        ours_is=f"4 whole prompts of different length, {NUM_NEW_TOKENS} greedy tokens each",
        other_is=BUILTIN,
        checked="the same tokens",
    )


def _one_image(ours: Any, builtin: Any, processor: Any, image: Any, repeats: int) -> list[Comparison]:
    def one_by_one(model: Any) -> list[list[int]]:
        answers = []
        for question in QUESTIONS:
            inputs = _encode(processor, [question], image)
            ids = model.generate(**inputs, max_new_tokens=NUM_NEW_TOKENS, do_sample=False)
            answers.append(ids[0, inputs["input_ids"].shape[1] :].tolist())
        return answers

    def with_reuse(batch_size: int | None) -> list[list[int]]:
        answerer = ImageAnswerer(ours, processor, image)
        answers = answerer.generate_many(QUESTIONS, batch_size=batch_size, max_new_tokens=NUM_NEW_TOKENS)
        return [ids.tolist() for ids in answers]

    expected = one_by_one(builtin)
    assert one_by_one(ours) == expected
    assert with_reuse(1) == expected
    assert with_reuse(None) == expected
    work = f"4 questions about one image, {NUM_NEW_TOKENS} greedy tokens each, from image and text"

    def line(name: str, ours_is: str, run: Callable[[], Any], other: Any, other_is: str, **facts: Any) -> Comparison:
        timing = take_turns(run, lambda: one_by_one(other), repeats=repeats)
        return compared(timing, name=name, ours_is=f"{work}, {ours_is}", other_is=other_is, unit="s", **facts)

    same: dict[str, Any] = {"checked": "the same tokens", "at_least": 2.0}
    return [
        line(
            "4 questions, reuse",
            "ImageAnswerer one by one",
            lambda: with_reuse(1),
            builtin,
            "built-in, one by one",
            **same,
        ),
        line(
            "4 questions, reuse, together",
            "ImageAnswerer in one batch",
            lambda: with_reuse(None),
            builtin,
            "built-in, one by one",
            **same,
        ),
        line(
            "4 questions, reuse against ours without",
            "ImageAnswerer one by one",
            lambda: with_reuse(1),
            ours,
            "our model without reuse, one by one",
            **same,
        ),
    ]


def _evaluation(ours: Any, builtin: Any, processor: Any, repeats: int) -> Comparison:
    """As `llava evaluate` asks POPE: six questions on each image, which lie far apart in the file."""
    images = []
    for seed in range(2):
        file = io.BytesIO()
        make_image(seed=seed).save(file, "PNG")
        images.append(file.getvalue())
    asked = [
        Question(key, key, f"Is there a {thing} in the image?", image)
        for key, (thing, image) in enumerate((thing, image) for thing in THINGS for image in images)
    ]
    task = AskedTask(load_task("pope"), "llava-1.5", tuple(asked), len(asked), "", None)
    loaded = LoadedModel(ours, processor, "random", "", None, "", {})

    def evaluated() -> list[list[int]]:
        model = AskedModel(loaded, task, Decoding(NUM_NEW_TOKENS))
        batches = [batch for group in group_by_image(asked, 8) for batch in model.answers(group)]
        answers = {prediction.key: list(prediction.token_ids) for batch in batches for prediction in batch}
        return [answers[question.key] for question in asked]

    def one_by_one() -> list[list[int]]:
        answers = []
        for question in asked:
            assert isinstance(question.image, bytes)
            inputs = _encode(processor, [question.text], Image.open(io.BytesIO(question.image)))
            ids = builtin.generate(**inputs, max_new_tokens=NUM_NEW_TOKENS, do_sample=False)
            answers.append(ids[0, inputs["input_ids"].shape[1] :].tolist())
        return answers

    assert evaluated() == one_by_one()
    return compared(
        take_turns(evaluated, one_by_one, repeats=repeats),
        amount=len(asked),
        unit="questions/s",
        name="POPE stand-in",
        ours_is=f"12 questions about two images as `llava evaluate` asks them, {NUM_NEW_TOKENS} greedy tokens each",
        other_is="built-in, one by one",
        checked="the same tokens",
        at_least=2.0,
    )


if __name__ == "__main__":
    sys.exit(main("generating", measure, repeats=4, clock="CPU time"))
