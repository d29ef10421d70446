"""LLaVA, native to today's Hugging Face stack. Importing this registers `open_llava` with the Auto classes."""

from transformers_llava.conversion.auto_classes import override_builtin_classes
from transformers_llava.modeling.configuration_open_llava import OpenLlavaConfig
from transformers_llava.modeling.modeling_open_llava import OpenLlavaForConditionalGeneration, OpenLlavaModel
from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor
from transformers_llava.registration import OpenLlavaImageProcessor, register


__version__ = "0.1.0.dev0"

register()

__all__ = [
    "OpenLlavaConfig",
    "OpenLlavaForConditionalGeneration",
    "OpenLlavaImageProcessor",
    "OpenLlavaModel",
    "OpenLlavaProcessor",
    "__version__",
    "register",
    "override_builtin_classes",
]
