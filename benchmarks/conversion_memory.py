"""Measure the peak memory of converting a sharded checkpoint; the target is 1.5 x the largest shard + 600 MB.

    python benchmarks/conversion_memory.py --size 2GB --shard_size 500MB

Writes an original checkpoint in shards, converts it in a process of its own, and prints that process's peak resident
memory (memory-mapped pages included). Exit status 1 if it is above the target.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


MB = 10**6
OVERHEAD = 600 * MB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="2GB", help="of the whole checkpoint")
    parser.add_argument("--shard_size", default="500MB", help="of its largest shard, about")
    parser.add_argument("--files", choices=("safetensors", "bin"), default="safetensors")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16")
    parser.add_argument("--cast", choices=("float32", "bfloat16", "float16"), help="cast while converting")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    parser.add_argument("--results", type=Path, help="JSON file to append the result to")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        largest, total = write_checkpoint(folder, args.size, args.shard_size, args.files, args.dtype)
        started = time.perf_counter()
        peak = convert_in_own_process(folder / "original", folder / "ours", args.cast)
        seconds = time.perf_counter() - started
    finally:
        shutil.rmtree(folder)
    target = int(1.5 * largest) + OVERHEAD
    result = {
        "checkpoint_mb": total // MB,
        "largest_shard_mb": largest // MB,
        "files": args.files,
        "dtype": args.dtype,
        "cast": args.cast,
        "peak_resident_mb": peak // MB,
        "target_mb": target // MB,
        "kept": peak <= target,
        "seconds": round(seconds, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }
    print(json.dumps(result, indent=2))
    if args.results is not None:
        results = json.loads(args.results.read_text()) if args.results.is_file() else []
        args.results.write_text(json.dumps([*results, result], indent=2) + "\n")
    return 0 if result["kept"] else 1


def write_checkpoint(folder: Path, size: str, shard_size: str, files: str, dtype_name: str) -> tuple[int, int]:
    """An original checkpoint of about `size` and its tower; returns the bytes of its largest shard and of all."""
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModel

    from transformers_llava.conversion.weights.shards import parse_size

    wanted, limit, dtype = parse_size(size), parse_size(shard_size), getattr(torch, dtype_name)
    hidden, inner, vocab = 1024, 4096, 32000
    shapes = {"self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (hidden, hidden)}
    shapes |= {"self_attn.v_proj": (hidden, hidden), "self_attn.o_proj": (hidden, hidden)}
    shapes |= {"mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner)}
    shapes |= {"input_layernorm": (hidden,), "post_attention_layernorm": (hidden,)}
    per_layer = sum(torch.Size(shape).numel() for shape in shapes.values()) * dtype.itemsize
    tables = 2 * vocab * hidden * dtype.itemsize
    layers = max(1, (wanted - tables) // per_layer)
    tensors = [("model.embed_tokens.weight", (vocab, hidden)), ("lm_head.weight", (vocab, hidden))]
    tensors += [(f"model.layers.{i}.{name}.weight", shape) for i in range(layers) for name, shape in shapes.items()]
    tensors += [("model.norm.weight", (hidden,))]
    tensors += [("model.mm_projector.0.weight", (hidden, 64)), ("model.mm_projector.0.bias", (hidden,))]
    tensors += [("model.mm_projector.2.weight", (hidden, hidden)), ("model.mm_projector.2.bias", (hidden,))]

    source = folder / "original"
    source.mkdir()
    shards: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    filled = 0
    for name, shape in tensors:
        num_bytes = torch.Size(shape).numel() * dtype.itemsize
        if shards[-1] and filled + num_bytes > limit:
            shards.append([])
            filled = 0
        shards[-1].append((name, shape))
        filled += num_bytes
    weight_map, sizes = {}, []
    stem, suffix = ("model", "safetensors") if files == "safetensors" else ("pytorch_model", "bin")
    for number, shard in enumerate(shards, 1):
        file = source / f"{stem}-{number:05d}-of-{len(shards):05d}.{suffix}"
        state = {name: torch.randn(shape, dtype=torch.float32).to(dtype) for name, shape in shard}
        if suffix == "bin":
            torch.save(state, file)
        else:
            save_file(state, file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(state, file.name)
        sizes.append(file.stat().st_size)
        del state
    (source / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    vision = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    CLIPVisionModel(CLIPVisionConfig(**vision, image_size=56, patch_size=14)).save_pretrained(folder / "tower")
    config = {"architectures": ["LlavaLlamaForCausalLM"], "model_type": "llava", "mm_vision_tower": "tower"}
    config |= {"mm_projector_type": "mlp2x_gelu", "mm_hidden_size": 64, "mm_vision_select_layer": -2}
    config |= {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "vocab_size": vocab}
    config |= {"num_attention_heads": 16, "num_key_value_heads": 16, "torch_dtype": dtype_name}
    config |= {"mm_use_im_patch_token": False, "bos_token_id": 1, "eos_token_id": 2, "image_aspect_ratio": "pad"}
    (source / "config.json").write_text(json.dumps(config))
    write_tokenizer(source, vocab)
    return max(sizes), sum(sizes)


def write_tokenizer(folder: Path, vocab_size: int) -> None:
    """A byte-level tokenizer of `vocab_size` entries, most of them never used."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<unk>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    names += [f"unused{i}" for i in range(vocab_size - len(names))]
    tokenizer = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def convert_in_own_process(source: Path, target: Path, cast: str | None) -> int:
    """Peak resident bytes of a process that does nothing but convert."""
    done = subprocess.run(
        [sys.executable, "-c", _CONVERSION, str(source), str(target), cast or ""],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        raise SystemExit(f"The conversion failed:\n{done.stderr}")
    return int(done.stdout.split()[-1])


# Linux: the high-water mark of this program. `ru_maxrss` would count the parent's memory at the moment of the fork.
_CONVERSION = """
import re, resource, sys
from pathlib import Path
from transformers_llava.conversion.convert import convert_checkpoint

convert_checkpoint(sys.argv[1], sys.argv[2], dtype=sys.argv[3] or None)
status = Path("/proc/self/status")
if status.exists():
    print(int(re.search(r"VmHWM:\\s*(\\d+) kB", status.read_text())[1]) * 1024)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


if __name__ == "__main__":
    sys.exit(main())
