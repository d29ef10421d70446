"""`llava publish` to a Hub on loopback with the unmodified client: what arrives, what is kept, what is refused."""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import CommitOperationAdd, HfApi
from safetensors.torch import save
from tests.fake_hub.loopback import LoopbackHub
from tests.hub.two_stages import shared_two_stages

from transformers_llava.cli.errors import CommandError
from transformers_llava.cli.main import main
from transformers_llava.hub.publication.manifest import MANIFEST_NAME, read_manifest, write_manifest
from transformers_llava.hub.publication.signing import SIGNATURE_NAME, sign
from transformers_llava.hub.publication.stage import Publication, stage_publication
from transformers_llava.hub.upload.foreign_files import NOT_OURS_NAME
from transformers_llava.hub.upload.plan import plan_publication
from transformers_llava.hub.upload.publish import PublishingError, publish
from transformers_llava.hub.upload.remote import RemoteState, differing_files, expected_of, read_remote
from transformers_llava.hub.verification.expectation import check_expected
from transformers_llava.hub.verification.verify import verify


pytestmark = pytest.mark.slow

ONE_TENSOR = save({"more": torch.ones(1)})
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
image = Image.effect_mandelbrot((40, 30), (-2, -1.5, 1, 1.5), 50).convert("RGB")
said = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "What is 3?"}]}]
answer = answerer(text=said, return_full_text=False, generate_kwargs={"max_new_tokens": 8, "do_sample": False})
inputs = processor(images=image, text="<image> What", return_tensors="pt")
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
def test_a_other_user_loads_verifies_and_asks_what_was_published(
    loopback_hub: LoopbackHub, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    repo_id = "loopback/tiny"
    command = ["publish", str(checkpoint), repo_id, "--self_contained", "--allow_incomplete"]
    assert main(command) == 0
    assert "nothing was sent" in capsys.readouterr().out
    assert not loopback_hub.repo(repo_id).exists()

    sent = loopback_hub.start(*LLAVA, *command, "--yes")
    out, _ = sent.communicate(timeout=600)
    assert sent.returncode == 0, out
    tag = out.split(f"published: {repo_id}@")[1].split()[0]
    assert loopback_hub.repo(repo_id).refs("refs/tags/")  # and nothing else was tagged
    head = HfApi(endpoint=loopback_hub.endpoint, token=loopback_hub.token).repo_info(repo_id).sha

    assert main([*command, "--yes"]) == 0
    assert "nothing to send" in capsys.readouterr().out
    verified = loopback_hub.start(*LLAVA, "verify", repo_id, caches=tmp_path / "other_user")
    out, _ = verified.communicate(timeout=600)
    assert verified.returncode == 0, out
    assert all(f"L{level} OK" in out for level in (0, 1, 2)), out
    assert f"ok       tags of the repository: {tag}; whoever may write" in out
    assert "skipped  expected digest: none was given" in out
    assert HfApi(endpoint=loopback_hub.endpoint, token=loopback_hub.token).repo_info(repo_id).sha == head

    theirs = loopback_hub.run(ANSWER, repo_id, tag, "theirs", caches=tmp_path / "other_user")
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
    command = ["publish", str(checkpoint), "loopback/tiny", "--self_contained", "--allow_incomplete", "--yes"]
    assert main([*command, "--replay_from", str(checkpoint / "checkpoint-2"), "--no_check"]) == 0
    again = loopback_hub.start(*LLAVA, "reproduce", "loopback/tiny", str(tmp_path / "again"), "--replay")
    out, _ = again.communicate(timeout=600)
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


def test_files_differ_that_have_other_bytes_or_that_the_client_would_pass_over(api: HfApi, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    for name in (".cache/huggingface/x", "changed.txt", "new.txt", "same.txt"):
        (folder / name).write_text(name)
    assert len(differing_files(api, RemoteState("loopback/none"), folder)) == 4
    api.create_repo("loopback/tiny")
    for name in ("changed.txt", "same.txt", "theirs.txt"):
        api.upload_file(repo_id="loopback/tiny", path_in_repo=name, path_or_fileobj=folder / "same.txt")
    differing = differing_files(api, read_remote(api, "loopback/tiny"), folder)
    assert differing == [".cache/huggingface/x", "changed.txt", "new.txt"]


def test_the_words_of_a_user_survive_the_next_publication(
    loopback_hub: LoopbackHub, api: HfApi, copy: Publication
) -> None:
    publish(plan_publication(copy, "loopback/tiny", api), api, check_download=False)
    card = (copy.folder / "README.md").read_text()
    api.upload_file(
        repo_id="loopback/tiny", path_in_repo="README.md", path_or_fileobj=(card + "\nMy own words.\n").encode()
    )
    api.upload_file(repo_id="loopback/tiny", path_in_repo="image.png", path_or_fileobj=b"\x89PNG")
    (copy.folder / "README.md").write_text(card)
    plan = plan_publication(copy, "loopback/tiny", api)
    assert (plan.changed, plan.deleted) == ([], [])
    publish(plan, api, check_download=False)
    assert "My own words." in (copy.folder / "README.md").read_text()


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_plan_writes_nothing_into_the_publication(api: HfApi, copy: Publication) -> None:
    """Whatever it brings over from there: words in the card, and files that are to be kept."""
    repo_id = "loopback/tiny"
    api.create_repo(repo_id)
    for name, data in (("README.md", b"# Mine\n"), ("app.py", b"print()"), ("more.safetensors", ONE_TENSOR)):
        api.upload_file(repo_id=repo_id, path_in_repo=name, path_or_fileobj=data)
    before, manifest = bytes_in(copy.folder), copy.manifest
    plan = plan_publication(copy, repo_id, api, with_foreign="keep")
    assert bytes_in(copy.folder) == before
    assert copy.manifest == manifest
    revised = {"README.md", MANIFEST_NAME, "app.py", "more.safetensors", NOT_OURS_NAME}
    assert plan.revised.keys() == revised
    plan.write()
    assert {name for name, data in bytes_in(copy.folder).items() if before.get(name) != data} == revised
    assert read_manifest(copy.folder) == plan.publication.manifest
    planned = bytes_in(copy.folder)[MANIFEST_NAME]
    write_manifest(copy.folder, layout=manifest.layout, repo_id=manifest.repo_id, incomplete=manifest.incomplete)
    assert bytes_in(copy.folder)[MANIFEST_NAME] == planned  # what listing the folder gives


@pytest.mark.parametrize("is_signed_before", [True, False])
def test_what_is_kept_is_signed_and_the_signature_is_sent_with_it(
    api: HfApi, copy: Publication, tmp_path: Path, is_signed_before: bool
) -> None:
    """Also where the repository has the signature of before already: that one is of other files."""
    pytest.importorskip("model_signing")
    repo_id, key = "loopback/tiny", tmp_path / "key.pem"
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key)]
    subprocess.run(command, check=True)
    if is_signed_before:
        sign(copy.folder, key)
    publish(plan_publication(copy, repo_id, api), api, check_download=False)
    api.upload_file(repo_id=repo_id, path_in_repo="app.py", path_or_fileobj=b"print()")
    plan = plan_publication(copy, repo_id, api, with_foreign="keep", key=key)
    assert SIGNATURE_NAME in plan.changed
    assert SIGNATURE_NAME not in plan.deleted
    tag = publish(plan, api, check_download=False)
    fetched = api.hf_hub_download(repo_id, SIGNATURE_NAME, revision=tag, local_dir=tmp_path / "fetched")
    assert Path(fetched).read_bytes() == (copy.folder / SIGNATURE_NAME).read_bytes()


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


def test_files_of_others_are_shown_and_nothing_is_sent_before_somebody_has_decided(
    api: HfApi, copy: Publication, tmp_path: Path
) -> None:
    repo_id = "loopback/tiny"
    api.create_repo(repo_id)
    for name, data in (("app.py", b"print()"), ("old/pytorch_model.bin", b"\0" * 9), ("photo.png", b"\x89PNG")):
        head = api.upload_file(repo_id=repo_id, path_in_repo=name, path_or_fileobj=data).oid
    plan = plan_publication(copy, repo_id, api)
    assert (plan.foreign.refused, plan.foreign.harmless) == (["app.py", "old/pytorch_model.bin"], ["photo.png"])
    assert "app.py, old/pytorch_model.bin. Say what becomes of them: --replace" in str(plan)
    with pytest.raises(PublishingError, match="--keep_foreign leaves them"):
        publish(plan, api)
    assert api.repo_info(repo_id).sha == head

    plan = plan_publication(copy, repo_id, api, with_foreign="keep")
    assert "kept               7" in str(plan)
    tag = publish(plan, api, check_download=False)
    assert set(json.loads((copy.folder / NOT_OURS_NAME).read_text())) == {"app.py", "old/pytorch_model.bin"}
    fetched = api.snapshot_download(repo_id, revision=tag, local_dir=tmp_path / "fetched")
    assert verify(fetched, expected=tag).passed
    assert plan_publication(copy, repo_id, api).is_done

    for name in ("app.py", "old/pytorch_model.bin", NOT_OURS_NAME):
        (copy.folder / name).unlink()
    (copy.folder / "old").rmdir()
    again = _with_manifest(copy)
    plan = plan_publication(again, repo_id, api)
    assert plan.foreign.refused == ["app.py", "old/pytorch_model.bin"]  # never ours, so not dropped unasked
    assert plan.deleted == [NOT_OURS_NAME]
    plan = plan_publication(again, repo_id, api, with_foreign="replace")
    assert plan.deleted == ["app.py", NOT_OURS_NAME, "old/pytorch_model.bin"]
    tag = publish(plan, api, check_download=False)
    left = api.list_repo_files(repo_id, revision=tag)
    assert "photo.png" in left
    assert not {"app.py", NOT_OURS_NAME, "old/pytorch_model.bin"} & {*left}


def test_what_would_not_verify_is_not_committed(loopback_hub: LoopbackHub, api: HfApi, copy: Publication) -> None:
    path = copy.folder / "recipe/2_instruct.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.001", "learning_rate: 0.002"))
    with pytest.raises(PublishingError, match="would not verify, so nothing was sent: L1 failed"):
        publish(plan_publication(_with_manifest(copy), "loopback/tiny", api), api, check_download=False)
    assert not loopback_hub.repo("loopback/tiny").exists()


def test_of_two_machines_with_a_new_repository_the_second_is_told_to_look_again(
    api: HfApi, publication: Publication, copy: Publication
) -> None:
    repo_id = "loopback/tiny"
    (copy.folder / "mine.json").write_text("{}")
    other = _with_manifest(copy)
    first, second = plan_publication(other, repo_id, api), plan_publication(publication, repo_id, api)
    tag = publish(first, api, check_download=False)
    head = api.repo_info(repo_id).sha
    with pytest.raises(PublishingError, match="was not there when the plan was made"):
        publish(second, api, check_download=False)
    assert api.repo_info(repo_id).sha == head
    second = plan_publication(publication, repo_id, api)
    assert second.deleted == ["mine.json"]
    later = publish(second, api, check_download=False)
    assert {one.name for one in api.list_repo_refs(repo_id).tags} == {tag, later}
    assert "mine.json" not in api.list_repo_files(repo_id)


def test_a_commit_between_a_new_repository_and_ours_is_not_built_on(api: HfApi, publication: Publication) -> None:
    class Raced(HfApi):
        """Somebody is faster after the repository has been made."""

        def create_repo(self, repo_id: str, **more: Any) -> Any:
            made = super().create_repo(repo_id, **more)
            self.upload_file(repo_id=repo_id, path_in_repo="app.py", path_or_fileobj=b"x")
            return made

    raced = Raced(endpoint=api.endpoint, token=api.token)
    with pytest.raises(PublishingError, match="has changed since the plan was made"):
        publish(plan_publication(publication, "loopback/tiny", raced), raced, check_download=False)
    assert api.list_repo_files("loopback/tiny") == [".gitattributes", "app.py"]


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
    from transformers_llava.hub.secrets.scan import scan_folder

    folder = tmp_path / "leaky"
    shutil.copytree(publication.folder, folder)
    (folder / "mixture.md").write_text("HF_TOKEN=hf_" + "aB3" * 11 + "x\n")
    leaky = Publication(**{**vars(publication), "folder": folder, "findings": scan_folder(folder).findings})
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


def test_a_pull_request_of_somebody_else_or_with_more_in_it_is_not_merged(
    loopback_hub: LoopbackHub, api: HfApi, publication: Publication
) -> None:
    repo_id, said = "loopback/tiny", []
    api.create_repo(repo_id)
    parent = api.repo_info(repo_id).sha
    plan = plan_publication(publication, repo_id, api)
    marker = f"manifest sha256 {plan.publication.manifest.digest}"
    for description in ("", marker):  # of ours by name, but not what we would have sent
        api.create_commit(
            repo_id,
            [_add("evil.py")],
            commit_message=f"Publish {plan.tag}",
            commit_description=description,
            parent_commit=parent,
            create_pr=True,
        )
    repository = loopback_hub.repo(repo_id)
    facts = repository.facts
    facts["discussions"][0]["author"]["name"] = "mallory"
    repository.facts = facts
    with pytest.raises(PublishingError, match=r"refs/pr/2 does not hold what was sent, or more than that"):
        publish(plan, api, pull_request=True, check_download=False, say=said.append)
    assert "pull request 1 has the same title and is left alone: it is of mallory" in said
    assert api.repo_info(repo_id).sha == parent

    added = api.create_commit(
        repo_id,
        [_add("a.txt"), *(_add(name, publication.folder / name) for name in plan.changed)],
        commit_message=f"Publish {plan.tag}",
        commit_description=marker,
        parent_commit=parent,
        create_pr=True,
    )
    with pytest.raises(PublishingError, match=r"more than that \(a\.txt\)"):
        publish(plan, api, pull_request=True, check_download=False)
    assert [one.status for one in api.get_repo_discussions(repo_id)] == ["draft", "closed", "closed"]
    assert added.pr_num == 3
    tag = publish(plan, api, pull_request=True, check_download=False)
    assert {*api.list_repo_files(repo_id, revision=tag)} == {".gitattributes", *plan.changed}


def test_a_plan_writes_nothing_and_leaves_nothing(
    loopback_hub: LoopbackHub, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setenv("TRANSFORMERS_LLAVA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = sorted(checkpoint.rglob("*"))
    assert _command(str(checkpoint), "loopback/tiny", "--self_contained", "--allow_incomplete") == 0
    assert [*(tmp_path / "scratch").iterdir()] == []
    assert not (tmp_path / "cache").exists()
    assert sorted(checkpoint.rglob("*")) == before
    with pytest.raises(CommandError, match="allow_incomplete"):
        _command(str(checkpoint), "loopback/tiny", "--output", str(tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()  # so that the next try finds an empty place


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--facts", "nowhere.yaml"], "nowhere.yaml"),
        (["--replay_from", "."], "is no state of a run"),
        (["--sign", "nowhere.pem"], "nowhere.pem"),
    ],
)
def test_a_mistyped_command_ends_in_one_message(checkpoint: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        _command(str(checkpoint), "loopback/tiny", "--allow_incomplete", *arguments)


def test_without_a_network_the_command_says_so(
    loopback_hub: LoopbackHub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CommandError, match=r"the Hub|127\.0\.0\.1"):
        _command(str(checkpoint), "loopback/tiny", "--allow_incomplete")


def test_a_card_with_gaps_is_not_published_unless_wanted(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_incomplete"):
        stage_publication(checkpoint, "me/tiny", tmp_path / "a")
    stage_publication(checkpoint, "me/tiny", tmp_path / "b", allow_incomplete=True)
    assert stage_publication(checkpoint, "me/tiny", tmp_path / "c", allow_incomplete=True).manifest.incomplete


def test_staging_twice_gives_the_same_manifest(checkpoint: Path, publication: Publication, tmp_path: Path) -> None:
    again = stage_publication(checkpoint, "loopback/tiny", tmp_path / "x", self_contained=True, allow_incomplete=True)
    assert again.manifest.digest == publication.manifest.digest
    assert again.left_out[".cache"] == "it names paths of this machine"
    assert again.findings == []


def _command(*arguments: str) -> int:
    """`llava publish` in this process."""
    from transformers_llava.cli.commands.publications import publish as command

    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return command.run(parser.parse_args(["publish", *arguments]))


def _add(name: str, content: Path | bytes = b"x") -> CommitOperationAdd:
    return CommitOperationAdd(name, content)


def _with_manifest(publication: Publication) -> Publication:
    from transformers_llava.hub.publication.manifest import write_manifest

    before = publication.manifest
    manifest = write_manifest(
        publication.folder, layout=before.layout, repo_id=before.repo_id, incomplete=before.incomplete
    )
    return Publication(**{**vars(publication), "manifest": manifest})
