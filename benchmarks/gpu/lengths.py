"""Print the deciles of text lengths that `shapes.py` holds: no tokenizer travels to the GPU.

python -m benchmarks.gpu.lengths
"""

import statistics
import tempfile
from pathlib import Path

from benchmarks.stand_in import make_processor, write_stand_in
from transformers_llava.data.mixture.config import SourceConfig
from transformers_llava.data.mixture.source import load_source
from transformers_llava.data.tokens.counting import measure_example


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_stand_in(folder, scale=0.01, num_images=8)
        processor = make_processor(folder)
        examples, _ = load_source(SourceConfig("mix665k", str(path), image_root=str(folder)), cache_dir=folder)
        measured = [measure_example(example, processor) for example in examples]
    images = [length.num_tokens - 576 for length in measured if length.has_image]
    texts = [length.num_tokens for length in measured if not length.has_image]
    for name, lengths in (("TEXT_LENGTHS", images), ("TEXT_ONLY_LENGTHS", texts)):
        deciles = statistics.quantiles(lengths, n=20, method="inclusive")[::2]  # 5 %, 15 %, ... 95 %
        print(f"{name} = {tuple(round(value) for value in deciles)}  # mean {statistics.fmean(lengths):.0f}")
    print(f"with an image: {len(images) / len(measured):.2%}")


if __name__ == "__main__":
    main()
