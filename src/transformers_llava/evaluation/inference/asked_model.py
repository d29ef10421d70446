"""Ask a loaded model the questions about an image, a batch at a time."""

import hashlib
from collections.abc import Collection, Iterator
from functools import cached_property
from typing import Any

import torch

from transformers_llava.artifacts.evaluation_files.predictions import Prediction, text_digest
from transformers_llava.data.images.opening import open_image, read_image_bytes
from transformers_llava.data.schema import RecordError
from transformers_llava.evaluation.asking import question_text, question_turn
from transformers_llava.evaluation.inference.asked_task import AskedTask
from transformers_llava.evaluation.inference.generated_answers import Decoding, end_ids_of, read_answer
from transformers_llava.evaluation.inference.image_groups import ImageGroup
from transformers_llava.evaluation.inference.loaded_model import LoadedModel
from transformers_llava.evaluation.questions.question import Key, Question
from transformers_llava.evaluation.questions.question_lines import QuestionsError
from transformers_llava.generation.answering import ImageAnswerer


class AskedModel:
    """
    Answers the questions of a task.

    Args:
        loaded ([`LoadedModel`]): Whom to ask.
        asked ([`AskedTask`]): Of which task.
        decoding ([`Decoding`]): How to generate.
    """

    def __init__(self, loaded: LoadedModel, asked: AskedTask, decoding: Decoding) -> None:
        self.model, self.processor = loaded.model, loaded.processor
        self.asked = asked
        self.decoding = decoding
        self._end_ids = end_ids_of(self.model)

    def answers(self, group: ImageGroup, known: Collection[Key] = ()) -> Iterator[tuple[Prediction, ...]]:
        """
        Answer the batches of a group, except those whose answers are all known.

        A batch with some known answers is computed whole, as before an interruption, and only its others are given.

        Raises:
            `QuestionsError`: The image cannot be decoded; names image and question.
        """
        batches = [batch for batch in group.batches if any(question.key not in known for question in batch)]
        if not batches:
            return
        answerer, digest = self._see(group) if group.image is not None else (None, None)
        for batch in batches:
            prompts = [self.prompt_ids(question) for question in batch]
            options = self.decoding.options(self.processor.tokenizer)
            rows = (
                self._without_image(prompts, options)
                if answerer is None
                else answerer.generate_ids(prompts, **options)
            )
            predictions = [self._prediction(question, digest, row) for question, row in zip(batch, rows, strict=True)]
            yield tuple(prediction for prediction in predictions if prediction.key not in known)

    def prompt_ids(self, question: Question) -> list[int]:
        """
        The prompt as the tokenizer alone makes it, `<image>` once: the user's turn stands in it as it is.

        Templates that take no string, and questions in which a special token such as `</s>` is text, are asked in
        parts, of which a template may strip white space.
        """
        tokenizer, template = self.processor.tokenizer, self.processor.chat_template
        turn = question_turn(self.asked.task, self.asked.protocol, question)
        text = question_text(self.asked.task, self.asked.protocol, question)
        as_parts = self._parts(question, text)
        if not any(token in text for token in self._special_tokens):
            rendered = tokenizer.apply_chat_template(
                [{"role": "user", "content": turn}], chat_template=template, add_generation_prompt=True, tokenize=False
            )
            before = tokenizer.apply_chat_template(
                as_parts, chat_template=template, add_generation_prompt=True, tokenize=False
            ).partition(self._marker)[0]
            if turn in rendered and (question.image is None or rendered.partition(self._marker)[0] == before):
                return list(tokenizer(rendered, add_special_tokens=False)["input_ids"])
        ids = tokenizer.apply_chat_template(
            as_parts,
            chat_template=template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            sanitize_control_tokens=True,
        )
        return list(ids)

    @cached_property
    def _special_tokens(self) -> tuple[str, ...]:
        return tuple(
            token.content for token in self.processor.tokenizer.added_tokens_decoder.values() if token.special
        )

    @cached_property
    def _marker(self) -> str:
        return str(getattr(self.processor, "image_token", "<image>"))

    def _parts(self, question: Question, text: str) -> list[dict[str, Any]]:
        image = [] if question.image is None else [{"type": "image"}]
        return [{"role": "user", "content": [*image, {"type": "text", "text": text}]}]

    def _see(self, group: ImageGroup) -> tuple[ImageAnswerer, str]:
        assert group.image is not None
        try:
            reference = self.asked.reference(group.image)
            data = read_image_bytes(reference)
            image = open_image({"bytes": data, "path": reference["path"]})
        except RecordError as error:
            question = group.batches[0][0]
            raise QuestionsError(
                f"question {question.key!r} of {self.asked.task.name} asks about an image that cannot be read: "
                f"{error} Answers so far are kept; put the image right and run the same command again."
            ) from error
        return ImageAnswerer(self.model, self.processor, image), hashlib.sha256(data).hexdigest()

    @torch.inference_mode()
    def _without_image(self, prompts: list[list[int]], options: dict[str, Any]) -> list[torch.Tensor]:
        longest = max(map(len, prompts))
        pad = self.processor.tokenizer.pad_token_id or 0  # any id: the mask decides
        rows = [[pad] * (longest - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        device = self.model.device
        ids = self.model.generate(
            input_ids=torch.tensor(rows, device=device), attention_mask=torch.tensor(mask, device=device), **options
        )
        return list(ids[:, longest:])

    def _prediction(self, question: Question, image_digest: str | None, row: torch.Tensor) -> Prediction:
        answer = read_answer(row.tolist(), self.processor.tokenizer, self._end_ids, self.decoding)
        turn = question_turn(self.asked.task, self.asked.protocol, question)
        return Prediction(
            question.key, text_digest(turn), image_digest, answer.token_ids, answer.text, answer.stop_reason
        )


__all__ = ["AskedModel"]
