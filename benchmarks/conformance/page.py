"""Render `docs/reference/conformance.md` from the recorded results."""

from typing import Any


HEAD = """# transformers' own tests against our classes

Written by `make conformance`, which fetches the test mixins of the installed transformers into a cache folder, runs
them against our classes and the built-in ones through small adapters (`benchmarks/conformance/adapters`), and records
what passed. A failure of ours counts unless a built-in class has the same one.
"""
NOTES = """
Differences that the adapters state:

- `test_reverse_loading_mapping` is skipped: three checkpoint layouts map onto one, so an inverse of an unused rule is
  not defined. Checkpoints are saved under the model's own names, and reading each layout is tested here.
- `get_image_features` returns as many hidden states as the tower has layers, and our tower ends at the layer that the
  projector reads. The suite has a hook for that number.
- The processors' tests run on a tokenizer made in memory, for ours and the built-in ones alike. They run without a
  network; tests that fetch files fail.
"""


def render(record: dict[str, Any]) -> str:
    """The page, from what `run.py` recorded."""
    packages = ", ".join(f"{name} {number}" for name, number in record["packages"].items())
    lines = [
        HEAD,
        f"Run with {packages}. Common mixins: those of the installed version; the rest: {record['origin']}.\n",
    ]
    lines += ["| tests of | class | passed | skipped | failed | failed and the built-in class does not |"]
    lines += ["|---|---|---:|---:|---:|---:|"]
    for result in record["results"]:
        alone = len(result["alone"]) if result["beside"] else ""
        counts = f"{result['passed']} | {result['skipped']} | {len(result['failures'])} | {alone}"
        lines.append(f"| {result['suite']} | {result['name']} | {counts} |")
    failures = {
        (result["suite"], test): error for result in record["results"] for test, error in result["failures"].items()
    }
    if failures:
        lines += ["\nFailures, and which classes have them:\n", "| test | classes | first line of the error |"]
        lines += ["|---|---|---|"]
    for (suite, test), error in sorted(failures.items()):
        names = [r["name"] for r in record["results"] if r["suite"] == suite and test in r["failures"]]
        lines.append(f"| `{test}` ({suite}) | {'; '.join(names)} | {error.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n" + NOTES


__all__ = ["render"]
