"""What people write as a license, and what it comes to: never freer than it says."""

import random

import pytest

from transformers_llava.artifacts.card_facts import CardFacts
from transformers_llava.artifacts.run_record.run_stages import RunRecord
from transformers_llava.hub.licenses.statement import compose_licenses
from transformers_llava.hub.licenses.terms import VERDICTS, read_terms, table


LLAMA_2, LLAMA_3 = "LicenseRef-scancode-llama-2-license-2023", "LicenseRef-Llama-3-Community"
OPENAI = "LicenseRef-scancode-openai-tou-20230314"
NC, UNKNOWN = "LicenseRef-NonCommercial", "LicenseRef-Unknown"
STATEMENTS = [
    # names and ids
    ("Apache-2.0", "yes", "Apache-2.0"),
    ("apache-2.0", "yes", "Apache-2.0"),
    ("Apache 2.0", "yes", "Apache-2.0"),
    ("Apache 2", "yes", "Apache-2.0"),
    ("Apache-2.0.", "yes", "Apache-2.0"),
    ("Apache License 2.0", "yes", "Apache-2.0"),
    ("Apache License, Version 2.0", "yes", "Apache-2.0"),
    ("The Apache Software License, Version 2.0", "yes", "Apache-2.0"),
    ("MIT", "yes", "MIT"),
    ("MIT License", "yes", "MIT"),
    ("the MIT licence", "yes", "MIT"),
    ("MIT License (see the LICENSE file)", "yes", "MIT"),
    ("BSD 3-Clause License", "yes", "BSD-3-Clause"),
    ("BSD-3-Clause (code and weights); no separate terms for its captions", "yes", "BSD-3-Clause"),
    ("CC0 1.0 Universal", "yes", "CC0-1.0"),
    ("CC BY 4.0", "yes", "CC-BY-4.0"),
    ("CC-BY 4.0", "yes", "CC-BY-4.0"),
    ("cc-by-4.0", "yes", "CC-BY-4.0"),
    ("CC-BY-2.0 (Open Images)", "yes", "CC-BY-2.0"),
    ("Creative Commons Attribution 4.0 International", "yes", "CC-BY-4.0"),
    ("CC BY-SA 3.0 Unported", "conditional", "CC-BY-SA-3.0"),
    ("CC BY-ND 4.0", "unclear", "CC-BY-ND-4.0"),
    ("llama2", "conditional", LLAMA_2),
    ("Llama 2 Community License", "conditional", LLAMA_2),
    ("Llama-3", "conditional", LLAMA_3),
    ("Meta Llama 3 Community License Agreement", "conditional", LLAMA_3),
    ("Flickr terms of each picture (COCO)", "unclear", "LicenseRef-Flickr-Terms-Of-Each-Picture"),
    ("OpenAI terms of use (2023-03-14)", "unclear", OPENAI),
    # expressions
    ("Apache-2.0 OR MIT", "yes", "Apache-2.0 OR MIT"),
    ("Apache-2.0 OR CC-BY-NC-4.0", "yes", "Apache-2.0 OR CC-BY-NC-4.0"),
    ("Apache-2.0 AND CC-BY-NC-4.0", "no", "Apache-2.0 AND CC-BY-NC-4.0"),
    ("MIT AND (Apache-2.0 OR GPL-3.0-only)", "yes", "MIT AND (Apache-2.0 OR GPL-3.0-only)"),
    ("Apache-2.0 WITH LLVM-exception", "yes", "Apache-2.0 WITH LLVM-exception"),
    ("GPL-2.0-only WITH Classpath-exception-2.0", "unclear", "GPL-2.0-only WITH Classpath-exception-2.0"),
    ("GPL-3.0-only", "unclear", "GPL-3.0-only"),
    # forbidden
    ("CC-BY-NC-4.0", "no", "CC-BY-NC-4.0"),
    ("CC-BY-NC-2.0", "no", "CC-BY-NC-2.0"),
    ("CC-BY-NC-3.0", "no", "CC-BY-NC-3.0"),
    ("CC-BY-NC-SA-3.0", "no", "CC-BY-NC-SA-3.0"),
    ("CC-BY-NC-ND-4.0", "no", "CC-BY-NC-ND-4.0"),
    ("cc by-nc 4.0", "no", "CC-BY-NC-4.0"),
    ("cc-by-nc", "no", NC),
    ("CC BY-NC-SA", "no", NC),
    ("Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International", "no", "CC-BY-NC-SA-4.0"),
    ("non-commercial", "no", NC),
    ("for research use only", "no", NC),
    ("Apache-2.0, non-commercial use only", "no", f"Apache-2.0 AND {NC}"),
    ("MIT (non-commercial research only)", "no", f"MIT AND {NC}"),
    ("MIT (code), CC-BY-NC-4.0 (weights)", "no", f"MIT AND {NC}"),
    ("CC-BY-4.0, but images are CC-BY-NC", "no", f"CC-BY-4.0 AND {NC}"),
    ("CC BY 4.0 NonCommercial", "no", f"CC-BY-4.0 AND {NC}"),
    ("Llama 2, research only", "no", f"{LLAMA_2} AND {NC}"),
    ("Apache-2.0 OR MIT, research only", "no", f"(Apache-2.0 OR MIT) AND {NC}"),
    ("Apache-2.0; not for commercial use", "no", f"Apache-2.0 AND {NC}"),
    ("unknown: noncommercial use only", "no", f"{UNKNOWN} AND {NC}"),
    # not understood
    ("Apache-2.0, for our friends", "unclear", f"Apache-2.0 AND {UNKNOWN}"),
    ("Apache-2.0 for the code", "unclear", f"Apache-2.0 AND {UNKNOWN}"),
    ("MIT except for the images", "unclear", f"MIT AND {UNKNOWN}"),
    ("MIT, see the parts", "unclear", f"MIT AND {UNKNOWN}"),
    ("MIT OR", "unclear", f"MIT AND {UNKNOWN}"),
    ("MIT AND something of ours", "unclear", f"MIT AND {UNKNOWN}"),
    ("Apache-2.0 WITH Commons-Clause", "unclear", f"Apache-2.0 AND {UNKNOWN}"),
    ("CC-BY-4.0 (metadata)", "unclear", f"CC-BY-4.0 AND {UNKNOWN}"),
    ("Llama 2 and whatever Vicuna asks for", "unclear", f"{LLAMA_2} AND {UNKNOWN}"),
    ("Apache-2.0-ish", "unclear", UNKNOWN),
    ("MITRE", "unclear", UNKNOWN),
    ("CC-BY", "unclear", UNKNOWN),
    ("Public domain", "unclear", UNKNOWN),
    ("Llama 3.3 Community License", "unclear", UNKNOWN),
    ("llama3.2", "unclear", UNKNOWN),
    ("gemma", "unclear", UNKNOWN),
    ("openrail", "unclear", UNKNOWN),
    ("free for good people", "unclear", UNKNOWN),
    ("unknown: covers of books", "unclear", UNKNOWN),
    ("", "unclear", UNKNOWN),
    (None, "unclear", UNKNOWN),
    ("(" * 900, "unclear", UNKNOWN),
    ("MIT OR " * 1000, "unclear", UNKNOWN),
]


@pytest.mark.parametrize(("statement", "commercial", "expression"), STATEMENTS, ids=lambda value: str(value)[:40])
def test_a_statement_comes_to(statement: str | None, commercial: str, expression: str) -> None:
    terms = read_terms(statement)
    assert (terms.commercial, terms.expression) == (commercial, expression)
    assert terms.keys
    unexplained = terms.commercial == "unclear" and UNKNOWN in terms.keys and terms.problem is None
    assert not unexplained or (statement or "unknown").startswith("unknown")


def test_there_are_sixty_statements() -> None:
    assert len(STATEMENTS) >= 60


def test_words_behind_a_license_never_make_it_freer() -> None:
    generator = random.Random(0)
    words = [
        "only",
        "images",
        "code",
        "(data)",
        ",",
        ";",
        "but",
        "for",
        "AND",
        "OR",
        "see",
        "MIT",
        "CC-BY-NC",
        "x",
        "WITH",
    ]
    keys = [key for key in table()["terms"] if not key.startswith("LicenseRef")]
    for _ in range(300):
        key = generator.choice(keys)
        rest = " ".join(generator.choices(words, k=generator.randint(1, 4)))
        terms = read_terms(f"{key}{generator.choice([' ', ', ', ' - '])}{rest}")
        # A choice (OR) that is understood as a whole may be freer; nothing else is.
        assert (
            " OR " in rest
            or rest.startswith("OR")
            or _strictness(terms.commercial) >= _strictness(read_terms(key).commercial)
        ), (key, rest, terms)
        if terms.commercial == "yes":
            assert terms.problem is None
            assert UNKNOWN not in terms.expression


def _strictness(verdict: str) -> int:
    return VERDICTS.index(verdict)


def test_every_license_of_creative_commons_has_a_rule() -> None:
    for kind in ("", "-SA", "-ND", "-NC", "-NC-SA", "-NC-ND"):
        for version in ("2.0", "2.5", "3.0", "4.0"):
            rule = table()["terms"][f"CC-BY{kind}-{version}"]
            assert (rule["commercial"] == "no") == ("NC" in kind)


@pytest.mark.parametrize("key", [LLAMA_2, LLAMA_3, "LicenseRef-scancode-llama-3.1-license-2024"])
def test_every_llama_license_has_the_clause_of_many_users(key: str) -> None:
    assert any("700 million" in one for one in table()["terms"][key]["obligations"])


def test_a_remainder_is_a_problem_that_stands_in_the_license_file() -> None:
    base = {"role": "language_model", "name": "me/x", "origin": "hub", "revision": "0" * 40}
    run = RunRecord.from_dict({"stage": "a", "base_models": [base], "mixture": {"sources": []}})
    facts = CardFacts(licenses={"me/x": {"license": "MIT, if you ask"}})
    statement = compose_licenses(run, None, facts)
    assert statement.problems == ["me/x: in 'MIT, if you ask', what 'if you ask' means is not understood"]
    assert (statement.commercial, statement.hub_license) == ("unclear", "unknown")
