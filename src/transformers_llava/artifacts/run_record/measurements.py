"""Describe what was counted and measured during a stage: data, machine, progress, trained components."""

from dataclasses import dataclass, field

from transformers_llava.artifacts.run_record.recorded import Recorded, list_of


@dataclass(frozen=True)
class CountedSource(Recorded):
    """How much of one source was trained on; `proportion` is of the examples, from 0 to 1."""

    name: str
    num_used: int | None = None
    num_images: int | None = None
    proportion: float | None = None
    digest: str | None = None


@dataclass(frozen=True)
class DataCounts(Recorded):
    """
    What became of the data of a stage. All that a data report says (`lengths`, reasons) is in `to_dict()`.

    Args:
        sources (`tuple[CountedSource]`): One by one.
        num_used, num_dropped (`int`, *optional*): Records that were trained on, and that were left out.
        streaming (`bool`): They were read as a stream, and counted as they came.
        order_digest (`str`, *optional*): Of the examples in their order.
    """

    sources: tuple[CountedSource, ...] = field(default=(), metadata=list_of(CountedSource))
    num_used: int | None = None
    num_dropped: int | None = None
    streaming: bool = False
    order_digest: str | None = None


@dataclass(frozen=True)
class Hardware(Recorded):
    """What kind of machine it was; not which."""

    device: str | None = None
    world_size: int = 1
    cpu_threads: int | None = None


@dataclass(frozen=True)
class Progress(Recorded):
    """How far the stage has come, in how many seconds, and with how much memory (10^9 bytes)."""

    global_step: int | None = None
    max_steps: int | None = None
    epoch: float | None = None
    num_tokens: int | None = None
    seconds: float | None = None
    peak_memory_gb: float | None = None


@dataclass(frozen=True)
class TrainedComponent(Recorded):
    """How many parameters a component has, and how many of them were trained in which mode."""

    component: str
    mode: str = ""
    parameters: int = 0
    trainable: int = 0


__all__ = ["CountedSource", "DataCounts", "Hardware", "Progress", "TrainedComponent"]
