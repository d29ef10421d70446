"""Give the request handlers of transformers' server checked requests, guarded images and a bounded context."""

import asyncio
import copy
from typing import Any

from PIL import Image
from transformers import GenerationConfig
from transformers.cli.serving.chat_completion import ChatCompletionHandler
from transformers.cli.serving.completion import CompletionHandler
from transformers.cli.serving.model_manager import ModelManager
from transformers.cli.serving.response import ResponseHandler
from transformers.cli.serving.utils import GenerateManager, GenerationState, Modality

from transformers_llava.artifacts.limits import MAX_REQUEST_IMAGES
from transformers_llava.generation.server.checks import RequestError, check_messages, check_request
from transformers_llava.generation.server.images import ImageSources, image_of_part


_TEXT_PARTS = ("text", "input_text", "output_text")
_IMAGE_PARTS = ("image_url", "input_image")


class BoundedGenerateManager(GenerateManager):
    """Generates one request after the other, and never past the context of the model."""

    def generate_streaming(
        self, model: Any, processor: Any, inputs: Any, gen_config: Any, *args: Any, **kwargs: Any
    ) -> Any:
        _fit_context(model, inputs, gen_config)
        return super().generate_streaming(model, _tokenizer_of(processor), inputs, gen_config, *args, **kwargs)

    async def generate_non_streaming(
        self, model: Any, processor: Any, inputs: Any, gen_config: Any, *args: Any, **kwargs: Any
    ) -> Any:
        _fit_context(model, inputs, gen_config)
        return await super().generate_non_streaming(
            model, _tokenizer_of(processor), inputs, gen_config, *args, **kwargs
        )


class BoundedGenerationState(GenerationState):
    """One thread per model, each with a [`BoundedGenerateManager`]."""

    def get_manager(self, model_id: str, use_cb: bool = False) -> Any:
        if model_id not in self._generate_managers:
            self._generate_managers[model_id] = BoundedGenerateManager()
        return self._generate_managers[model_id]


class CheckedRequests:
    """
    What our handlers have in common; stands before one of transformers' handlers in the order of base classes.

    Args:
        sources ([`ImageSources`]): Where images may come from beside the request itself.
    """

    model_manager: ModelManager

    def __init__(self, *args: Any, sources: ImageSources, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sources = sources

    async def handle_request(self, body: dict[str, Any], request_id: str) -> Any:
        _, processor = await asyncio.to_thread(self._loaded)
        check_request(body, template=getattr(processor, "chat_template", None))
        body = copy.copy(body)
        for name in ("max_tokens", "max_completion_tokens", "max_output_tokens", "seed"):
            if body.get(name) is not None:
                body[name] = int(body[name])
        body["stream"] = bool(body.get("stream"))  # the Responses handler would stream where nobody asked for it
        if isinstance(body.get("stop"), str):
            body["stop"] = [body["stop"]]
        return await super().handle_request(body, request_id)  # type: ignore[misc]

    def get_processor_inputs_from_messages(self, messages: list[dict], modality: Modality) -> list[dict]:
        """Messages of OpenAI's form as the processor takes them, with decoded images in place of their addresses."""
        check_messages(messages)
        num_images = 0
        found = []
        for message in messages:
            content = message["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            converted: list[dict[str, Any]] = [self._part(part) for part in parts]
            num_images += sum(isinstance(part.get("image"), Image.Image) for part in converted)
            if num_images > MAX_REQUEST_IMAGES:
                raise RequestError(f"the request has more than {MAX_REQUEST_IMAGES} images.", param="messages")
            found.append({"role": message["role"], "content": converted})
        if modality == Modality.LLM:
            if num_images:
                raise RequestError("this model reads text only, and the request has an image.", param="messages")
            return [{**one, "content": " ".join(part["text"] for part in one["content"])} for one in found]
        return found

    def _part(self, part: dict[str, Any]) -> dict[str, Any]:
        kind = part.get("type")
        if kind in _TEXT_PARTS:
            if not isinstance(part.get("text"), str):
                raise RequestError(f"a part of type {kind} has no text.", param="messages")
            return {"type": "text", "text": part["text"]}
        if kind in _IMAGE_PARTS:
            return {"type": "image", "image": image_of_part(part, self.sources)}
        raise RequestError(
            f"a part has the type {str(kind)[:40]!r}. This server reads parts of type text and image_url (input_text "
            "and input_image in the Responses API).",
            param="messages",
        )

    def _build_generation_config(self, body: dict, model_generation_config: Any, use_cb: bool = False) -> Any:
        """Sample where the client asks for a temperature or top_p; transformers' server stays greedy there."""
        config: GenerationConfig = super()._build_generation_config(  # type: ignore[misc]
            body, model_generation_config, use_cb=use_cb
        )
        temperature, top_p = body.get("temperature"), body.get("top_p")
        if temperature == 0:
            config.do_sample, config.temperature = False, None
        elif temperature is not None or (top_p is not None and top_p < 1):
            config.do_sample = True
        # `max_new_tokens` that nobody asked for may be lowered to what the context still holds.
        asked = ("max_tokens", "max_completion_tokens", "max_output_tokens", "generation_config")
        config.max_new_tokens_is_default = all(body.get(name) is None for name in asked)
        return config

    def _loaded(self) -> tuple[Any, Any]:
        manager = self.model_manager
        assert manager.force_model is not None
        return manager.load_model_and_processor(manager.process_model_name(manager.force_model))


class CheckedChatHandler(CheckedRequests, ChatCompletionHandler):
    """`/v1/chat/completions`."""


class CheckedResponseHandler(CheckedRequests, ResponseHandler):
    """`/v1/responses`."""


class CheckedCompletionHandler(CheckedRequests, CompletionHandler):
    """`/v1/completions`."""


def _fit_context(model: Any, inputs: Any, config: Any) -> None:
    """
    Refuse a prompt that does not fit, and keep a default number of new tokens within what is left.

    Raises:
        `RequestError`: the prompt, or prompt and tokens that were asked for, exceed the positions of the model.
    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    is_default = config.__dict__.pop("max_new_tokens_is_default", False)
    if not positions:
        return
    num_tokens = inputs["input_ids"].shape[-1]
    room = positions - num_tokens
    if room < 1:
        raise RequestError(
            f"the prompt has {num_tokens} tokens, and the model reads {positions}. Shorten the dialogue or send fewer "
            "images.",
            param="messages",
        )
    if config.max_new_tokens is not None and config.max_new_tokens > room:
        if not is_default:
            raise RequestError(
                f"the prompt has {num_tokens} tokens and {config.max_new_tokens} are asked for, but the model reads "
                f"{positions} in all. Ask for at most {room}.",
                param="max_tokens",
            )
        config.max_new_tokens = room


def _tokenizer_of(processor: Any) -> Any:
    """Stop strings need the vocabulary, which processors of transformers do not have."""
    return getattr(processor, "tokenizer", processor)


__all__ = ["BoundedGenerationState", "CheckedChatHandler", "CheckedCompletionHandler", "CheckedResponseHandler"]
