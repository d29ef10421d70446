"""Name the line of a step that waits for a value of the device, which a trace does not have."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from transformers_llava.training.recipe.recipe_error import RecipeError


_TRACING = __name__.rpartition(".")[0]  # its modes stand between the line and the operator


@contextmanager
def refuse_reads() -> Iterator[None]:
    """
    Raises:
        `RecipeError`: something in the block reads a value, or makes a tensor whose shape depends on one.
    """
    try:
        yield
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise RecipeError(
            f"the step of this recipe waits for the device: {_reading_line(error)} needs a value ({error.func}). A "
            "GPU would stand still there in every step, and a trace has no values, so nothing was planned. Keep it a "
            "tensor, or read it where the trainer logs."
        ) from error


def _reading_line(error: Exception) -> str:
    """The innermost line that is neither torch's nor of the tracing itself."""
    found = "a line of torch"
    for frame, number in traceback.walk_tb(error.__traceback__):
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in ("torch", "contextlib") and not module.startswith(_TRACING + "."):
            code = frame.f_code
            (entry,) = traceback.StackSummary.extract([(frame, number)])
            found = f"{code.co_filename}:{number} in {code.co_qualname} ({entry.line})"
    return found


__all__ = ["refuse_reads"]
