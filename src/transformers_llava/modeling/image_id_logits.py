"""Let every option of `generate` run with an image id that has no row among the logits.

`image_token_id` stands in the prompt and is never generated; by default it is the first id after the vocabulary. Some
options read the logits at the ids of the prompt, or propose ids of the prompt as the next ones.
"""

from typing import Any

import torch
from transformers import GenerationConfig, GenerationMixin
from transformers.generation.logits_process import (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    LogitsProcessor,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
    SequenceBiasLogitsProcessor,
)
from transformers.generation.stopping_criteria import StoppingCriteriaList
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.processing_utils import ProcessorMixin


# These index the logits by ids of the prompt, or by ids that the user names. Others either clamp such ids themselves
# or compare with logits of their own, which have no more columns than ours.
_INDEXING = (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
    SequenceBiasLogitsProcessor,  # and its child for `bad_words_ids`
)


class OpenLlavaGenerationMixin(GenerationMixin):
    def adjust_generation_fn(self, *args: Any, **kwargs: Any) -> None:
        """
        Reads the generation settings beside the weights; of those derived from a model's configuration only token ids.

        Flat configurations of the original hold `max_length`, which would cut every answer and warn on every call.
        """
        super().adjust_generation_fn(*args, **kwargs)
        derived = getattr(self, "generation_config", None)
        if getattr(derived, "_from_model_config", False):
            ids = ("bos_token_id", "eos_token_id", "pad_token_id")
            self.generation_config = GenerationConfig(**{name: getattr(derived, name) for name in ids})

    def _get_logits_processor(self, *args: Any, **kwargs: Any) -> LogitsProcessorList:
        """The library's; those that index logits see a column for the image id."""
        processors = super()._get_logits_processor(*args, **kwargs)
        num_columns = self.config.image_token_id + 1
        return LogitsProcessorList(
            _WithImageColumn(processor, num_columns) if isinstance(processor, _INDEXING) else processor
            for processor in processors
        )

    def _get_stopping_criteria(self, *args: Any, tokenizer: Any = None, **kwargs: Any) -> StoppingCriteriaList:
        """The library's; of a processor, which users and servers pass for `stop_strings`, the tokenizer."""
        if isinstance(tokenizer, ProcessorMixin):
            tokenizer = tokenizer.tokenizer
        return super()._get_stopping_criteria(*args, tokenizer=tokenizer, **kwargs)

    def _get_candidate_generator(self, *args: Any, **kwargs: Any) -> Any:
        """The library's, for prompt lookup and assistants; it neither needs a row for the image id nor proposes it."""
        generator = super()._get_candidate_generator(*args, **kwargs)
        config = self.config
        assistant = getattr(generator, "assistant_model", None)
        if assistant is None or not hasattr(assistant.config, "image_token_id"):
            # Any known id may stand in, for what is proposed is checked. The end of text also ends a proposal.
            known = self.generation_config.eos_token_id or 0
            stand_in = known[0] if isinstance(known, list) else known
        else:
            stand_in = config.image_token_id
        propose = generator.get_candidates

        def propose_text(input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, Any]:
            is_image = input_ids == config.image_token_id
            candidates, logits = propose(input_ids.masked_fill(is_image, stand_in), *args, **kwargs)
            return _before_image(input_ids, candidates, logits, config.image_token_id)

        generator.get_candidates = propose_text
        return generator

    def _prefill(
        self, input_ids: torch.Tensor, generation_config: Any, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        """The library's; of images that were all given again with a later turn, those in the cache are left out."""
        encoded = model_kwargs.get("mm_encoder_outputs") or {}
        if encoded.get("image") is not None and model_kwargs.get("past_key_values") is not None:
            mask = model_kwargs.get("attention_mask")
            length = getattr(generation_config, "_mask_length", -1) if mask is None else mask.shape[-1]
            if length == input_ids.shape[1]:  # the ids of all turns: those in the cache will be sliced off
                num_cached = int(model_kwargs["past_key_values"].get_seq_length())
                images = _uncached(encoded["image"], input_ids == self.config.image_token_id, num_cached)
                model_kwargs["mm_encoder_outputs"] = {**encoded, "image": images}
        return super()._prefill(input_ids, generation_config, model_kwargs, *args, **kwargs)


class _WithImageColumn(LogitsProcessor):
    """
    Gives a processor logits with as many columns as there are ids, and takes the added ones off again.

    With 3 logits and the image at id 3, `[0.1, 0.2, 0.3]` is shown as `[0.1, 0.2, 0.3, -inf]`.
    """

    def __init__(self, processor: LogitsProcessor, num_columns: int) -> None:
        self.processor = processor
        self.num_columns = num_columns
        self.supports_continuous_batching = getattr(processor, "supports_continuous_batching", False)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        vocab_size = scores.shape[-1]
        added = max(0, self.num_columns - vocab_size)
        padded = torch.nn.functional.pad(scores, (0, added), value=-torch.inf)
        return self.processor(input_ids, padded)[..., :vocab_size]


def _before_image(
    input_ids: torch.Tensor, candidates: torch.Tensor, logits: torch.Tensor | None, image_token_id: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The proposed ids behind `input_ids` `(1, sequence_length)` up to the first image id."""
    proposed = candidates[:, input_ids.shape[1] :].to(input_ids.device)
    places = (proposed[0] == image_token_id).nonzero()
    if len(places):
        num_kept = int(places[0])
        proposed = proposed[:, :num_kept]
        logits = None if logits is None or num_kept == 0 else logits[:, :num_kept]
    return torch.cat([input_ids, proposed], dim=1), logits


def _uncached(
    images: BaseModelOutputWithPooling, is_image: torch.Tensor, num_cached: int
) -> BaseModelOutputWithPooling | None:
    """
    Features of the positions behind the first `num_cached` ones, or `images` if they are not those of all positions.

    Args:
        images: Output of `get_image_features`.
        is_image (`torch.Tensor` of shape `(batch_size, sequence_length)`): Of the ids of all turns.
    """
    features = torch.cat(list(images.pooler_output))  # (num_features, hidden_size), in the order of their positions
    if num_cached == 0 or features.shape[0] != int(is_image.sum()):
        return images
    is_new = (torch.arange(is_image.shape[1], device=is_image.device) >= num_cached).expand_as(is_image)[is_image]
    if not is_new.any():
        return None
    kept = features[is_new.to(features.device)]
    return BaseModelOutputWithPooling(last_hidden_state=images.last_hidden_state, pooler_output=[kept])


__all__ = ["OpenLlavaGenerationMixin"]
