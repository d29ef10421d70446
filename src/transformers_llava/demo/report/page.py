"""Render a demo report as one self-contained HTML page: no script, no font, no image from elsewhere."""

import base64
import html
import json
from pathlib import Path
from typing import Any

from transformers_llava.demo.report.loss_curve import draw_loss_curve
from transformers_llava.demo.report.summary import DemoReport, Sample, SourceAccuracy


STYLE = """
:root { --ink: #1d2433; --soft: #667085; --line: #e4e7ec; --good: #157f4b; --bad: #b42318; --accent: #2f5fde; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 62rem; margin: 2.5rem auto; padding: 0
1.2rem; } h1 { font-size: 1.9rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .7rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: .93rem; }
th, td { text-align: left; padding: .38rem .6rem; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.bars { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1.2rem; }
.card { border: 1px solid var(--line); border-radius: .7rem; padding: 1rem 1.1rem; }
.bar { background: #f2f4f7; border-radius: .3rem; height: .8rem; margin: .15rem 0 .5rem; }
.bar i { display: block; height: 100%; border-radius: .3rem; background: var(--accent); }
.bar.blind i { background: #98a2b3; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: 1rem; }
.grid .card { padding: .8rem; font-size: .9rem; }
.grid img { width: 100%; image-rendering: pixelated; border-radius: .4rem; border: 1px solid var(--line); }
.right { color: var(--good); font-weight: 600; } .wrong { color: var(--bad); font-weight: 600; }
code { background: #f2f4f7; padding: .1rem .3rem; border-radius: .25rem; font-size: .86em; }
"""


def render_page(report: DemoReport) -> str:
    """The page: accuracies, loss curves, what was trained on what, and held-out images with their answers."""
    body = [
        "<h1>A small LLaVA, trained on this machine</h1>",
        f"<p class=soft>Two stages in {report.seconds:.0f} seconds and {report.peak_memory_gb:.2f} GB of memory, "
        f"seed {report.seed}. Every image and question below was held out from training.</p>",
        "<h2>Held-out accuracy</h2><div class=bars>",
        *(_accuracy(source) for source in report.sources),
        "</div><p class=soft>The control asks the same questions without the image: what guessing from the question "
        "alone gains.</p>",
        "<h2>Loss</h2><div class=bars>",
        *(
            f"<div class=card>{draw_loss_curve(run['loss_history'], _title(name))}</div>"
            for name, run in _runs(report)
        ),
        "</div>",
        "<h2>What was trained</h2>",
        *(_components(name, run) for name, run in _runs(report)),
        "<h2>On what</h2>",
        *(_mixture(name, run) for name, run in _runs(report)),
        "<h2>Questions it had not seen</h2><div class=grid>",
        *map(_sample, report.samples),
        "</div>",
        f"<p class=soft>The answers are those of the saved folder <code>checkpoint/</code>; a fresh process gave "
        f"{sum(s.is_same_in_fresh_process for s in report.samples)} of {len(report.samples)} the same. Weights sha256 "
        f"<code>{report.weights_sha256}</code></p>",
    ]
    title = "transformers-llava demo"
    return (
        f'<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">'
        f"<title>{title}</title><style>{STYLE}</style>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _runs(report: DemoReport) -> list[tuple[str, dict[str, Any]]]:
    return list(report.runs.items())


def _title(stage: str) -> str:
    return {"align": "Stage 1: captions, projector alone", "instruct": "Stage 2: instructions"}.get(stage, stage)


def _accuracy(source: SourceAccuracy) -> str:
    def bar(share: float, kind: str, label: str) -> str:
        return f"{label}: <b>{share:.1%}</b><div class='bar {kind}'><i style='width:{100 * share:.1f}%'></i></div>"

    bars = bar(source.accuracy, "", "with the image") + bar(source.blind_accuracy, "blind", "without it")
    name = html.escape(source.name)
    return (
        f"<div class=card><b>{name}</b> <span class=soft>{source.num_examples:,} questions</span><p>{bars}</p></div>"
    )


def _components(stage: str, run: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [
        (row["component"], row["mode"], f"{row['parameters']:,}", f"{row['trainable']:,}", _rate(row["learning_rate"]))
        for row in run["components"]
    ]
    return _table(_title(stage), ["component", "mode", "parameters", "trainable", "learning rate"], rows, numbers=3)


def _rate(learning_rate: float | None) -> str:
    return "-" if learning_rate is None else f"{learning_rate:g}"


def _mixture(stage: str, run: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [
        (
            source["name"],
            source["license"] or "not stated",
            f"{source['num_read']:,}",
            f"{sum(source['dropped'].values()):,}",
            f"{source['num_used']:,}",
            f"{source['proportion']:.1%}",
        )
        for source in run["data"]["sources"]
    ]
    return _table(_title(stage), ["source", "license", "read", "rejected", "used", "share"], rows, numbers=4)


def _table(caption: str, header: list[str], rows: list[tuple[str, ...]], *, numbers: int) -> str:
    """A table whose last `numbers` columns are figures."""
    first_number = len(header) - numbers

    def cells(tag: str, values: list[str]) -> str:
        kinds = ["" if i < first_number else " class=n" for i in range(len(values))]
        return "".join(f"<{tag}{kind}>{html.escape(v)}</{tag}>" for kind, v in zip(kinds, values, strict=True))

    lines = [f"<tr>{cells('td', list(row))}</tr>" for row in rows]
    return f"<p><b>{html.escape(caption)}</b></p><table><tr>{cells('th', header)}</tr>{''.join(lines)}</table>"


def _sample(sample: Sample) -> str:
    right = sample.answer.strip().rstrip(".").casefold() == sample.truth.strip().rstrip(".").casefold()
    verdict = f"<span class={'right' if right else 'wrong'}>{html.escape(sample.answer) or '(nothing)'}</span>"
    truth = "" if right else f" <span class=soft>(truth: {html.escape(sample.truth)})</span>"
    question = html.escape(sample.question).replace("\n", "<br>")
    return (
        f"<div class=card><img alt='' src='{_data_url(sample.image)}'><p>{question}</p><p>{verdict}{truth}</p></div>"
    )


def _data_url(image: Path) -> str:
    kind = {".jpg": "jpeg", ".jpeg": "jpeg"}.get(image.suffix.lower(), image.suffix.lower().lstrip("."))
    return f"data:image/{kind};base64,{base64.b64encode(image.read_bytes()).decode()}"


def write_report(report: DemoReport, output_dir: Path) -> None:
    """Writes `demo_report.json` and `report.html`, a single file that can be sent to somebody."""
    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False)
    (output_dir / "demo_report.json").write_text(text + "\n", encoding="utf-8")
    (output_dir / "report.html").write_text(render_page(report), encoding="utf-8")


__all__ = ["render_page", "write_report"]
