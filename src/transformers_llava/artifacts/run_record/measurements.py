"""Describe what was counted and measured during a stage: examples, machine, progress, trained components."""

from dataclasses import dataclass, field

from transformers_llava.artifacts.run_record.recorded import Recorded, list_of


@dataclass(frozen=True)
class CountedSource(Recorded):
    """
    How much of one source was trained on.

    Args:
        name (`str`): Of the source in the mixture.
        num_used (`int`, *optional*): Examples that were trained on.
        num_images (`int`, *optional*): Distinct images of the source.
        proportion (`float`, *optional*): `num_used` as a share of all examples of the stage, from 0 to 1.
        digest (`str`, *optional*): Of its kept records, whatever their order, folder or format.
    """

    name: str
    num_used: int | None = None
    num_images: int | None = None
    proportion: float | None = None
    digest: str | None = None


@dataclass(frozen=True)
class DataCounts(Recorded):
    """
    How many records of a stage were trained on and how many were left out.

    The data report has more fields (`lengths`, the reasons of dropped records); `to_dict()` has them all.

    Args:
        sources (`tuple[CountedSource]`): The same per source of the mixture.
        num_used, num_dropped (`int`, *optional*): Records that were trained on, and that were left out.
        streaming (`bool`): Whether the data were streamed, so that records were counted while training ran.
        order_digest (`str`, *optional*): Of all examples in the order of the data set.
    """

    sources: tuple[CountedSource, ...] = field(default=(), metadata=list_of(CountedSource))
    num_used: int | None = None
    num_dropped: int | None = None
    streaming: bool = False
    order_digest: str | None = None


@dataclass(frozen=True)
class Hardware(Recorded):
    """
    What kind of machine a stage ran on; nothing that identifies the machine.

    Args:
        device (`str`, *optional*): Name of the GPU, or `cpu`.
        world_size (`int`, *optional*, defaults to 1): Number of training processes.
        cpu_threads (`int`, *optional*): Threads of torch in one process.
    """

    device: str | None = None
    world_size: int = 1
    cpu_threads: int | None = None


@dataclass(frozen=True)
class Progress(Recorded):
    """
    How far a stage has come.

    Args:
        global_step, max_steps (`int`, *optional*): Optimizer steps done, and planned.
        epoch (`float`, *optional*): Passes over the data.
        num_tokens (`int`, *optional*): Tokens trained on.
        seconds (`float`, *optional*): Of training.
        peak_memory_gb (`float`, *optional*): In 10^9 bytes: of the GPU if there is one, else of the process.
    """

    global_step: int | None = None
    max_steps: int | None = None
    epoch: float | None = None
    num_tokens: int | None = None
    seconds: float | None = None
    peak_memory_gb: float | None = None


@dataclass(frozen=True)
class TrainedComponent(Recorded):
    """
    How many parameters a component of the model has, and how many of them were trained.

    Args:
        component (`str`): Such as `language_model`.
        mode (`str`): As in the recipe: `full`, `lora` or `frozen`.
        parameters (`int`): All of them.
        trainable (`int`): Those that the optimizer updated.
    """

    component: str
    mode: str = ""
    parameters: int = 0
    trainable: int = 0


__all__ = ["CountedSource", "DataCounts", "Hardware", "Progress", "TrainedComponent"]
