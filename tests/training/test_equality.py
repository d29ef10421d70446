"""Packed training against TRL's own padded, assistant-only run of the same samples: losses, gradients and weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

import tiny
from transformers_llava.chat_templates import load_chat_template
from transformers_llava.data.batches.collators import SUPERVISED_NAMES, PackedCollator, add_supervised_positions
from transformers_llava.data.batches.samplers import PackedBatchSampler
from transformers_llava.data.schema import EXAMPLE_FEATURES
from transformers_llava.data.tokens.counting import measure_example
from transformers_llava.training.model.components import apply_component_config
from transformers_llava.training.recipe.configs import ComponentConfig, LlavaSFTConfig
from transformers_llava.training.trainer import LlavaTrainer


NUM_STEPS, BATCH = 6, 8
COMPONENTS = {
    "vision_tower": ComponentConfig("frozen"),
    "multi_modal_projector": ComponentConfig("full"),
    "language_model": ComponentConfig("full"),
}


@dataclass
class Result:
    losses: list[float]
    gradients: dict[str, torch.Tensor]  # of the first step
    weights: dict[str, torch.Tensor]  # after the last
    logs: list[dict[str, float]]


class _FirstGradients(TrainerCallback):
    def __init__(self) -> None:
        self.gradients: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if not self.gradients:
            self.gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, Path | None]]:
    """Questions and answers of many lengths; every fourth without an image."""
    folder = tmp_path_factory.mktemp("images")
    found: list[tuple[str, str, Path | None]] = []
    for number in range(NUM_STEPS * BATCH):
        path = None
        if number % 4:
            path = folder / f"{number}.png"
            tiny.make_image(seed=number).save(path)
        found.append((f"What is {number}?" * (1 + number % 3), "red blue " * (1 + number % 7), path))
    return found


def make_processor() -> Any:
    processor = tiny.make_processor()
    processor.chat_template = load_chat_template("vicuna_v1")
    return processor


def make_model(dtype: torch.dtype, attention: str) -> Any:
    torch.manual_seed(0)
    model = tiny.make_model().to(dtype)
    model.set_attn_implementation(attention)
    apply_component_config(model, COMPONENTS)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def arguments(output_dir: Path, **kwargs: Any) -> dict[str, Any]:
    return {
        "output_dir": str(output_dir),
        "max_steps": NUM_STEPS,
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "bf16": False,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "gradient_checkpointing": False,
        **kwargs,
    }


def finish(trainer: Any, grab: _FirstGradients) -> Result:
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    weights = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    return Result([entry["loss"] for entry in logs], grab.gradients, weights, logs)


def stock_padded(samples: list, folder: Path, dtype: torch.dtype) -> Result:
    """TRL's trainer, collator, masking of the prompt and loss; nothing of ours but model and processor."""
    rows = [
        {
            "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer.strip()}],
            "images": [] if path is None else [Image.open(path)],
        }
        for question, answer, path in samples
    ]
    grab = _FirstGradients()
    trainer = SFTTrainer(
        model=make_model(dtype, "sdpa"),
        args=SFTConfig(
            **arguments(folder, per_device_train_batch_size=4, gradient_accumulation_steps=2),
            assistant_only_loss=True,
            train_sampling_strategy="sequential",
            max_length=None,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=make_processor(),
        callbacks=[grab],
    )
    return finish(trainer, grab)


class _InOrder(LlavaTrainer):
    """Takes the samples as they stand, as the stock run does."""

    def _sampler(self) -> PackedBatchSampler:
        sampler = super()._sampler()
        sampler.shuffle = False
        return sampler


def ours_packed(
    samples: list,
    folder: Path,
    dtype: torch.dtype,
    *,
    attention: str = "sdpa",
    micro_steps: int = 2,
    collator: type[PackedCollator] = PackedCollator,
    **kwargs: Any,
) -> Result:
    examples = [
        {
            "id": str(number),
            "source": "s",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        *([] if path is None else [{"type": "image", "text": None}]),
                        {"type": "text", "text": question},
                    ],
                },
                {"role": "assistant", "content": [{"type": "text", "text": answer.strip()}]},
            ],
            "images": [] if path is None else [{"bytes": None, "path": str(path)}],
        }
        for number, (question, answer, path) in enumerate(samples)
    ]
    processor, grab = make_processor(), _FirstGradients()
    trainer = _InOrder(
        model=make_model(dtype, attention),
        args=LlavaSFTConfig(
            **{
                **arguments(folder),
                "per_device_train_batch_size": BATCH // micro_steps,
                "gradient_accumulation_steps": micro_steps,
                **kwargs,
            }
        ),
        train_dataset=Dataset.from_list(examples, features=EXAMPLE_FEATURES),
        data_collator=collator(processor),
        processing_class=processor,
        components=COMPONENTS,
        lengths=[measure_example(example, processor) for example in examples],  # type: ignore[arg-type]
        callbacks=[grab],
    )
    return finish(trainer, grab)


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=["fp64", "fp32"])
def stock(request: pytest.FixtureRequest, samples: list, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return request.param, stock_padded(samples, tmp_path_factory.mktemp("stock"), request.param)


def distance(a: Result, b: Result) -> float:
    """Largest difference of a gradient entry or weight, and of losses beyond float32, in which they are logged."""
    assert a.gradients.keys() == b.gradients.keys()
    assert len(a.losses) == len(b.losses) == NUM_STEPS
    tensors = [(a.gradients[name], b.gradients[name]) for name in a.gradients]
    tensors += [(a.weights[name], b.weights[name]) for name in a.weights]
    losses = [max(0.0, abs(x - y) - 1e-6) for x, y in zip(a.losses, b.losses)]
    return max(*losses, *((x - y).abs().max().item() for x, y in tensors))


CASES = {
    "eager": {"attention": "eager"},
    "sdpa": {"attention": "sdpa"},
    "varlen": {"attention": "varlen"},
    "varlen, checkpointing": {"attention": "varlen", "gradient_checkpointing": True},
    "sdpa, checkpointing": {"attention": "sdpa", "gradient_checkpointing": True},
    "one pack of 8": {"attention": "varlen", "micro_steps": 1},
    "eight packs of 1": {"attention": "varlen", "micro_steps": 8},
}


@pytest.mark.parametrize("case", CASES)
def test_packed_equals_trls_own_padded_run(stock: Any, samples: list, tmp_path: Path, case: str) -> None:
    dtype, expected = stock
    assert max(abs(g).max() for g in expected.gradients.values()) > 1e-2  # there is something to compare
    ours = ours_packed(samples, tmp_path, dtype, **CASES[case])
    # TRL's head sums its gradients in float32 whatever the model's precision; ours sums over fewer positions.
    assert distance(ours, expected) < (3e-7 if dtype == torch.float64 else 1e-5)


class _EveryPosition(PackedCollator):
    """The head sees every position, as it does in TRL's own trainer on a CPU."""

    def __call__(self, examples: list) -> dict[str, Any]:
        return {name: value for name, value in super().__call__(examples).items() if name not in SUPERVISED_NAMES}


@pytest.mark.parametrize("micro_steps", [1, 8])
def test_supervised_positions_alone_give_losses_and_metrics_of_every_position(
    samples: list, tmp_path: Path, micro_steps: int
) -> None:
    logs = []
    for collator in (_EveryPosition, PackedCollator):
        folder = tmp_path / collator.__name__
        options: dict[str, Any] = {"attention": "varlen", "micro_steps": micro_steps, "collator": collator}
        logs.append(ours_packed(samples, folder, torch.float32, **options, learning_rate=1e-2).logs)
    for every, supervised in zip(*logs, strict=True):
        assert supervised["loss"] == pytest.approx(every["loss"], rel=5e-7)
        assert supervised["entropy"] == pytest.approx(every["entropy"], rel=1e-6)
        assert supervised["mean_token_accuracy"] == every["mean_token_accuracy"]
        assert supervised["num_tokens"] == every["num_tokens"]


class _OnePosition(PackedCollator):
    """Leaks: positions run on from one document to the next."""

    def __call__(self, examples: list) -> dict[str, Any]:
        batch = super().__call__(examples)
        batch["position_ids"] = torch.arange(batch["position_ids"].shape[1])[None]
        return batch


class _OneDocument(PackedCollator):
    """Leaks: every document sees those before it."""

    def __call__(self, examples: list) -> dict[str, Any]:
        batch = super().__call__(examples)
        length = batch["input_ids"].shape[1]
        batch["cu_seq_lens_q"] = batch["cu_seq_lens_k"] = torch.tensor([0, length], dtype=torch.int32)
        batch["max_length_q"] = batch["max_length_k"] = length
        return batch


class _FirstLabels(PackedCollator):
    """Leaks: the last token of a document predicts the first of the next."""

    def __call__(self, examples: list) -> dict[str, Any]:
        batch = super().__call__(examples)
        starts = batch["position_ids"] == 0
        return add_supervised_positions(batch | {"labels": torch.where(starts, batch["input_ids"], batch["labels"])})


@pytest.mark.parametrize(
    ("collator", "attention"), [(_OnePosition, "sdpa"), (_OneDocument, "varlen"), (_FirstLabels, "varlen")]
)
def test_a_leak_between_documents_would_be_seen(
    stock: Any, samples: list, tmp_path: Path, collator, attention
) -> None:
    dtype, expected = stock
    leaky = ours_packed(samples, tmp_path, dtype, attention=attention, collator=collator)
    assert distance(leaky, expected) > 1e-4
