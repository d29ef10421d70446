"""The name under which `llava train` tells the training it launches what a person has typed."""

COMMAND_VARIABLE = "TRANSFORMERS_LLAVA_COMMAND"

__all__ = ["COMMAND_VARIABLE"]
