"""Extend `SFTTrainer` by a learning rate per component, exact optimizer steps, and a run record."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import rotate_checkpoints
from trl import SFTTrainer

from transformers_llava.artifacts.run_record.measurements import Hardware, Progress
from transformers_llava.artifacts.run_record.record_file import write_run_record
from transformers_llava.artifacts.run_record.run_stages import RunRecord
from transformers_llava.data.batches.collators import SUPERVISED_NAMES, PaddedCollator
from transformers_llava.data.batches.original_order import OriginalOrder
from transformers_llava.data.batches.samplers import PackedBatchSampler
from transformers_llava.data.tokens.counting import ExampleLength
from transformers_llava.training.checkpoints.atomic import (
    TRAINABLE_NAME,
    atomic_checkpoint,
    load_trainable_part,
    save_trainable_part,
)
from transformers_llava.training.checkpoints.interruption import Interruption
from transformers_llava.training.distributed import (
    backend_facts,
    check_backend,
    describe_backend,
    gathers_weights,
    unshard_output_embeddings,
    whole_weights,
)
from transformers_llava.training.environment import peak_memory_gb
from transformers_llava.training.model.gradient_checkpointing import limit_checkpointing
from transformers_llava.training.model.parameter_groups import build_parameter_groups
from transformers_llava.training.recipe.configs import ComponentConfig
from transformers_llava.training.telemetry import (
    LossWatch,
    Telemetry,
    TokenMetrics,
    are_finite,
    write_metrics,
)


logger = logging.getLogger(__name__)


class LlavaTrainer(SFTTrainer):
    """
    Trains on the samples that a batch sampler deals out, through TRL's own seams and without a patch.

    Args:
        components (`Mapping[str, ComponentConfig]`): Mode, learning rate and weight decay of each component.
        lengths (`Sequence[ExampleLength]`): Tokens, and whether there is an image, of every example of
            `train_dataset`.
        run_record (`RunRecord`, *optional*): Completed and written beside every checkpoint.
        num_rejected (`int`, *optional*, defaults to 0): Records that were left out, for the log.
        original_order (`Callable`, *optional*): Makes the sampler of a run that replicates the original's. Its losses
            are then averaged as there: over the tokens of a micro-batch, then over micro-batches and ranks.
        **kwargs: Of [`~trl.SFTTrainer`]; `data_collator` makes rows or packs of the samples it is given.
    """

    _tag_names = ["transformers-llava", "llava", "sft"]

    def __init__(
        self,
        *args: Any,
        components: Mapping[str, ComponentConfig],
        lengths: Sequence[ExampleLength],
        run_record: RunRecord | None = None,
        num_rejected: int = 0,
        original_order: Callable[[TrainingArguments], OriginalOrder] | None = None,
        **kwargs: Any,
    ) -> None:
        self.original_order = original_order
        self.components = components
        self.lengths = lengths
        self.run_record = run_record
        self.interruption = Interruption()
        self.num_checkpointed: int | None = None  # layers, where `partial_checkpointing` limits them
        self._folder_of_checkpoints: Path | None = None
        self._learning_rates: dict[str, float] = {}
        self._token_metrics = TokenMetrics()
        self._losses = LossWatch()
        self._started_at = time.perf_counter()
        self._epoch_of_sampler = _EpochOfSampler()
        super().__init__(*args, **kwargs)
        # It would read every loss to leave one that is not finite out of the mean, where this trainer raises.
        self.args.logging_nan_inf_filter = False
        if self.args.dataloader_pin_memory:
            self.accelerator.dataloader_config.non_blocking = True
        if original_order is not None:
            self.model_accepts_loss_kwargs = False  # type: ignore[has-type]
        check_backend(self.accelerator)
        with whole_weights(self.args.deepspeed_plugin):
            self.telemetry = Telemetry(
                self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model,
                {name: component.mode for name, component in self.components.items()},
                num_rejected=num_rejected,
            )
        self.add_callback(self._epoch_of_sampler)
        self.add_callback(_BackendReport(self))
        self.add_callback(self.interruption)
        # `Trainer` writes its own use_cache=False there, and it would be saved. TRL passes it to every forward anyway.
        vars(self.model.config).pop("use_cache", None)

    # Groups

    def get_optimizer_cls_and_kwargs(  # type: ignore[override]  # a static method there, called on the instance
        self, args: TrainingArguments, model: nn.Module | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """The optimizer of `args.optim`, with one group per component and decay under `params`."""
        optimizer_class, kwargs = super().get_optimizer_cls_and_kwargs(args, model)
        model = self.model if model is None else model
        kwargs["params"] = build_parameter_groups(
            model.named_parameters(),
            self.components,
            self.get_decay_parameter_names(model),
            args.learning_rate,
            args.weight_decay,
        )
        return optimizer_class, kwargs

    def _get_learning_rate(self) -> float:
        """Asked once per step, before the scheduler moves on: the moment to note the rate of every group."""
        self._learning_rates = {group["name"]: group["lr"] for group in self.optimizer.param_groups if "name" in group}
        return super()._get_learning_rate()

    # Steps

    def _get_train_sampler(self, train_dataset: Any = None) -> PackedBatchSampler | OriginalOrder:
        self._epoch_of_sampler.sampler = self._sampler()
        return self._epoch_of_sampler.sampler

    def _sampler(self) -> PackedBatchSampler | OriginalOrder:
        """The samples of a step depend on seed and epoch only; ranks and accumulation decide who gets which."""
        args = self.args
        if self.original_order is not None:
            return self.original_order(args)
        world_size = max(1, args.world_size)
        return PackedBatchSampler(
            [length.num_tokens for length in self.lengths],
            [length.has_image for length in self.lengths],
            global_batch_size=args.train_batch_size * args.gradient_accumulation_steps * world_size,
            world_size=world_size,
            accumulation_steps=args.gradient_accumulation_steps,
            rank=args.process_index if world_size > 1 else 0,
            seed=args.seed if args.data_seed is None else args.data_seed,
            padded=isinstance(self.data_collator, PaddedCollator),
        )

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        batches, num_items = super().get_batch_samples(*args, **kwargs)
        self.telemetry.count(batches)
        return batches, num_items

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """TRL's over the supervised positions, with an `lm_head` whose gradient FSDP2 reduces over the ranks."""
        unshard_output_embeddings(self.accelerator.unwrap_model(model))
        if self._is_fused(return_outputs):
            return self._fused_loss(model, inputs, num_items_in_batch)
        if self.label_smoother is not None or self.compute_loss_func is not None:  # type: ignore[has-type]
            # Both read the logits of every position.
            inputs = {name: value for name, value in inputs.items() if name not in SUPERVISED_NAMES}
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def _is_fused(self, return_outputs: bool) -> bool:
        """Whether the loss of a step is that of TRL's fused head and nothing else."""
        parallelism = self.accelerator.parallelism_config
        is_split = parallelism is not None and parallelism.sp_enabled  # the model's own loss, reduced over ranks
        function = self.compute_loss_func  # type: ignore[has-type]
        needs_logits = return_outputs or self.label_smoother is not None or function is not None
        return self.model.training and not needs_logits and not is_split

    def _fused_loss(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        """As in [`~trl.SFTTrainer.compute_loss`], which reads five values from the device for its metrics."""
        options = {"output_router_logits": True} if self.aux_loss_enabled else {}
        outputs = model(**inputs, **options, use_cache=False, fused_lm_head=True)
        per_token_loss = -outputs.log_probs  # (1, num_positions), zero on ignored ones
        if self.args.loss_type == "dft":
            per_token_loss = per_token_loss * outputs.log_probs.exp().detach()
        num_tokens = outputs.label_mask.sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        loss = per_token_loss.sum() / num_tokens.clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * (self.accelerator.num_processes // self.get_tp_size())  # DDP averages what is a sum here
        if self.aux_loss_enabled:
            steps = 1 if num_items_in_batch is None else self.current_gradient_accumulation_steps
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss / steps
        mask = inputs.get("attention_mask")
        self._token_metrics.add(outputs, inputs["input_ids"].numel() if mask is None else mask.sum())
        return loss

    def _prepare_input(self, data: Any) -> Any:
        """Copies from pinned memory without waiting for the copy."""
        if isinstance(data, torch.Tensor):
            data = data.to(self.args.device, non_blocking=self.args.dataloader_pin_memory)
        return super()._prepare_input(data)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self._losses.note(loss, self.state.global_step)
        return loss

    def _read_device(self) -> None:
        """
        Reads what the steps since the last time have left on the device. Collective.

        Raises:
            `FloatingPointError`: A loss was not finite, with the records of its step.
        """
        found = self._losses.read()
        if found is not None:
            step, loss = found
            raise FloatingPointError(
                f"the loss is {loss} in step {step + 1}; going on would make every weight NaN. The records of this "
                f"step: {', '.join(self._records_of_step(step))}. Look at them with `llava inspect data`, or use a "
                "lower learning rate, more warm-up, or bf16 in place of fp16."
            )
        figures = self._token_metrics.read(self.accelerator)
        if not figures:
            return
        self._total_train_tokens += sum(int(count) // self.get_tp_size() for count in figures.pop("num_tokens"))
        metrics = self._metrics["train"]  # TRL averages them when it logs
        metrics["num_tokens"] = [self._total_train_tokens]
        if not self.aux_loss_enabled:
            del figures["aux_loss"]
        for name, values in figures.items():
            metrics[name] += values

    def check_weights(self) -> None:
        """
        Looks at all that was trained, before it is saved: no loss comes after the last step to show it. Collective.

        Raises:
            `FloatingPointError`: On every process, if a weight is not finite on one of them.
        """
        trained = {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        found = are_finite(list(trained.values()), self.args.device)
        everywhere = self.accelerator.gather(found[None]).all(0).tolist()  # (num_tensors,)
        spoiled = [name for name, is_finite in zip(trained, everywhere, strict=True) if not is_finite]
        if spoiled:
            raise FloatingPointError(
                f"{len(spoiled)} of {len(trained)} trained tensors are not finite after step "
                f"{self.state.global_step}, such as {spoiled[0]!r}, so nothing was saved: the gradient of a step was "
                "infinite or NaN, though its loss was finite. Resume from the last checkpoint with a lower learning "
                "rate, more warm-up, or bf16 in place of fp16."
            )

    def _records_of_step(self, step: int | None = None) -> list[str]:
        """Names of the records that this process trains on in an optimizer step; by default in the current one."""
        sampler = self._sampler()
        epoch, step = divmod(self.state.global_step if step is None else step, sampler.num_global_batches)
        sampler.set_epoch(epoch)
        first = step * self.args.gradient_accumulation_steps
        packs = islice(sampler, first, first + self.args.gradient_accumulation_steps)
        rows = [self.train_dataset[index] for pack in packs for index in pack]
        return [f"{row['source']}/{row['id']}" for row in rows]

    # Record

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        self._read_device()
        if "loss" in logs:
            logs |= self.telemetry.read(self.accelerator)
            logs["peak_memory_gb"] = peak_memory_gb()
        if "learning_rate" in logs and len(self._learning_rates) > 1:
            logs |= {f"learning_rate/{name}": rate for name, rate in self._learning_rates.items()}
        super().log(logs, start_time)
        if self.args.should_save:
            write_metrics(Path(self.args.output_dir), self.state.global_step, logs)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Writes nothing: the card is rendered from `run.json`, which knows more than TRL's draft."""

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        folder = Path(output_dir or self.args.output_dir)
        if self.args.should_save:
            # A pickle with this machine's paths in it, which nothing reads; `run.json` says the same in the open.
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
            self._write_run_record(folder)

    def _write_run_record(self, folder: Path) -> None:
        if self.run_record is None:
            return
        seconds = time.perf_counter() - self._started_at
        progress = Progress(
            global_step=self.state.global_step,
            max_steps=self.state.max_steps,
            epoch=self.state.epoch,
            num_tokens=self._total_train_tokens,
            seconds=round(seconds, 3),
            peak_memory_gb=round(peak_memory_gb(), 3),
        )
        record = self.run_record.with_own(loss_history=list(self.state.log_history), progress=progress)
        self.run_record = write_run_record(record, folder)

    # Resuming

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._read_device()  # before: weights after a loss that was not finite are worth no checkpoint
        self.check_weights()
        self.state.num_input_tokens_seen = self._total_train_tokens  # TRL's own count is not saved
        output_dir = Path(self.args.output_dir)
        with atomic_checkpoint(output_dir, self.state.global_step, self.accelerator) as self._folder_of_checkpoints:
            super()._save_checkpoint(model, trial)
        self._folder_of_checkpoints = None
        if self.args.should_save:
            rotate_checkpoints(str(output_dir), self.args.save_total_limit)

    def _get_output_dir(self, trial: Any) -> str:
        """Where `Trainer` puts `checkpoint-N`: beside its later place, as long as it is being written."""
        folder = self._folder_of_checkpoints
        return super()._get_output_dir(trial) if folder is None else str(folder)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves of a checkpoint what is trainable, if one process has all of it and peft does not see to that."""
        if not _internal_call or gathers_weights(self.accelerator) or isinstance(self.model, PeftModel):
            super().save_model(output_dir, _internal_call)
        elif self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            save_trainable_part(self.accelerator.unwrap_model(self.model), folder)
            self._write_run_record(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if (Path(resume_from_checkpoint) / TRAINABLE_NAME).is_file():
            load_trainable_part(self.model if model is None else model, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_callback_state(self) -> None:
        super()._load_callback_state()
        self._total_train_tokens = self.state.num_input_tokens_seen

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """A run that did not get every weight back would resume from others than it stopped at: an error here."""
        tied = set(self.model.all_tied_weights_keys)
        missing = [key for key in load_result.missing_keys if key not in tied]
        if missing or load_result.unexpected_keys:
            raise RuntimeError(
                f"the checkpoint's weights do not fit the model: {len(missing)} missing (for example {missing[:3]}), "
                f"{len(load_result.unexpected_keys)} unexpected (for example {load_result.unexpected_keys[:3]}). "
                "Training would resume from other weights than it stopped at. Resume with the recipe that the "
                "checkpoint was made with."
            )
        self.model.tie_weights()


class _EpochOfSampler(TrainerCallback):
    """Tells the sampler its epoch. With several processes a resumed run would not, and repeat the order of epoch 0."""

    sampler: PackedBatchSampler | OriginalOrder | None = None

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.sampler is not None:
            self.sampler.set_epoch(state.global_step // self.sampler.num_global_batches)


class _BackendReport(TrainerCallback):
    """Says what really runs, once the model is spread over the processes."""

    def __init__(self, trainer: LlavaTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        num_layers = self.trainer.args.partial_checkpointing
        if num_layers is not None:
            self.trainer.num_checkpointed = limit_checkpointing(self.trainer.model, num_layers)
            logger.info("gradient checkpointing on %s layers of the language model", self.trainer.num_checkpointed)
        facts = backend_facts(self.trainer.accelerator, self.trainer.model)
        if self.trainer.run_record is not None:
            known = self.trainer.run_record.own.hardware.to_dict()
            self.trainer.run_record = self.trainer.run_record.with_own(
                hardware=Hardware.from_dict({**known, "backend": facts})
            )
        logger.info("backend: %s", describe_backend(facts))


__all__ = ["LlavaTrainer"]
