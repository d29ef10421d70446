"""Answer many questions about the same images: these, and all before the question, are computed once."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers.cache_utils import DynamicCache, DynamicLayer


# What `generate` is given here, and options that start from a prompt without a cache; each with the reason.
_GIVEN = ("inputs", "input_ids", "inputs_embeds", "attention_mask", "position_ids", "pixel_values", "image_sizes")
_REFUSED = {
    **dict.fromkeys(_GIVEN, "the answerer passes its own"),
    "past_key_values": "answers continue from the cache of the images",
    "cache_implementation": "answers continue from the cache of the images, which grows as needed",
    "assistant_model": "the assistant would not know what is in the cache",
    "prompt_lookup_num_tokens": "the first lookup would read the whole prompt again behind the cache",
    "return_dict_in_generate": "answers are returned as token ids",
}


class ImageAnswerer:
    """
    Answers any number of questions about the same images.

    A LLaVA prompt begins with a system text and hundreds of image positions, which are the same for every question
    about the image. They go through vision tower, projector and language model once; every question continues from
    a copy of the keys and values that they left. The answers are those of `generate` on each whole prompt.

    Contract: what is reused ends with the last image position, so that no question can change how its last text
    token was cut.

    Args:
        model ([`OpenLlavaForConditionalGeneration`]): Or a built-in LLaVA; used in evaluation mode.
        processor ([`OpenLlavaProcessor`]): Its processor, with a chat template.
        images (`PIL.Image.Image` or `list`): The images, shown before the question in this order.
        system (`str`, *optional*): A system turn instead of the template's own.

    Raises:
        ValueError: If there is no image; or, on asking, if the template writes a question before its images.

    Example:

    ```python
    answerer = ImageAnswerer(model, processor, Image.open("image.png"))
    answerer.answer("What is this?")
    answerer.answer_many(["Is it red?", "Is it large?"], max_new_tokens=5)
    ```
    """

    def __init__(
        self, model: Any, processor: Any, images: Image.Image | Sequence[Image.Image], *, system: str | None = None
    ) -> None:
        self.model = model
        self.processor = processor
        self.images = [images] if isinstance(images, Image.Image) else list(images)
        self.system = system
        if not self.images:
            raise ValueError(
                "There is no image, so there is nothing that several questions share. Call `model.generate` on the "
                "questions, or give at least one image."
            )
        image_id = model.config.image_token_id
        inputs = self._encode("?").to(model.device)
        prompt = self._text_ids("?")  # one position for each image, where the model has as many as it costs
        self._shared_text = prompt[: len(prompt) - prompt[::-1].index(image_id)]
        ids = inputs["input_ids"]
        self.prefix_length = int((ids[0] == image_id).nonzero()[-1]) + 1
        self.prefix_ids = ids[:, : self.prefix_length]  # (1, prefix_length)
        self._prefix = self._read(inputs)

    def answer(self, question: str, **kwargs: Any) -> str:
        """One answer; see [`~ImageAnswerer.answer_many`]."""
        num_answers = self._setting("num_return_sequences", kwargs) or 1
        if num_answers > 1:
            raise ValueError(
                f"num_return_sequences={num_answers} gives several answers, and `answer` returns one. Use "
                "`answer_many([question], ...)`, which returns all."
            )
        return self.answer_many([question], **kwargs)[0]

    def answer_many(self, questions: Sequence[str], *, batch_size: int | None = None, **kwargs: Any) -> list[str]:
        """
        Answers to independent questions, in order.

        Args:
            questions (`Sequence[str]`): Each a user turn of its own after the images.
            batch_size (`int`, *optional*): Questions that are answered together, all if not given. Together is faster;
                memory grows by one copy of the prefix's keys and values for each. Decoders with a sliding window or a
                recurrent state answer one by one, whatever is asked.
            **kwargs: Of `generate`, such as `max_new_tokens`. Greedy unless `do_sample=True`. With
                `num_return_sequences=n` each question has n answers, one after another.

        Raises:
            ValueError: If an option cannot continue from a cache: another cache, `use_cache=False`, speculative
                decoding.
        """
        new_tokens = self.generate_many(questions, batch_size=batch_size, **kwargs)
        answers = [self.processor.decode(ids, skip_special_tokens=True) for ids in new_tokens]
        return [answer.strip() for answer in answers]

    @torch.inference_mode()
    def generate_many(
        self, questions: Sequence[str], *, batch_size: int | None = None, **kwargs: Any
    ) -> list[torch.Tensor]:
        """New token ids `(num_new_tokens,)` of each answer, padded on the right within a batch."""
        return self.generate_ids([self._text_ids(question) for question in questions], batch_size=batch_size, **kwargs)

    @torch.inference_mode()
    def generate_ids(
        self, prompts: Sequence[Sequence[int]], *, batch_size: int | None = None, **kwargs: Any
    ) -> list[torch.Tensor]:
        """
        [`~ImageAnswerer.generate_many`] of prompts that are tokens already.

        Args:
            prompts (`Sequence[Sequence[int]]`): Each whole, as the tokenizer alone makes it: `<image>` once per image.

        Raises:
            ValueError: If a prompt does not begin as the one with which the images were read.
        """
        self._check(kwargs)
        answers: list[torch.Tensor] = []
        step = batch_size or max(1, len(prompts)) if self._may_pad() else 1
        for start in range(0, len(prompts), step):
            answers += self._generate([self._suffix(prompt) for prompt in prompts[start : start + step]], **kwargs)
        return answers

    def _setting(self, name: str, kwargs: dict[str, Any]) -> Any:
        """An option of `generate` as it will hold: of this call, of its `generation_config`, or of the model's."""
        if name in kwargs:
            return kwargs[name]
        config = kwargs.get("generation_config") or self.model.generation_config
        return getattr(config, name, None)

    def _check(self, kwargs: dict[str, Any]) -> None:
        refused = {name: reason for name, reason in _REFUSED.items() if name in kwargs or self._setting(name, kwargs)}
        if self._setting("use_cache", kwargs) is False:
            refused["use_cache"] = "without a cache nothing of the images could be used again"
        if refused:
            name, reason = next(iter(refused.items()))
            raise ValueError(
                f"{name}={self._setting(name, kwargs)!r} cannot be used here: {reason}. Leave it out, or call "
                "`model.generate` on whole prompts."
            )

    def _may_pad(self) -> bool:
        """
        Whether padding between prefix and question can be masked out.

        A sliding window counts places in the cache, masked ones too, and a recurrent state reads them; such decoders
        answer one question at a time.
        """
        return all(type(layer) is DynamicLayer for layer in self._prefix.layers)

    def _generate(self, suffixes: list[list[int]], **kwargs: Any) -> list[torch.Tensor]:
        assert all(suffixes), "the template writes something behind the images: a question, or who answers"
        longest = max(len(suffix) for suffix in suffixes)
        pad = self.processor.tokenizer.pad_token_id or 0  # any id: the mask decides
        input_ids = torch.tensor([[pad] * (longest - len(suffix)) + suffix for suffix in suffixes])
        mask = torch.tensor([[0] * (longest - len(suffix)) + [1] * len(suffix) for suffix in suffixes])
        shared = self.prefix_ids.expand(len(suffixes), -1)  # (num_questions, prefix_length)
        input_ids = torch.cat([shared, input_ids.to(shared)], dim=1)
        mask = torch.cat([torch.ones_like(shared), mask.to(shared)], dim=1)
        cache = copy.deepcopy(self._prefix)
        rows = len(suffixes) * max(self._setting(name, kwargs) or 1 for name in ("num_beams", "num_return_sequences"))
        if rows > 1:
            cache.batch_repeat_interleave(rows)
        kwargs = {"do_sample": False, **kwargs}
        ids = self.model.generate(input_ids=input_ids, attention_mask=mask, past_key_values=cache, **kwargs)
        return list(ids[:, input_ids.shape[1] :])

    @torch.inference_mode()
    def _read(self, inputs: Any) -> DynamicCache:
        """Keys and values of the prefix."""
        self.model.eval()
        cache = DynamicCache(config=self.model.config.get_text_config(decoder=True))
        pixels = {name: inputs[name] for name in ("pixel_values", "image_sizes") if name in inputs}
        self.model(input_ids=self.prefix_ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **pixels)
        return cache

    def _suffix(self, prompt: Sequence[int]) -> list[int]:
        """Token ids of a prompt behind the images, which need not be looked at again."""
        ids = list(prompt)
        if ids[: len(self._shared_text)] != self._shared_text:
            shown = self.processor.tokenizer.decode(ids)[:200]
            raise ValueError(
                f"The prompt {shown!r} does not begin as the prompt with which the images were read, so their "
                "keys and values would be those of another text. The chat template probably writes the question "
                "before the images; call `model.generate` on whole prompts instead."
            )
        return ids[len(self._shared_text) :]

    def _text_ids(self, question: str) -> list[int]:
        """The prompt as the tokenizer alone makes it: `<image>` once for each image."""
        ids = self.processor.tokenizer.apply_chat_template(
            self._conversation(question),
            chat_template=self.processor.chat_template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            sanitize_control_tokens=True,  # `<image>` or `</s>` in a question is text
        )
        return list(ids)

    def _encode(self, question: str) -> Any:
        conversation = self._conversation(question)
        remaining = iter(self.images)
        for part in conversation[-1]["content"]:
            if part["type"] == "image":
                part["image"] = next(remaining)
        return self.processor.apply_chat_template(
            [conversation],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            sanitize_control_tokens=True,
            processor_kwargs={"add_special_tokens": False},
        )

    def _conversation(self, question: str) -> list[dict[str, Any]]:
        user: list[dict[str, Any]] = [{"type": "image"} for _ in self.images]
        turns = [{"role": "user", "content": [*user, {"type": "text", "text": question}]}]
        if self.system is not None:
            turns.insert(0, {"role": "system", "content": [{"type": "text", "text": self.system}]})
        return turns


__all__ = ["ImageAnswerer"]
