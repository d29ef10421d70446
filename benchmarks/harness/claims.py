"""State of each of the four claims whether GPU results show it yet, with the figure and the reason."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


PUBLISHED_HOURS = {1: 3.5, 2: 10.0}  # of LLaVA-1.5 7B on eight A100 80 GB, by its README
Lines = list[dict[str, Any]]


@dataclass(frozen=True)
class Claim:
    """What is claimed, the question whose results decide, and how."""

    text: str
    question: str
    judge: Callable[[Lines], str]

    def state(self, lines: Lines) -> str:
        return self.judge(lines) if lines else "not yet: no GPU was at hand"


def _half_of_the_hours(lines: Lines) -> str:
    """Published hours, divided by how much faster than the original's way a step was in the same run."""
    ratios = {line["notes"]["stage"]: line["ratio"] for line in lines if line["notes"].get("is_plan")}
    if set(ratios) != {1, 2}:
        return "not yet: a stage was not measured"
    hours = sum(published / ratios[stage] for stage, published in PUBLISHED_HOURS.items())
    total = sum(PUBLISHED_HOURS.values())
    figure = f"{hours:.1f} of {total} h, by steps {ratios[1]:.2f} and {ratios[2]:.2f} times as fast on one GPU"
    return f"shown: {figure}" if hours <= total / 2 else f"not yet: {figure}"


def _useful_share(lines: Lines) -> str:
    plans = [line for line in lines if line["notes"].get("is_plan")]
    if not plans:
        return "not yet: no stage was measured"
    is_a100 = "A100" in plans[0]["notes"]["gpu"]
    name, target = ("share_of_peak", 0.5) if is_a100 else ("share_of_matmul_rate", 0.55)
    least = min(plans, key=lambda line: line["notes"][name])
    figure = f"{least['notes'][name]:.1%} {'of the peak' if is_a100 else 'of the matmul rate'} ({least['name']})"
    return f"{'shown' if least['notes'][name] >= target else 'not yet'}: {figure} on {least['notes']['gpu']}"


def _under_the_cap(lines: Lines) -> str:
    found = [line for line in lines if line["name"].startswith("stage 1")]
    if not found:
        return "not yet: stage 1 was not measured"
    least = min(found, key=lambda line: line["ours"])
    return f"{'shown' if least['ours'] < 10 else 'not yet'}: {least['ours']:.1f} GB ({least['name']})"


def _nowhere_slower(lines: Lines) -> str:
    slowest = min((line for line in lines if line["ratio"] is not None), key=lambda line: line["ratio"])
    figure = f"at least {slowest['ratio']:.2f} times as fast ({slowest['name']})"
    return f"{'shown' if slowest['ratio'] >= 0.97 else 'not yet'}: {figure}"


CLAIMS = (
    Claim(
        "The two-stage recipe of 7B in half of the published GPU-hours, at the same hyper-parameters",
        "training",
        _half_of_the_hours,
    ),
    Claim(
        "Useful work of at least 50 % of the peak on A100, 55 % of the measured matmul rate on H200",
        "training",
        _useful_share,
    ),
    Claim("Stage 1 of 7B in under 10 GB", "low_memory", _under_the_cap),
    Claim("No slower than plain transformers anywhere on a GPU", "inference", _nowhere_slower),
)


__all__ = ["CLAIMS", "Claim", "PUBLISHED_HOURS"]
