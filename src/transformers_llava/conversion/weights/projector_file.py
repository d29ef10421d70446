"""Join a stage-1 folder with only `mm_projector.bin` to a language model, and cut the projector out again."""

from pathlib import Path

import torch

from transformers_llava.conversion.weights.key_names import WeightMapping, projector_rows
from transformers_llava.conversion.weights.lazy_tensors import LazyTensor, State, fit_rows
from transformers_llava.conversion.weights.tensor_files import open_file


PROJECTOR_FILE = "mm_projector.bin"
_EMBEDDINGS = "model.embed_tokens.weight"


def is_projector_folder(folder: str | Path) -> bool:
    """Whether a folder holds a projector and no model; its files tell, not its name."""
    folder = Path(folder)
    has_weights = any(folder.glob("pytorch_model*.bin*")) or any(folder.glob("model*.safetensors*"))
    return (folder / PROJECTOR_FILE).is_file() and not has_weights


def join_projector(state: State, folder: str | Path, num_tokens: int | None = None) -> State:
    """
    A language model's weights with the projector of a stage-1 folder.

    With `mm_use_im_start_end` the file also holds embeddings: the whole table, or only the rows of the added tokens,
    which are then the last ones.

    Args:
        state (`State`): The language model, under the original's names; not changed.
        folder (`str`): Holds `mm_projector.bin`.
        num_tokens (`int`, *optional*): Length of the tokenizer with the added tokens.
    """
    added = open_file(Path(folder) / PROJECTOR_FILE)
    joined = dict(state)
    rows = added.pop(_EMBEDDINGS, None)
    unknown = [key for key in added if ".mm_projector." not in key]
    if unknown or not added:
        raise ValueError(
            f"{Path(folder) / PROJECTOR_FILE} holds {unknown[:3] or 'nothing'}, not only a projector "
            "(model.mm_projector.*), so its weights have no known place. Give the folder that the original's stage 1 "
            "wrote."
        )
    joined.update(added)
    if rows is not None:
        joined[_EMBEDDINGS] = _replace_last(state[_EMBEDDINGS], rows, num_tokens)
    return joined


def projector_tensors(state: State, projector_type: str, *, original_names: bool) -> dict[str, torch.Tensor]:
    """
    Only the projector of a checkpoint, read.

    Args:
        state (`State`): A checkpoint under our names.
        projector_type (`str`): From its configuration.
        original_names (`bool`): `model.mm_projector.*`, as in the original's `mm_projector.bin`, or ours.
    """
    ours = {key: value for key, value in state.items() if key.startswith("model.multi_modal_projector.")}
    if not ours:
        raise ValueError(
            f"The checkpoint has no projector weights (projector_type={projector_type!r}), so there is nothing to "
            "extract."
        )
    if not original_names:
        return {key: value.read().contiguous() for key, value in ours.items()}
    mapping = WeightMapping("projector", projector_rows(projector_type))
    return {f"model.mm_projector.{mapping.from_ours(key)}": value.read().clone() for key, value in ours.items()}


def _replace_last(table: LazyTensor, rows: LazyTensor, num_tokens: int | None) -> LazyTensor:
    """A table of `num_tokens` rows that ends with `rows`."""
    num_kept = (num_tokens or table.shape[0] + rows.shape[0]) - rows.shape[0]
    if num_kept <= 0:
        return rows
    kept = fit_rows(table, num_kept)
    shape = (num_kept + rows.shape[0], table.shape[1])
    return kept.map(lambda have: torch.cat([have, rows.read().to(have.dtype)]), shape)


__all__ = ["PROJECTOR_FILE", "is_projector_folder", "join_projector", "projector_tensors"]
