"""`llava publish` to a Hub on loopback with the unmodified client: what arrives, what is kept, what is refused."""

import shutil
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from tests.hub.loopback import LoopbackHub

from transformers_llava.hub.expectations import check_expected
from transformers_llava.hub.planning import plan_publication
from transformers_llava.hub.publishing import PublishingError, publish
from transformers_llava.hub.remote import expected_of, read_remote
from transformers_llava.hub.staging import Publication, stage_publication

from .two_stages import shared_two_stages


LLAVA = (sys.executable, "-m", "transformers_llava.cli.main")
ANSWER = """
import json, sys
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline
name, revision, ours = sys.argv[1], sys.argv[2] or None, sys.argv[3] == "ours"
if ours:
    import transformers_llava
model = AutoModelForImageTextToText.from_pretrained(name, revision=revision)
processor = AutoProcessor.from_pretrained(name, revision=revision)
answerer = pipeline("image-text-to-text", model=model, processor=processor)
picture = Image.effect_mandelbrot((40, 30), (-2, -1.5, 1, 1.5), 50).convert("RGB")
said = [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": "What is 3?"}]}]
answer = answerer(text=said, return_full_text=False, generate_kwargs={"max_new_tokens": 8, "do_sample": False})
inputs = processor(images=picture, text="<image> What", return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits
print(json.dumps([type(model).__name__, answer[0]["generated_text"], logits[0, -1, :8].tolist()]))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_two_stages(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def publication(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Publication:
    folder = tmp_path_factory.mktemp("hub") / "publication"
    return stage_publication(checkpoint, "loopback/tiny", folder, self_contained=True, allow_incomplete=True)


@pytest.fixture
def copy(publication: Publication, tmp_path: Path) -> Publication:
    shutil.copytree(publication.folder, tmp_path / "copy")
    return Publication(**{**vars(publication), "folder": tmp_path / "copy"})


@pytest.fixture
def api(loopback_hub: LoopbackHub) -> HfApi:
    return HfApi(endpoint=loopback_hub.endpoint, token=loopback_hub.token)


@pytest.mark.parametrize("loopback_hub", ["lfs", "xet"], indirect=True)
def test_a_stranger_loads_verifies_and_asks_what_was_published(
    loopback_hub: LoopbackHub, checkpoint: Path, tmp_path: Path
) -> None:
    repo_id = "loopback/tiny"
    command = [*LLAVA, "publish", str(checkpoint), repo_id, "--self_contained", "--allow_incomplete"]
    planned = loopback_hub.start(*command)
    out, _ = planned.communicate(timeout=120)
    assert planned.returncode == 0, out
    assert "nothing was sent" in out
    assert not loopback_hub.repo(repo_id).exists()

    sent = loopback_hub.start(*command, "--yes")
    out, _ = sent.communicate(timeout=180)
    assert sent.returncode == 0, out
    tag = out.split(f"published: {repo_id}@")[1].split()[0]
    assert loopback_hub.repo(repo_id).refs("refs/tags/")  # and nothing else was tagged
    head = HfApi(endpoint=loopback_hub.endpoint, token=loopback_hub.token).repo_info(repo_id).sha

    again = loopback_hub.start(*command, "--yes")
    verified = loopback_hub.start(*LLAVA, "verify", repo_id, caches=tmp_path / "stranger")
    out, _ = again.communicate(timeout=180)
    assert again.returncode == 0, out
    assert "nothing to send" in out
    out, _ = verified.communicate(timeout=180)
    assert verified.returncode == 0, out
    assert all(f"L{level} OK" in out for level in (0, 1, 2)), out
    assert f"ok       tags of the repository: {tag}; whoever may write" in out
    assert "skipped  expected digest: none was given" in out
    assert HfApi(endpoint=loopback_hub.endpoint, token=loopback_hub.token).repo_info(repo_id).sha == head

    theirs = loopback_hub.run(ANSWER, repo_id, tag, "theirs", caches=tmp_path / "stranger")
    ours = loopback_hub.run(ANSWER, str(checkpoint), "", "ours")
    assert theirs.returncode == ours.returncode == 0, theirs.stderr + ours.stderr
    their_class, their_answer, their_logits = eval(theirs.stdout.splitlines()[-1])
    our_class, our_answer, our_logits = eval(ours.stdout.splitlines()[-1])
    assert (their_class, our_class) == ("LlavaForConditionalGeneration", "OpenLlavaForConditionalGeneration")
    assert their_answer == our_answer
    assert their_logits == pytest.approx(our_logits, abs=1e-5)


def test_anybody_replays_the_end_of_the_run_from_the_repository(
    loopback_hub: LoopbackHub, checkpoint: Path, tmp_path: Path
) -> None:
    command = [*LLAVA, "publish", str(checkpoint), "loopback/tiny", "--self_contained", "--allow_incomplete", "--yes"]
    sent = loopback_hub.start(*command, "--replay_from", str(checkpoint / "checkpoint-2"), "--no_check")
    out, _ = sent.communicate(timeout=180)
    assert sent.returncode == 0, out
    again = loopback_hub.start(*LLAVA, "reproduce", "loopback/tiny", str(tmp_path / "again"), "--replay")
    out, _ = again.communicate(timeout=240)
    assert again.returncode == 0, out
    assert "L3 OK" in out
    assert "every tensor is identical, bit for bit" in out


def test_an_edited_card_has_no_tag_and_a_manifest_written_anew_has_not_either(api: HfApi, copy: Publication) -> None:
    tag = publish(plan_publication(copy, "loopback/tiny", api), api, check_download=False)
    api.upload_file(repo_id="loopback/tiny", path_in_repo="notes.md", path_or_fileobj=b"x")
    state = read_remote(api, "loopback/tiny")
    assert state.head not in state.tags.values()
    assert expected_of(state, None).tags_elsewhere == (tag,)
    tagged = expected_of(read_remote(api, "loopback/tiny", tag), tag)
    assert (tagged.digests, tagged.tags_here) == ((tag,), (tag,))
    digest = copy.manifest.digest
    assert [one.status for one in check_expected(digest, tagged)] == ["ok", "ok"]
    (copy.folder / "mixture.md").write_text("other")
    anew = _with_manifest(copy).manifest
    assert anew.tag != tag
    assert [one.status for one in check_expected(anew.digest, expected_of(state, None))] == ["skipped", "failed"]
    api.delete_tag("loopback/tiny", tag=tag)
    untagged = expected_of(read_remote(api, "loopback/tiny"), None)
    assert [one.status for one in check_expected(digest, untagged)] == ["skipped"]


def test_the_words_of_a_person_survive_the_next_publication(
    loopback_hub: LoopbackHub, api: HfApi, copy: Publication
) -> None:
    publish(plan_publication(copy, "loopback/tiny", api), api, check_download=False)
    card = (copy.folder / "README.md").read_text()
    api.upload_file(
        repo_id="loopback/tiny", path_in_repo="README.md", path_or_fileobj=(card + "\nMy own words.\n").encode()
    )
    api.upload_file(repo_id="loopback/tiny", path_in_repo="picture.png", path_or_fileobj=b"\x89PNG")
    (copy.folder / "README.md").write_text(card)
    plan = plan_publication(copy, "loopback/tiny", api)
    assert plan.changed == []
    assert "My own words." in (copy.folder / "README.md").read_text()
    assert plan.deleted == []


def test_a_file_that_the_next_publication_has_not_is_dropped_with_it(api: HfApi, copy: Publication) -> None:
    (copy.folder / "old.json").write_text("{}")
    first = _with_manifest(copy)
    publish(plan_publication(first, "loopback/tiny", api), api, check_download=False)
    (copy.folder / "old.json").unlink()
    second = _with_manifest(copy)
    plan = plan_publication(second, "loopback/tiny", api)
    assert plan.deleted == ["old.json"]
    assert "  drop" in str(plan)
    tag = publish(plan, api, check_download=False)
    assert tag == second.manifest.tag != first.manifest.tag
    assert "old.json" not in api.list_repo_files("loopback/tiny", revision=tag)


def test_a_repository_that_changed_since_the_plan_is_left_as_it_is(api: HfApi, publication: Publication) -> None:
    api.create_repo("loopback/tiny")
    plan = plan_publication(publication, "loopback/tiny", api)
    there = api.upload_file(repo_id="loopback/tiny", path_in_repo="x.txt", path_or_fileobj=b"x").oid
    with pytest.raises(PublishingError, match="has changed since the plan was made"):
        publish(plan, api, check_download=False)
    assert api.repo_info("loopback/tiny").sha == there
    assert api.list_repo_refs("loopback/tiny").tags == []


def test_a_secret_never_leaves(
    loopback_hub: LoopbackHub, api: HfApi, publication: Publication, tmp_path: Path
) -> None:
    from transformers_llava.hub.scanning import scan_folder

    folder = tmp_path / "leaky"
    shutil.copytree(publication.folder, folder)
    (folder / "mixture.md").write_text("HF_TOKEN=hf_" + "aB3" * 11 + "x\n")
    leaky = Publication(**{**vars(publication), "folder": folder, "findings": scan_folder(folder)})
    plan = plan_publication(leaky, "loopback/leaky", api)
    assert "must not leave: " in str(plan)
    assert "mixture.md" in str(plan)
    with pytest.raises(PublishingError, match="must not leave the machine"):
        publish(plan, api)
    assert not loopback_hub.repo("loopback/leaky").exists()


def test_through_a_pull_request_it_is_merged_once_it_verifies(api: HfApi, publication: Publication) -> None:
    said: list[str] = []
    tag = publish(
        plan_publication(publication, "loopback/tiny", api),
        api,
        pull_request=True,
        check_download=False,
        say=said.append,
    )
    assert said[-2:] == ["merged pull request 1", f"tagged {tag}"]
    assert [one.status for one in api.get_repo_discussions("loopback/tiny")] == ["merged"]
    assert api.list_repo_refs("loopback/tiny").tags[0].target_commit == api.repo_info("loopback/tiny").sha


def test_a_card_with_gaps_is_not_published_unless_wanted(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_incomplete"):
        stage_publication(checkpoint, "me/tiny", tmp_path / "a")
    stage_publication(checkpoint, "me/tiny", tmp_path / "b", allow_incomplete=True)
    assert stage_publication(checkpoint, "me/tiny", tmp_path / "c", allow_incomplete=True).manifest.incomplete


def test_staging_twice_gives_the_same_manifest(checkpoint: Path, publication: Publication, tmp_path: Path) -> None:
    again = stage_publication(checkpoint, "loopback/tiny", tmp_path / "x", self_contained=True, allow_incomplete=True)
    assert again.manifest.digest == publication.manifest.digest
    assert again.left_out[".cache"] == "it names places of this machine"
    assert again.findings == []


def _with_manifest(publication: Publication) -> Publication:
    from transformers_llava.hub.manifest import write_manifest

    before = publication.manifest
    manifest = write_manifest(
        publication.folder, layout=before.layout, repo_id=before.repo_id, incomplete=before.incomplete
    )
    return Publication(**{**vars(publication), "manifest": manifest})
