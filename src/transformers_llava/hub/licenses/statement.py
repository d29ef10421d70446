"""Compose the declared licenses of base models, data and teachers: verdict, obligations, notices, naming."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers_llava.artifacts.card_facts import CardFacts
from transformers_llava.artifacts.run_record.mixture_sources import MixtureSource, StatedData
from transformers_llava.artifacts.run_record.run_stages import RunRecord
from transformers_llava.hub.cards.markdown import write_table
from transformers_llava.hub.licenses.license_part import LicensePart
from transformers_llava.hub.licenses.terms import UNKNOWN, VERDICTS, read_terms, table, worst
from transformers_llava.hub.licenses.texts import TextsReport


DISCLAIMER = "This is a summary of declared licenses, not legal advice."
_SENTENCES = {
    "yes": "No declared part restricts commercial use.",
    "conditional": "Commercial use is allowed under the conditions listed.",
    "unclear": "Commercial use is not cleared: at least one part has unknown, unclear or contractual terms.",
    "no": "No commercial use: at least one part forbids it.",
}
_PERMISSIVE = {"apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-2.0", "cc-by-4.0"}


@dataclass
class LicenseStatement:
    """What all parts come to, each with its reason."""

    parts: list[LicensePart]
    commercial: str
    hub_license: str
    weights_expression: str
    notices: list[str]
    displays: list[str]
    name_prefixes: list[str]
    problems: list[str]

    @property
    def summary(self) -> str:
        """One line: the verdict, what decided it, and what this is not."""
        deciding = [part.name for part in self.parts if part.commercial == self.commercial]
        because = f" ({', '.join(dict.fromkeys(deciding))})" if self.commercial != "yes" and deciding else ""
        return f"{_SENTENCES[self.commercial]}{because} {DISCLAIMER}"

    @property
    def obligations(self) -> list[str]:
        """Everything that is asked for, once."""
        return list(dict.fromkeys(one for part in self.parts for one in part.obligations))

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "summary": self.summary, "obligations": self.obligations}

    def metadata(self) -> dict[str, str]:
        """`license` for the card's metadata; where several terms meet, `other` and where they are explained."""
        if self.hub_license != "other":
            return {"license": self.hub_license}
        return {"license": "other", "license_name": "composite", "license_link": "LICENSE.md"}

    def table(self) -> str:
        """The parts as a Markdown table."""
        rows = []
        for part in self.parts:
            why = " ".join(word for word in (part.why, f"<{part.evidence}>" if part.evidence else "") if word)
            rows.append([part.name, part.kind, part.declared, part.commercial, why])
        return write_table(["part", "what", "declared", "commercial use", "because"], rows)

    def write(self, target: Path, texts: TextsReport | None = None) -> list[Path]:
        """
        Writes `LICENSE.md` and `NOTICE`.

        Args:
            target (`Path`): Gets both.
            texts (`TextsReport`, *optional*): The license texts beside them, and those that are missing.
        """
        license, notice = target / "LICENSE.md", target / "NOTICE"
        sections = [
            "# Licenses",
            self.summary,
            f"Weights: `{self.weights_expression}`.",
            self.table(),
            "## What is asked for",
            "\n".join(f"- {one}" for one in self.obligations) or "Nothing beyond the licenses themselves.",
        ]
        if texts is not None and (texts.present or texts.missing):
            sections += ["## License texts", "\n".join(f"- [`{one}`]({one})" for one in texts.present)]
            sections.append("\n".join(f"- **Missing:** {one}" for one in texts.missing))
        if self.name_prefixes:
            sections.append("The name of a model made from this begins with: " + ", ".join(self.name_prefixes) + ".")
        if self.problems:
            sections += ["## Not understood, or not allowed", "\n".join(f"- {one}" for one in self.problems)]
        license.write_text("\n\n".join(filter(None, sections)) + "\n", encoding="utf-8")
        lines = [*self.notices, *self.displays] or ["No part of this asks for a notice."]
        notice.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [license, notice]


def compose_licenses(run: RunRecord, lock: Mapping[str, Any] | None, facts: CardFacts) -> LicenseStatement:
    """
    Collects what every part declares and applies the rules of `terms.yaml`.

    The strictest part decides. What nobody has declared is unknown, and unknown is unclear, never free. Terms that a
    teacher model's license puts on what is trained with its outputs are checked against the language model.

    Args:
        run (`RunRecord`): The run record with its earlier stages: base models and mixtures.
        lock (`Mapping`, *optional*): Of the last stage; its sources stand in for a run without a mixture.
        facts (`CardFacts`): `licenses` states what base models and sources do not state themselves.
    """
    components = list(_components(run, facts))
    families = {family for part in components if part.kind == "component" for family in _families(part)}
    data, teachers, problems = [], [], []
    for source in _sources(run, lock):
        for part in _data_parts(source, facts):
            if part not in data:
                data.append(part)
        for part, problem in _teacher_parts(source, families):
            if part not in teachers:
                teachers.append(part)
                problems += [problem] if problem else []
    parts = [*components, *data, *teachers]
    problems += [f"{part.name}: {problem}" for part in parts if (problem := read_terms(part.declared).problem)]
    problems += list(_stated_for_nobody(run, lock, facts))
    keys = [key for part in parts for key in read_terms(part.declared).keys]
    rules = [table()["terms"].get(key, {}) for key in keys if not _is_of_teacher(key, parts)]
    teaching = [table()["teachers"].get(key, {}) for part in teachers for key in read_terms(part.declared).keys]
    return LicenseStatement(
        parts=parts,
        commercial=worst([part.commercial for part in parts]),
        hub_license=_hub_license(components, worst([part.commercial for part in [*data, *teachers]])),
        weights_expression=" AND ".join(dict.fromkeys(part.expression for part in components)) or UNKNOWN,
        notices=_collect(rules, "notice"),
        displays=_collect([*rules, *teaching], "display"),
        name_prefixes=_collect([*rules, *teaching], "name_prefix"),
        problems=list(dict.fromkeys(problems)),
    )


def lint_card(card: str, statement: LicenseStatement, repo_id: str) -> list[str]:
    """What a card says otherwise than its parts: the `license:` tag, the name, the notice."""
    found = []
    match = re.search(r"^license: *(\S+)", card, re.MULTILINE)
    stated = match.group(1).strip("\"'") if match else None
    if stated != statement.hub_license:
        found.append(f"the card says `license: {stated}`, its parts come to {statement.hub_license}")
    name = repo_id.rpartition("/")[2].replace("-", " ").replace("_", " ").lower()
    for prefix in statement.name_prefixes:
        if not name.startswith(prefix.lower()):
            found.append(f"the name {repo_id!r} does not begin with {prefix!r}, as the license of a part asks")
    found += [
        f"the card does not show {text!r}" for text in (*statement.notices, *statement.displays) if text not in card
    ]
    return found


def _components(run: RunRecord, facts: CardFacts) -> Iterator[LicensePart]:
    for stage in run.stages:
        for base in stage.own_bases:
            stated = facts.licenses.get(base.name) or facts.licenses.get(base.role)
            known = next((one for one in table()["components"] if base.name.startswith(one["id"])), None)
            if stated is not None:
                declared, why, evidence = stated.get("license"), "stated by the publisher", stated.get("evidence", "")
            elif known is not None and base.origin == "hub":
                declared, why, evidence = known["license"], f"read {known['read']}", known["url"]
            else:
                declared, why, evidence = None, "nobody has stated a license", ""
            yield _part("component", base.name, declared, why, evidence)


def _stated_for_nobody(run: RunRecord, lock: Mapping[str, Any] | None, facts: CardFacts) -> Iterator[str]:
    """Licenses of `card.yaml` that have no effect: nothing has that name."""
    known = [name for stage in run.stages for base in stage.base_models for name in (base.name, base.role)]
    known += [one.name for source in _sources(run, lock) for one in (source, *source.parts)]
    for name in sorted(facts.licenses.keys() - set(known)):
        parts = ", ".join(dict.fromkeys(known))
        yield f"card.yaml states a license for {name!r}, which is nothing of this model: {parts}"


def _sources(run: RunRecord, lock: Mapping[str, Any] | None) -> Iterator[MixtureSource]:
    locked = [MixtureSource.from_dict(one) for one in (lock or {}).get("sources", ())]
    for stage in run.stages:
        yield from locked if stage.mixture is None else stage.sources


def _data_parts(source: MixtureSource, facts: CardFacts) -> Iterator[LicensePart]:
    """Of a source with parts, the parts: the statement for the whole is their sum."""
    for one in source.stated:
        stated = facts.licenses.get(one.name, {})
        declared = one.license or stated.get("license")
        revision = f" at {one.license_revision}" if one.license_revision else ""
        evidence = one.license_url or stated.get("evidence", "")
        yield _part("data", one.name, declared, _whence(declared, revision), evidence)
        if images := one.images_license:
            yield _part("images", one.name, images, _whence(images), one.images_license_url or "")


def _whence(declared: str | None, revision: str = "") -> str:
    if declared is None:
        return "nobody has stated a license"
    return "no license is stated there" if UNKNOWN in read_terms(declared).keys else f"stated there{revision}"


def _teacher_parts(source: MixtureSource, families: set[str]) -> Iterator[tuple[LicensePart, str | None]]:
    for one in source.stated:
        if not one.teacher:
            continue
        name, declared = f"{one.teacher}, who wrote {one.name}", one.teacher_terms
        terms = read_terms(declared)
        rules = [table()["teachers"].get(key) for key in terms.keys]
        if declared is None or any(rule is None for rule in rules):
            yield _teacher(one, name, declared, "unclear", "no rule is known for these terms"), None
            continue
        for rule in rules:
            student, verdict, problem = rule.get("students"), rule.get("commercial", "yes"), None
            if student is not None and student not in families:
                verdict = "no"
                problem = f"{name}: not allowed for this language model, {rule['why']}"
            yield _teacher(one, name, declared, verdict, rule["why"]), problem


def _teacher(one: StatedData, name: str, declared: str | None, verdict: str, why: str) -> LicensePart:
    terms = read_terms(declared)
    obligations = [] if verdict == "yes" else [f"{name}: {why}"]
    evidence = one.teacher_terms_url or ""
    return LicensePart("teacher", name, declared or "unknown", terms.expression, verdict, why, evidence, obligations)


def _part(kind: str, name: str, declared: str | None, why: str, evidence: str) -> LicensePart:
    terms = read_terms(declared)
    rules = [table()["terms"].get(key, {"obligations": [f"read {key}"]}) for key in terms.keys]
    obligations = [f"{name}: {one}" for rule in rules for one in rule["obligations"]]
    return LicensePart(
        kind, name, declared or "unknown", terms.expression, terms.commercial, why, evidence, obligations
    )


def _families(part: LicensePart) -> Iterator[str]:
    for key in read_terms(part.declared).keys:
        if family := table()["terms"].get(key, {}).get("family"):
            yield family


def _hub_license(components: list[LicensePart], of_data: str) -> str:
    """The weights' own tag; `other` where several restrictive ones meet, or the data are stricter than the weights."""
    tags = [
        table()["terms"].get(key, {}).get("hub", "other")
        for part in components
        for key in read_terms(part.declared).keys
    ]
    if not tags:
        return "unknown"
    restrictive = list(dict.fromkeys(tag for tag in tags if tag not in _PERMISSIVE))
    own = worst([part.commercial for part in components])
    if len(restrictive) > 1 or VERDICTS.index(of_data) > VERDICTS.index(own):
        return "other"
    if restrictive:
        return restrictive[0]
    return "apache-2.0" if "apache-2.0" in tags else tags[0]


def _is_of_teacher(key: str, parts: list[LicensePart]) -> bool:
    """Whether only a teacher has this license: its notices are then not ours to carry."""
    return not any(key in read_terms(part.declared).keys for part in parts if part.kind != "teacher")


def _collect(rules: list[dict[str, Any]], name: str) -> list[str]:
    return list(dict.fromkeys(rule[name] for rule in rules if rule.get(name)))


__all__ = ["DISCLAIMER", "LicenseStatement", "compose_licenses", "lint_card"]
