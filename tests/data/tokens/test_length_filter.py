"""A data set to the part that fits: what is cut, what is left out and why, and that counting again is cheap."""

import pytest
from datasets import Dataset, concatenate_datasets

from transformers_llava.data.mixture.subsampling import TokenBudget
from transformers_llava.data.schema import EXAMPLE_FEATURES, RecordError
from transformers_llava.data.tokens import length_filter as measuring
from transformers_llava.data.tokens.counting import TokenCounter
from transformers_llava.data.tokens.encoding import encode_example
from transformers_llava.data.tokens.length_filter import measure_examples
from transformers_llava.data.tokens.policy import EncodingPolicy


@pytest.fixture
def dataset(example) -> Dataset:
    """Three examples with an image, which stands before the text, and one without."""
    examples = [
        example([None, "Q"], "A", id="short"),
        example([None, "Q"], "A" * 9, id="long answer"),
        example([None, "Q" * 17], "A", id="long question"),
        example("Q", "A", id="text"),
    ]
    return Dataset.from_list(examples, features=EXAMPLE_FEATURES)


def test_lengths_are_those_of_the_encoding(tiny_processor, dataset):
    measured = measure_examples(dataset, tiny_processor)
    assert measured.dataset is dataset
    assert measured.lengths == [
        (len(encode_example(example, tiny_processor).input_ids), bool(example["images"])) for example in dataset
    ]
    report = measured.report
    assert (report.num_examples, report.num_with_image, report.num_over_long) == (4, 3, 0)
    assert report.num_tokens == sum(length.num_tokens for length in measured.lengths)
    assert report.longest == max(length.num_tokens for length in measured.lengths)


def test_what_can_be_cut_is_cut_and_the_rest_is_left_out_with_its_reason(tiny_processor, dataset):
    limit = len(encode_example(dataset[0], tiny_processor).input_ids)
    measured = measure_examples(dataset, tiny_processor, EncodingPolicy(limit))
    assert measured.dataset["id"] == ["short", "long answer", "text"]
    assert [length.num_tokens for length in measured.lengths] == [
        len(encode_example(example, tiny_processor, EncodingPolicy(limit)).input_ids) for example in measured.dataset
    ]
    assert dict(measured.report.dropped) == {"no_supervised_token": 1}
    assert (measured.report.num_over_long, measured.report.num_truncated) == (2, 1)
    assert "record 's/long question'" in measured.report.examples["no_supervised_token"][0]


def test_an_image_is_never_cut(tiny_processor, dataset):
    measured = measure_examples(dataset, tiny_processor, EncodingPolicy(9))
    assert dict(measured.report.dropped) == {"too_long": 3, "no_supervised_token": 1}
    assert measured.lengths == []


def test_the_policies_drop_and_error(tiny_processor, dataset):
    limit = len(encode_example(dataset[0], tiny_processor).input_ids)
    measured = measure_examples(dataset, tiny_processor, EncodingPolicy(limit, "drop"))
    assert measured.dataset["id"] == ["short", "text"]
    assert dict(measured.report.dropped) == {"too_long": 2}
    with pytest.raises(RecordError, match=r"record 's/long answer': it has \d+ tokens, more than max_length"):
        measure_examples(dataset, tiny_processor, EncodingPolicy(limit, "error"))
    with pytest.raises(RecordError, match="'s/long question': not one of its tokens"):
        measure_examples(dataset, tiny_processor, EncodingPolicy(limit), strict=True)
    with pytest.raises(ValueError, match="too_long must be"):
        EncodingPolicy(too_long="shrink")


def test_a_template_without_answers_is_found_before_training(tiny_processor, dataset):
    template = "{% for m in messages %}{{ m['content'][0]['text'] }}{% endfor %}"
    assert dict(
        measure_examples(dataset.select([3]), tiny_processor, EncodingPolicy(template=template)).report.dropped
    ) == {"no_supervised_token": 1}


def test_an_example_that_the_template_refuses_costs_itself_alone(tiny_processor, dataset):
    refuses = "{% if messages|length > 2 %}{{ raise_exception('one question only') }}{% endif %}"
    longer = dataset.map(
        lambda row: {"messages": row["messages"] * (2 if row["id"] == "text" else 1)}, features=dataset.features
    )
    measured = measure_examples(
        longer, tiny_processor, EncodingPolicy(template=refuses + tiny_processor.chat_template)
    )
    assert dict(measured.report.dropped) == {"template_error": 1}
    assert "one question only" in measured.report.examples["template_error"][0]
    with pytest.raises(ValueError, match="the chat template is no Jinja"):
        measure_examples(dataset, tiny_processor, EncodingPolicy(template="{% for m in messages %}"))
    for num_proc, max_length, message in ((0, 9, "num_proc=0"), (1, 0, "max_length=0")):
        with pytest.raises(ValueError, match=message):
            measure_examples(dataset, tiny_processor, EncodingPolicy(max_length), num_proc=num_proc)


def test_an_unreadable_header_leaves_its_example_out(tiny_processor, dataset):
    broken = dataset.map(lambda row: {"images": [{"bytes": b"no image", "path": None}] * len(row["images"])})
    measured = measure_examples(broken, tiny_processor)
    assert (measured.dataset["id"], dict(measured.report.dropped)) == (["text"], {"unreadable_image": 3})


def test_the_number_of_processes_changes_nothing(tiny_processor, dataset, monkeypatch):
    monkeypatch.setattr(measuring, "_ROWS_PER_TASK", 3)
    many = dataset.select([0, 1, 2, 3] * 5)
    one = measure_examples(many, tiny_processor, EncodingPolicy(30))
    two = measure_examples(many, tiny_processor, EncodingPolicy(30), num_proc=2)
    assert (one.lengths, one.report) == (two.lengths, two.report)
    assert len(one.lengths) + one.report.dropped.total() == 20


def test_counts_are_kept_under_content_template_and_policy(tiny_processor, dataset, monkeypatch):
    counted = []
    outcome = TokenCounter.outcome
    monkeypatch.setattr(TokenCounter, "outcome", lambda *args: counted.append(1) or outcome(*args))

    def num_counted(**kwargs) -> int:
        counted.clear()
        measure_examples(dataset, tiny_processor, **kwargs)
        return len(counted)

    assert [num_counted(cache_key="a"), num_counted(cache_key="a")] == [4, 0]
    assert num_counted(cache_key="b") == 4
    assert num_counted(cache_key="a", policy=EncodingPolicy(30)) == 4
    assert num_counted(cache_key="a", policy=EncodingPolicy(template=tiny_processor.chat_template + " ")) == 4
    assert [num_counted(), num_counted()] == [4, 4]


def test_an_interrupted_count_goes_on_where_it_stopped(tiny_processor, dataset, monkeypatch):
    monkeypatch.setattr(measuring, "_ROWS_PER_TASK", 2)
    monkeypatch.setattr(measuring, "_ROWS_PER_PART", 4)
    many = dataset.select([0, 1, 2, 3] * 3)
    expected = measure_examples(many, tiny_processor)
    counted = []
    outcome = TokenCounter.outcome

    def stop_at_the_seventh(*args):
        counted.append(1)
        if len(counted) == 7:
            raise KeyboardInterrupt
        return outcome(*args)

    monkeypatch.setattr(TokenCounter, "outcome", stop_at_the_seventh)
    with pytest.raises(KeyboardInterrupt):
        measure_examples(many, tiny_processor, cache_key="a")
    again = measure_examples(many, tiny_processor, cache_key="a")
    assert len(counted) == 7 + 8  # the first four were kept
    assert (again.lengths, again.report) == (expected.lengths, expected.report)


def test_nothing_has_no_lengths(tiny_processor, dataset):
    measured = measure_examples(dataset.select([]), tiny_processor, EncodingPolicy(5), num_proc=2)
    assert (measured.lengths, measured.report.longest) == ([], 0)


def test_a_token_budget_limits_its_source_and_counts_what_it_leaves_out(tiny_processor, dataset):
    other = dataset.map(lambda row: {"source": "t"}, features=dataset.features)
    both = concatenate_datasets([dataset, other])
    everything = measure_examples(both, tiny_processor)
    budget = sum(length.num_tokens for length in everything.lengths[:4]) - 1
    measured = measure_examples(both, tiny_processor, token_budgets={"s": TokenBudget(budget, 0)})
    kept = {name: [r for r, source in enumerate(measured.dataset["source"]) if source == name] for name in "st"}
    assert len(kept["t"]) == 4
    assert 0 < len(kept["s"]) < 4
    assert sum(measured.lengths[row].num_tokens for row in kept["s"]) <= budget
    assert measured.report.beyond_budget == {"s": 4 - len(kept["s"])}
    assert measured.report.rows_digest != everything.report.rows_digest
