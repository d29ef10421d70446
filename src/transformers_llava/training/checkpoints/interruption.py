"""Turn a signal into a checkpoint and a clean end: schedulers send one before they take a machine away."""

import logging
import signal
import threading
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


logger = logging.getLogger(__name__)

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Interruption(TrainerCallback):
    """
    On SIGTERM or SIGUSR1 the current optimizer step is finished, a checkpoint is written, and training ends.

    The processes of a run get a signal at different moments, so after every step they agree, by one number over the
    network and outside of the accelerators: all stop after the same step.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._stops = False
        self._handlers: dict[int, Any] = {}
        self._group: Any = None

    @property
    def stopped(self) -> bool:
        """Whether training ended before its time."""
        return self._stops

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread hear signals
            self._handlers = {number: signal.signal(number, self._receive) for number in SIGNALS}
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            self._group = torch.distributed.new_group(backend="gloo")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._anybody_received() and state.global_step < state.max_steps:
            self._stops = control.should_save = control.should_training_stop = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._stops:
            logger.warning("stopped by a signal after step %s; `--resume` resumes from there", state.global_step)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number

    def _anybody_received(self) -> bool:
        if self._group is None:
            return self.received is not None
        flag = torch.tensor([int(self.received is not None)])
        torch.distributed.all_reduce(flag, group=self._group)
        return bool(flag.item())


__all__ = ["Interruption", "SIGNALS"]
