"""The numbers in `data/README.md` are what its lines give, and its links lead somewhere."""

import doctest
import re
from pathlib import Path

import pytest

import tiny
import transformers_llava.data


README = Path(transformers_llava.data.__file__).with_name("README.md")


def test_every_line_of_the_five_steps_gives_what_stands_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.make_model().save_pretrained("checkpoint")
    tiny.make_processor().save_pretrained("checkpoint")
    Path("images").mkdir()
    tiny.make_image(seed=0).save("images/red.png")
    tiny.make_image(seed=1).save("images/blue.png")
    examples = "".join(re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S))
    test = doctest.DocTestParser().get_doctest(examples, {}, README.name, str(README), 0)
    assert len(test.examples) > 30
    lines: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    assert runner.run(test, out=lines.append).failed == 0, "".join(lines)


def test_its_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", README.read_text(encoding="utf-8"))
    assert len(targets) >= 5
    assert [target for target in targets if not (README.parent / target).exists()] == []
