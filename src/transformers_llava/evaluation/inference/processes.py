"""Know which of several processes of accelerate this is, and let them wait for each other."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta


# Processes wait for the one with the longest answers; the default of ten minutes would end an evaluation.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Processes:
    """
    Args:
        rank (`int`): Of this process.
        count (`int`): Of all.
        local_rank (`int`): Of this process on its machine, which picks the GPU.
        wait (`Callable`): Returns when all have called it.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    wait: Callable[[], None] = lambda: None

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def this_process(*, on_cpu: bool) -> Processes:
    """
    The process as `accelerate launch` or `torchrun` started it; alone if neither did.

    Args:
        on_cpu (`bool`): Wait by gloo, without a GPU.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    from accelerate import PartialState

    state = PartialState(cpu=on_cpu, timeout=_PATIENCE)
    return Processes(state.process_index, state.num_processes, state.local_process_index, state.wait_for_everyone)


__all__ = ["Processes", "this_process"]
