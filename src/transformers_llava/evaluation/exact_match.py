"""Measure the share of right answers on held-out examples, with the images or, as a control, without them."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from transformers_llava.data.images.opening import open_image
from transformers_llava.data.schema import Example
from transformers_llava.data.tokens.chat_rendering import to_conversation


@dataclass(frozen=True)
class AnsweredQuestion:
    """One held-out question: what was asked, what is right, what the model said."""

    id: str
    question: str
    truth: str
    answer: str

    @property
    def is_correct(self) -> bool:
        return normalize_answer(self.answer) == normalize_answer(self.truth)


@dataclass(frozen=True)
class ExactMatchResult:
    """
    Args:
        accuracy (`float`): Share of right answers, 0 to 1.
        num_examples (`int`): How many questions were asked.
        answers (`tuple[AnsweredQuestion, ...]`): Every one of them, in the order of the examples.
    """

    accuracy: float
    num_examples: int
    answers: tuple[AnsweredQuestion, ...]


def evaluate_exact_match(
    model: Any,
    processor: Any,
    examples: Sequence[Example],
    *,
    with_images: bool = True,
    batch_size: int = 32,
    max_new_tokens: int = 16,
    progress: str | None = None,
) -> ExactMatchResult:
    """
    Asks each example's last question and compares the greedy answer with the recorded one.

    Prompts are batched with left padding, which gives the same answers as one by one. An answer is right if it equals
    the recorded one but for case, surrounding white space and a final full stop, the rule of LLaVA's short-answer
    benchmarks.

    Args:
        model ([`OpenLlavaForConditionalGeneration`]): The model; it is used in evaluation mode.
        processor ([`OpenLlavaProcessor`]): Its processor.
        examples (`Sequence[Example]`): Each ends with the right answer as an assistant turn.
        with_images (`bool`, *optional*, defaults to `True`): `False` asks the same questions without the images:
            what the questions alone give away.
        batch_size (`int`, *optional*, defaults to 32): Questions per forward pass.
        max_new_tokens (`int`, *optional*, defaults to 16): Longest answer.
        progress (`str`, *optional*): Title of a progress bar; none if not given.

    Raises:
        ValueError: If there is no example, or one does not end with an answer.
    """
    if len(examples) == 0:
        raise ValueError("There is no example to evaluate on, so there is no accuracy. Give at least one.")
    was_training = model.training
    model.eval()
    answers: list[AnsweredQuestion] = []
    try:
        for batch in tqdm(list(_batches(examples, batch_size)), desc=progress, disable=progress is None, leave=False):
            answers += _ask(model, processor, batch, with_images=with_images, max_new_tokens=max_new_tokens)
    finally:
        model.train(was_training)
    return ExactMatchResult(statistics.fmean(a.is_correct for a in answers), len(answers), tuple(answers))


def normalize_answer(answer: str) -> str:
    """`" Yes. "` and `"yes"` are the same answer."""
    return answer.strip().removesuffix(".").strip().casefold()


@torch.inference_mode()
def _ask(
    model: Any, processor: Any, examples: list[Example], *, with_images: bool, max_new_tokens: int
) -> list[AnsweredQuestion]:
    prompts, truths, images = [], [], []
    for example in examples:
        *conversation, last = to_conversation(example)
        if last["role"] != "assistant" or not conversation:
            raise ValueError(
                f"example '{example['id']}' ends with a turn of the {last['role']}, so there is no answer to compare "
                "with. Evaluation records end with the right answer as the assistant's turn."
            )
        truths.append(_text(last))
        prompts.append(conversation)
        images += [open_image(reference) for reference in example["images"]] if with_images else []
        if not with_images:
            for message in conversation:
                message["content"] = [part for part in message["content"] if part["type"] != "image"]
    _attach(prompts, images)
    inputs = processor.apply_chat_template(
        prompts,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        sanitize_control_tokens=True,  # `<image>` or `</s>` in a question is text
        processor_kwargs={"padding": True, "padding_side": "left", "add_special_tokens": False},
    ).to(model.device)
    generated = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    new_tokens = generated[:, inputs["input_ids"].shape[1] :]
    answers = processor.batch_decode(new_tokens, skip_special_tokens=True)
    return [
        AnsweredQuestion(example["id"], _text(prompt[-1]), truth, answer.strip())
        for example, prompt, truth, answer in zip(examples, prompts, truths, answers, strict=True)
    ]


def _attach(conversations: list[list[dict[str, Any]]], images: Iterable[Any]) -> None:
    """Puts each image into its image part, in order."""
    remaining = iter(images)
    for conversation in conversations:
        for message in conversation:
            for part in message["content"]:
                if part["type"] == "image":
                    part["image"] = next(remaining)


def _text(message: dict[str, Any]) -> str:
    return "".join(part["text"] for part in message["content"] if part["type"] == "text").strip()


def _batches(examples: Sequence[Example], size: int) -> Iterator[list[Example]]:
    for start in range(0, len(examples), size):
        yield [examples[i] for i in range(start, min(start + size, len(examples)))]


__all__ = ["AnsweredQuestion", "ExactMatchResult", "evaluate_exact_match", "normalize_answer"]
