"""Register `open_llava` with transformers' Auto classes; nothing built in is touched, and twice is once."""

import transformers
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
)
from transformers.models.auto import modeling_auto
from transformers.utils import is_torchvision_available

from transformers_llava.conversion.auto_classes import register_formats
from transformers_llava.modeling.configuration_open_llava import OpenLlavaConfig
from transformers_llava.modeling.image_processing_pil_open_llava import OpenLlavaImageProcessorPil
from transformers_llava.modeling.modeling_open_llava import OpenLlavaForConditionalGeneration, OpenLlavaModel
from transformers_llava.modeling.packs.varlen_attention import register_varlen_attention
from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor


OpenLlavaImageProcessor: type = OpenLlavaImageProcessorPil
if is_torchvision_available():
    from transformers_llava.modeling.image_processing_open_llava import OpenLlavaImageProcessor


def register() -> None:
    """Registers configuration, models and processors. Called once by `import transformers_llava`; idempotent."""
    model_type = OpenLlavaConfig.model_type
    AutoConfig.register(model_type, OpenLlavaConfig, exist_ok=True)
    AutoModel.register(OpenLlavaConfig, OpenLlavaModel, exist_ok=True)
    for auto_class in (AutoModelForImageTextToText, AutoModelForMultimodalLM):
        auto_class.register(OpenLlavaConfig, OpenLlavaForConditionalGeneration, exist_ok=True)
    image_processors: dict[str, type] = {"pil": OpenLlavaImageProcessorPil}
    if is_torchvision_available():
        image_processors["torchvision"] = OpenLlavaImageProcessor
    AutoImageProcessor.register(OpenLlavaConfig, image_processor_classes=image_processors, exist_ok=True)
    AutoProcessor.register(OpenLlavaConfig, OpenLlavaProcessor, exist_ok=True)
    register_varlen_attention()
    register_formats()  # original and llava-hf checkpoints
    # `transformers serve` and the any-to-any pipeline look at names only, and vLLM asks the package for the class.
    name = OpenLlavaForConditionalGeneration.__name__
    modeling_auto.MODEL_MAPPING_NAMES[model_type] = OpenLlavaModel.__name__
    modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[model_type] = name
    modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES[model_type] = name
    setattr(transformers, name, OpenLlavaForConditionalGeneration)


__all__ = ["OpenLlavaImageProcessor", "register"]
