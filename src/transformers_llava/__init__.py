"""Provide LLaVA, native to today's Hugging Face stack. Importing this registers `open_llava` with the Auto classes.

The command `llava` is the one exception: it starts in `transformers_llava_cli`, and imports torch and transformers
when it is asked for something that needs them. The names below then come, and register, when they are first used.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from transformers_llava.conversion.auto_classes import override_builtin_classes
    from transformers_llava.modeling.configuration_open_llava import OpenLlavaConfig
    from transformers_llava.modeling.modeling_open_llava import OpenLlavaForConditionalGeneration, OpenLlavaModel
    from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor
    from transformers_llava.registration import OpenLlavaImageProcessor, register


__version__ = "0.1.0.dev0"

_PLACES = {
    "OpenLlavaConfig": "modeling.configuration_open_llava",
    "OpenLlavaForConditionalGeneration": "modeling.modeling_open_llava",
    "OpenLlavaImageProcessor": "registration",
    "OpenLlavaModel": "modeling.modeling_open_llava",
    "OpenLlavaProcessor": "modeling.processing_open_llava",
    "register": "registration",
    "override_builtin_classes": "conversion.auto_classes",
}


def _import_all() -> None:
    for name, module in _PLACES.items():
        globals()[name] = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()["register"]()


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _import_all()
    return globals()[name]


if "transformers_llava_cli" not in sys.modules:
    _import_all()

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
