"""Learn a small byte-level tokenizer from texts, and save it the way `AutoTokenizer` reads it."""

from collections.abc import Iterable
from pathlib import Path

from transformers import PreTrainedTokenizerFast


BOS_TOKEN, EOS_TOKEN, PAD_TOKEN = "<s>", "</s>", "<pad>"


def make_tokenizer(texts: Iterable[str], folder: Path, *, vocab_size: int = 1000) -> PreTrainedTokenizerFast:
    """
    Learns a byte-level BPE vocabulary from `texts` and saves the tokenizer into `folder`.

    Byte level means that any text can be written, whatever the vocabulary was learned from. Two things are left out
    on purpose: the tokenizer adds no BOS and no EOS (the chat template writes both), and it has no `<image>` row (the
    processor adds that marker outside the vocabulary). It pads on the left, for whoever generates in batches; training
    pads its own rows.

    Args:
        texts (`Iterable[str]`): What to learn from. The same texts give the same tokenizer.
        folder (`Path`): Where `tokenizer.json` and `tokenizer_config.json` go.
        vocab_size (`int`, *optional*, defaults to 1000): The most tokens there may be, the 256 bytes included.

    Example:

        >>> import tempfile
        >>> tokenizer = make_tokenizer(["a red circle"], Path(tempfile.mkdtemp()))
        >>> tokenizer.decode(tokenizer("a red circle").input_ids)
        'a red circle'
    """
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    special_tokens = [AddedToken(token, special=True, normalized=False) for token in (BOS_TOKEN, EOS_TOKEN, PAD_TOKEN)]
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special_tokens,
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast_tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS_TOKEN,
        eos_token=EOS_TOKEN,
        pad_token=PAD_TOKEN,
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    fast_tokenizer.save_pretrained(folder)
    return fast_tokenizer


__all__ = ["BOS_TOKEN", "EOS_TOKEN", "PAD_TOKEN", "make_tokenizer"]
