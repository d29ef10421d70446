"""Hold the record of a run: its training stages in order, each with its inputs, its settings and its results."""

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
        schema_version (`int`): Version of the format of `run.json`.
        stage (`str`, *optional*): The `stage` field of the recipe, such as `align`; see also `name`.
        recipe (`Mapping`): The fields of the recipe that the user set, in the file or by flags.
        configuration (`Mapping`): All fields of the recipe, defaults included.
        components (`tuple[TrainedComponent]`): Total and trained parameters of each component.
        data (`DataCounts`): How many records were used and dropped.
        seed (`int`, *optional*): Seed of all random choices.
        versions (`Mapping`): Package -> version, of those that can change the weights.
        hardware (`Hardware`): The kind of machine.
        progress (`Progress`): Steps, tokens and seconds so far.
        loss_history (`list[Mapping]`): What the trainer logged, one mapping per logged step; see also `losses`.
        weights (`Mapping`): Weight file -> SHA-256.
        weights_sha256 (`str`, *optional*): One digest for all weight files, see `artifacts.digests.file_digests`.
        tensors (`Mapping`): Tensor -> SHA-256, which does not depend on how tensors are spread over files.
        command (`str`, *optional*): The command line.
        base_models (`tuple[BaseModel]`): The models that the stage started from.
        mixture (`Mixture`, *optional*): The content of `train_data`, read from the mixture file if it names one.
        mixture_lock (`dict`, *optional*): The lock of the mixture, a document of `data.mixture.lock`; `None` if the
            data were streamed.
        chat_template (`str`, *optional*): The text of a chat template that is not packaged.
        environment (`Mapping`): Package -> version, of all that were installed.
        number (`int`, *optional*, defaults to 1): Position in the run, from 1. Not in JSON: `RunRecord` numbers them.
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
        Number and stage, such as `1_align`; safe as a part of a path even if the record came from the Hub.

        Raises:
            `RunRecordError`: `stage` cannot be part of a path.
        """
        try:
            return f"{self.number}_{checked_name(self.stage or 'train', 'the name of a stage')}"
        except DocumentError as error:
            raise RunRecordError(str(error)) from error

    def is_previous_output(self, base: BaseModel) -> bool:
        """Whether `base` is the output of the previous stage, the only checkpoint that a later stage starts from."""
        return base.role == "checkpoint" and self.number > 1

    @property
    def own_bases(self) -> list[BaseModel]:
        """The base models without the output of the previous stage."""
        return [base for base in self.base_models if not self.is_previous_output(base)]

    @property
    def sources(self) -> tuple[MixtureSource, ...]:
        """The sources of the mixture; none if no mixture is recorded."""
        return () if self.mixture is None else self.mixture.sources

    @property
    def proportions_of_tokens(self) -> dict[str, float | None]:
        """Name of a source -> its share of all tokens, from 0 to 1; `None` if the lock does not state it."""
        sources = (self.mixture_lock or {}).get("sources", ())
        return {source["name"]: source.get("proportion_of_tokens") for source in sources}

    @property
    def losses(self) -> list[tuple[int, float | None]]:
        """(step, loss) of every logged step that has a loss; `None` for one that was not finite."""
        return [(entry["step"], entry["loss"]) for entry in self.loss_history if "loss" in entry]


@dataclass(frozen=True)
class RunRecord:
    """
    All stages that led to a checkpoint, in order. `own` is the last one, whose training wrote this record; the others
    were read from the `run.json` of the checkpoint that it started from.

    Contract: nothing in `run.json` names a user, a machine or an absolute path (`write_run_record` shortens them), so
    it can be published with its weights, and equal runs on two machines record equal settings.

    Args:
        stages (`tuple[Stage]`): At least one, numbered from 1.
        sha256 (`str`, *optional*): SHA-256 of the `run.json` that it was read from by `read_checked_record`.
    """

    stages: tuple[Stage, ...]
    sha256: str | None = field(default=None, compare=False)

    @property
    def own(self) -> Stage:
        """The last stage, which wrote this record."""
        return self.stages[-1]

    @property
    def previous(self) -> tuple[Stage, ...]:
        """All stages but the last."""
        return self.stages[:-1]

    def before(self, stage: Stage) -> Stage:
        """The stage that ran before `stage`, which must not be the first."""
        assert stage.number > 1, "there is none before the first"
        return self.stages[stage.number - 2]

    def with_own(self, **changes: Any) -> Self:
        """A copy of the record with fields of its last stage replaced."""
        return replace(self, stages=(*self.previous, replace(self.own, **changes)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """
        Build the record of a parsed `run.json`, in which the last stage holds the earlier ones as `previous`.

        Raises:
            `RunRecordError`: `values` does not have the form of a record.
        """
        before = values.get("previous") or []
        if not isinstance(before, list):
            raise RunRecordError("`previous` of the run record is no list of stages.")
        own = {name: value for name, value in values.items() if name != "previous"}
        stages = [Stage.from_dict(one) for one in (*before, own)]
        return cls(tuple(replace(stage, number=number) for number, stage in enumerate(stages, start=1)))

    def to_dict(self) -> dict[str, Any]:
        """The JSON object: the fields of the last stage, and the earlier stages as `previous`."""
        return {**self.own.to_dict(), "previous": [stage.to_dict() for stage in self.previous]}


__all__ = ["SCHEMA_VERSION", "RunRecord", "Stage"]
