"""Name the environment variables by which one of our programs tells a training that it launches what it knows."""

COMMAND_VARIABLE = "TRANSFORMERS_LLAVA_COMMAND"  # `llava train`: the line that a user typed
REPLAY_VARIABLE = "TRANSFORMERS_LLAVA_REPLAY"  # `llava reproduce --replay`: other weights stand for what was frozen

__all__ = ["COMMAND_VARIABLE", "REPLAY_VARIABLE"]
