"""Make a processor whose tokens are bytes, and an image to look at."""

import numpy as np
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from transformers_llava import OpenLlavaConfig, OpenLlavaProcessor
from transformers_llava.chat_templates import load_chat_template


IMAGE_TOKEN_ID = 260  # the first id behind four special tokens and 256 bytes
VOCABULARY = 320  # rows of the embedding table: more than ids, in a multiple of 64


def make_processor(config: OpenLlavaConfig) -> OpenLlavaProcessor:
    """CLIP's preprocessing, `vicuna_v1`, and one token for each byte, so that nothing has to be downloaded."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<unk>", "<s>", "</s>", "<pad>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    return OpenLlavaProcessor.from_model_config(config, fast, chat_template=load_chat_template("vicuna_v1"))


def make_image(width: int = 640, height: int = 480, *, seed: int = 0) -> Image.Image:
    """Coloured noise at a few scales."""
    generator = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height))
    for scale, share in ((64, 1.0), (8, 0.25), (2, 0.25)):
        noise = generator.integers(0, 256, (height // scale + 1, width // scale + 1, 3), dtype=np.uint8)
        layer = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        image = Image.blend(image, layer, share)
    return image


__all__ = ["IMAGE_TOKEN_ID", "VOCABULARY", "make_image", "make_processor"]
