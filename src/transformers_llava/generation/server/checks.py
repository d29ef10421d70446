"""Check a request before the server of transformers sees it: what it cannot do is refused, never ignored."""

import math
from typing import Any

from transformers_llava.artifacts.limits import MAX_REQUEST_BEAMS, MAX_REQUEST_MESSAGES, MAX_STOP_STRINGS
from transformers_llava.artifacts.untrusted import DocumentError, parse_json


class RequestError(ValueError):
    """A request that the client has to change; `status` is the HTTP status of the answer."""

    def __init__(self, message: str, *, param: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.param = param
        self.status = status


# Fields that would change the answer, and that nobody here obeys; transformers' server drops them with a log line.
_NOT_OBEYED = {
    "audio": "this model writes text only",
    "function_call": "this server calls no functions",
    "functions": "this server calls no functions",
    "logprobs": "this server returns no probabilities",
    "top_logprobs": "this server returns no probabilities",
    "prediction": "this server uses no predicted outputs",
    "presence_penalty": "use frequency_penalty, or a generation_config",
    "response_format": "this server forces no format",
    "web_search_options": "this server searches nothing",
    "chat_template_kwargs": "the template of the checkpoint takes no arguments",
    "previous_response_id": "this server stores nothing; send the whole dialogue",
    "background": "this server answers at once",
    "truncation": "this server truncates nothing",
    "echo": "this server returns the completion alone",
    "best_of": "this server returns one answer",
}
_HARMLESS_VALUES: dict[str, tuple[Any, ...]] = {
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "presence_penalty": (0, 0.0),
    "response_format": ({"type": "text"},),
    "chat_template_kwargs": ({},),
    "functions": ([],),
    "background": (False,),
    "truncation": ("disabled",),
    "echo": (False,),
    "best_of": (1,),
}
# Fields of `generation_config`: how tokens are chosen. Others choose caches, compilers and forms of the result, which
# are not the client's, or lengths that no bound of ours looks at.
_OF_GENERATION = {
    *("max_new_tokens", "min_new_tokens", "max_time", "stop_strings", "early_stopping", "num_beams", "length_penalty"),
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    *("repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size", "prompt_lookup_num_tokens"),
    *("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias", "renormalize_logits"),
    *("exponential_decay_length_penalty", "forced_eos_token_id", "remove_invalid_values", "use_cache"),
    *("eos_token_id", "pad_token_id", "bos_token_id", "transformers_version", "_from_model_config"),
}
_ROLES = ("system", "user", "assistant")


def check_request(body: dict[str, Any], *, template: str | None) -> None:
    """
    Check the fields of a chat, text or responses request, apart from images.

    Args:
        body (`dict`): The JSON body.
        template (`str`, *optional*): The chat template of the checkpoint; it decides whether tools are understood.

    Raises:
        `RequestError`: a field has a value that cannot be obeyed; names it and says why.
    """
    for name, reason in _NOT_OBEYED.items():
        value = body.get(name)
        if value is not None and value not in _HARMLESS_VALUES.get(name, ()):
            raise RequestError(f"{name} is {_shown(value)}, but {reason}. Leave it out.", param=name)
    if body.get("tools") and "tools" not in (template or ""):
        raise RequestError("the chat template of this model knows no tools. Leave them out.", param="tools")
    _number(body, "n", int, lambda value: value == 1, "1: this server gives one answer per request")
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        _number(body, name, int, lambda value: value >= 1, "a whole number of at least 1")
    _number(body, "temperature", float, lambda value: 0 <= value <= 2, "a number from 0 to 2")
    _number(body, "top_p", float, lambda value: 0 < value <= 1, "a number above 0, up to 1")
    _number(body, "frequency_penalty", float, lambda value: -1 < value <= 2, "a number above -1, up to 2")
    _number(body, "seed", int, lambda value: 0 <= value < 2**63, "a whole number from 0")
    if body.get("stream") is not None and not isinstance(body["stream"], bool):
        raise RequestError(f"stream is {_shown(body['stream'])}, and must be true or false.", param="stream")
    _check_stop(body.get("stop"))
    if body.get("generation_config") is not None:
        _check_generation_config(body["generation_config"])


def check_messages(messages: Any) -> None:
    """
    Check the shape of a dialogue: a list of messages with a known role and text or parts.

    Raises:
        `RequestError`: it has another shape; names the message.
    """
    if not isinstance(messages, list) or not messages:
        raise RequestError(
            "messages is empty or no list, so there is no question. Send one message.", param="messages"
        )
    if len(messages) > MAX_REQUEST_MESSAGES:
        raise RequestError(f"messages has more than {MAX_REQUEST_MESSAGES} entries.", param="messages")
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise RequestError(f"{where} is {_shown(message)}, and must be an object with role and content.")
        if message.get("role") not in _ROLES:
            raise RequestError(
                f"{where} has the role {_shown(message.get('role'))}. The roles here are {', '.join(_ROLES)}.",
                param="messages",
            )
        content = message.get("content")
        if isinstance(content, str):
            continue
        if not isinstance(content, list) or not all(isinstance(part, dict) for part in content) or not content:
            raise RequestError(
                f"{where} has the content {_shown(content)}, and must have a text or a list of parts.",
                param="messages",
            )


def _check_generation_config(text: Any) -> None:
    """A JSON text, as transformers' clients send it."""
    name = "generation_config"
    if not isinstance(text, str):
        raise RequestError(f"{name} is {_shown(text)}, and must be a text that holds JSON.", param=name)
    try:
        values = parse_json(text, name)
    except DocumentError as error:
        raise RequestError(str(error), param=name) from error
    if values.get("max_length") is not None:
        raise RequestError(f"max_length in {name} counts the prompt too. Use max_new_tokens.", param=name)
    if unknown := sorted(field for field in values.keys() - _OF_GENERATION if values[field] is not None):
        raise RequestError(
            f"{name} has the field {_shown(unknown[0])}, which a request cannot set. Leave it out.", param=name
        )
    _number(values, "max_new_tokens", int, lambda value: value >= 1, "a whole number of at least 1")
    beams = f"a whole number from 1 to {MAX_REQUEST_BEAMS}"
    _number(values, "num_beams", int, lambda value: 1 <= value <= MAX_REQUEST_BEAMS, beams)
    _check_stop(values.get("stop_strings"))


def _check_stop(stop: Any) -> None:
    stops = [stop] if isinstance(stop, str) else stop
    if stops is None:
        return
    if not isinstance(stops, list) or not all(isinstance(one, str) and one for one in stops):
        raise RequestError(f"stop is {_shown(stop)}, and must be a text or a list of texts.", param="stop")
    if len(stops) > MAX_STOP_STRINGS:
        raise RequestError(f"stop has more than {MAX_STOP_STRINGS} texts.", param="stop")


def _number(body: dict[str, Any], name: str, kind: type, holds: Any, wanted: str) -> None:
    value = body.get(name)
    if value is None:
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or (kind is int and value != int(value)) or not holds(value):
        raise RequestError(f"{name} is {_shown(value)}, and must be {wanted}.", param=name)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


__all__ = ["RequestError", "check_messages", "check_request"]
