"""Hold the record of a run: its stages, the first one first, each with what it was made of and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from transformers_llava.artifacts.run_record.base_model import BaseModel
from transformers_llava.artifacts.run_record.measurements import DataCounts, Hardware, Progress, TrainedComponent
from transformers_llava.artifacts.run_record.mixture_sources import Mixture, MixtureSource
from transformers_llava.artifacts.run_record.recorded import (
    NOT_RECORDED,
    Recorded,
    RunRecordError,
    list_of,
    object_of,
)
from transformers_llava.artifacts.untrusted import DocumentError, checked_name


SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Stage(Recorded):
    """
    One stage of training.

    Args:
        stage (`str`, *optional*): What the recipe calls it.
        recipe (`Mapping`): What the user wrote; names and values are those of a recipe.
        configuration (`Mapping`): Every field of the recipe as it was in force.
        components (`tuple[TrainedComponent]`): What was trained of which.
        data (`DataCounts`): What became of the records.
        seed (`int`, *optional*): Of all random choices.
        versions (`Mapping`): Packages with a part in the result -> version.
        hardware (`Hardware`): What kind of machine it was.
        progress (`Progress`): How far it has come.
        loss_history (`Sequence[Mapping]`): What was logged, step by step; `losses` gives its losses.
        weights (`Mapping`): Weight file -> SHA-256.
        weights_sha256 (`str`, *optional*): One digest for them, see `artifacts.digests`.
        tensors (`Mapping`): Tensor -> SHA-256; the same in another layout or sharding.
        command (`str`, *optional*): The line that a user typed.
        base_models (`tuple[BaseModel]`): What it started from.
        mixture (`Mixture`, *optional*): What `train_data` named, as a mixture file has it.
        mixture_lock (`dict`, *optional*): The lock of the mixture, a document of `data.mixture.lock`; none of a
            stream.
        chat_template (`str`, *optional*): The text of a template that came from a file of the user's own.
        environment (`Mapping`): Every installed package -> version.
        number (`int`): Its place in the run, from 1; of a single stage 1.
    """

    schema_version: int = SCHEMA_VERSION
    stage: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    configuration: Mapping[str, Any] = field(default_factory=dict)
    components: tuple[TrainedComponent, ...] = field(default=(), metadata=list_of(TrainedComponent))
    data: DataCounts = field(default=DataCounts(), metadata=object_of(DataCounts))
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Hardware = field(default=Hardware(), metadata=object_of(Hardware))
    progress: Progress = field(default=Progress(), metadata=object_of(Progress))
    loss_history: list[Mapping[str, Any]] = field(default_factory=list)
    weights: Mapping[str, str] = field(default_factory=dict)
    weights_sha256: str | None = None
    tensors: Mapping[str, str] = field(default_factory=dict)
    command: str | None = None
    base_models: tuple[BaseModel, ...] = field(default=(), metadata=list_of(BaseModel))
    mixture: Mixture | None = field(default=None, metadata=object_of(Mixture))
    mixture_lock: dict[str, Any] | None = None
    chat_template: str | None = None
    environment: Mapping[str, str | None] = field(default_factory=dict)
    number: int = field(default=1, compare=False, metadata=NOT_RECORDED)

    @property
    def name(self) -> str:
        """
        Such as `1_align`; safe as a part of a path, whoever wrote the record.

        Raises:
            `RunRecordError`: what the recipe calls it cannot be part of a path.
        """
        try:
            return f"{self.number}_{checked_name(self.stage or 'train', 'the name of a stage')}"
        except DocumentError as error:
            raise RunRecordError(str(error)) from error

    def is_previous_output(self, base: BaseModel) -> bool:
        """Whether a base model of this stage is what the stage before has written."""
        return base.role == "checkpoint" and self.number > 1

    @property
    def own_bases(self) -> list[BaseModel]:
        """The base models but for the output of the stage before."""
        return [base for base in self.base_models if not self.is_previous_output(base)]

    @property
    def sources(self) -> tuple[MixtureSource, ...]:
        """Of the mixture."""
        return () if self.mixture is None else self.mixture.sources

    @property
    def proportions_of_tokens(self) -> dict[str, float | None]:
        """Source -> its share of the tokens, from 0 to 1, as far as the lock has counted them."""
        sources = (self.mixture_lock or {}).get("sources", ())
        return {source["name"]: source.get("proportion_of_tokens") for source in sources}

    @property
    def losses(self) -> list[tuple[int, float | None]]:
        """(step, loss) of every logged step that has a loss; `None` for one that was not finite."""
        return [(entry["step"], entry["loss"]) for entry in self.loss_history if "loss" in entry]


@dataclass(frozen=True)
class RunRecord:
    """
    The stages of a run, the first one first; the last one is the run's own, the others it found recorded.

    Contract: nothing in `run.json` names a machine, a user or a path of this machine (`write_run_record` cuts them),
    so that it can be published with the weights it belongs to, and two machines that do the same write the same
    settings.

    Args:
        stages (`tuple[Stage]`): At least one.
        sha256 (`str`, *optional*): Of the bytes of the file that it was read from.
    """

    stages: tuple[Stage, ...]
    sha256: str | None = field(default=None, compare=False)

    @property
    def own(self) -> Stage:
        """The last stage."""
        return self.stages[-1]

    @property
    def previous(self) -> tuple[Stage, ...]:
        """The stages before."""
        return self.stages[:-1]

    def before(self, stage: Stage) -> Stage:
        """The stage before another one."""
        assert stage.number > 1, "there is none before the first"
        return self.stages[stage.number - 2]

    def with_own(self, **changes: Any) -> Self:
        """The same run with other fields of its last stage."""
        return replace(self, stages=(*self.previous, replace(self.own, **changes)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """
        The record that a JSON object stands for, such as one of an older version.

        Raises:
            `RunRecordError`: it does not have the form of a record.
        """
        before = values.get("previous") or []
        if not isinstance(before, list):
            raise RunRecordError("`previous` of the run record is no list of stages.")
        own = {name: value for name, value in values.items() if name != "previous"}
        stages = [Stage.from_dict(one) for one in (*before, own)]
        return cls(tuple(replace(stage, number=number) for number, stage in enumerate(stages, start=1)))

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**self.own.to_dict(), "previous": [stage.to_dict() for stage in self.previous]}


__all__ = ["SCHEMA_VERSION", "RunRecord", "Stage"]
