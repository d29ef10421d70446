"""Run `llava env`: print versions and hardware for a bug report, and nothing that names the machine."""

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("env", help="versions and hardware, for a bug report", allow_abbrev=False)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    import os
    import platform

    import torch

    from transformers_llava.training.environment import package_versions

    facts = package_versions()
    facts["system"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    facts["cuda"] = torch.version.cuda or "none"
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        facts[f"gpu {index}"] = f"{properties.name}, {properties.total_memory / 1e9:.0f} GB"
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
