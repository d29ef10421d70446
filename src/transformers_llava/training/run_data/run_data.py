"""Say what a run asks of its data, stored or streamed, and read the kind that the recipe wants."""

from pathlib import Path
from typing import Any, Protocol

from transformers_llava.data.batches.collators import PackedCollator, PaddedCollator, RejectRecord
from transformers_llava.modeling.processing_open_llava import OpenLlavaProcessor
from transformers_llava.training.agreement import Agreement
from transformers_llava.training.recipe.resolve import ResolvedRecipe
from transformers_llava.training.run_data.stored_data import read_stored_data
from transformers_llava.training.run_data.streamed_data import StreamedData
from transformers_llava.training.trainer import LlavaTrainer


class RunData(Protocol):
    """What a run reads, in the order in which the run asks for it."""

    @property
    def lock(self) -> dict[str, Any] | None:
        """Facts of the mixture for the run record; `None` where they are not known before the run."""

    @property
    def on_error(self) -> RejectRecord | None:
        """Told by the collator what it cannot encode; `None` where the error ends the run."""

    def check(self, agreement: Agreement, checkpoint: str | None) -> None:
        """
        Refuse data that are not the same for all processes, or not those of the checkpoint that is resumed.

        Raises:
            `RecipeError`: with what differs.
        """

    def to_dict(self) -> dict[str, Any]:
        """What `run.json` says about the data; of a stream what it says so far."""

    def make_trainer(self, collator: PackedCollator | PaddedCollator, **arguments: Any) -> LlavaTrainer:
        """The trainer that reads these data; `arguments` are those of [`LlavaTrainer`] that do not depend on them."""

    def report_left_out(self) -> None:
        """Log what was left out while training."""

    def write(self, folder: Path) -> None:
        """Write what lies beside the checkpoint: the table of the mixture, and its lock."""


def read_data(resolved: ResolvedRecipe, processor: OpenLlavaProcessor) -> RunData:
    """
    The data of a recipe; the processor gets the recipe's chat template.

    Raises:
        `RecipeError`: the data fields make no sense.
        `RecordError`: with `strict`, the first record that cannot be used.
    """
    if resolved.recipe.data.streaming:
        return StreamedData(resolved, processor)
    return read_stored_data(resolved, processor)


__all__ = ["RunData", "read_data"]
