"""Send a plan as one commit to the Hub, check it where it lies, and only then tag it."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from transformers_llava.hub.upload.plan import PublicationPlan
from transformers_llava.hub.upload.remote import differing_files, read_remote
from transformers_llava.hub.verification.verify import verify


_LOADING = """
import sys
from transformers import AutoModelForImageTextToText, AutoProcessor
AutoProcessor.from_pretrained(sys.argv[1])
_, report = AutoModelForImageTextToText.from_pretrained(sys.argv[1], output_loading_info=True)
assert not report["missing_keys"] and not report["unexpected_keys"], report
"""


_OF_THE_HUB = {".gitattributes"}  # written by the Hub itself, for large files


class PublishingError(ValueError):
    """Nothing was tagged: what lies on the Hub is as before, or one whole commit that running again tags."""


def publish(
    plan: PublicationPlan,
    api: HfApi,
    *,
    private: bool = False,
    pull_request: bool = False,
    check_download: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> str:
    """
    Sends a plan as one atomic commit, verifies what the Hub gives back, and tags it with the manifest's digest.

    It can be stopped anywhere and started again: files that have arrived are not sent again, a commit that is there is
    not made again, and the tag comes last. So a tag always names a whole, verified publication.

    Args:
        plan (`PublicationPlan`): Made just before; a repository that has changed since is refused.
        api (`HfApi`): The client.
        private (`bool`, *optional*): Of a new repository; one that has appeared since the plan is refused.
        pull_request (`bool`, *optional*): Commits to a pull request, which is merged when it has been verified.
        check_download (`bool`, *optional*): Fetches and loads what was sent before it is tagged.
        say (`Callable`, *optional*): Told what happens.

    Returns:
        `str`: The tag.

    Raises:
        `PublishingError`: something must not leave, it would not verify where it is to lie, a user has to decide
            about files of others, the repository has changed, or something else came back.
    """
    if plan.blockers:
        raise PublishingError("this must not leave the machine: " + "; ".join(plan.blockers))
    if plan.question is not None:
        raise PublishingError(plan.question)
    plan.write()
    repo_id = plan.remote.repo_id
    if plan.is_done:
        commit = str(plan.remote.head)
        say(f"{repo_id} has all of it at {commit[:12]}")
        _check(plan, api, commit, check_download, say)
        return _tag(plan, api, commit, say)
    _check_before(plan, say)
    parent = plan.remote.head or _create(plan, api, private)
    if pull_request:
        return _through_pull_request(plan, api, parent, check_download, say)
    say(f"sending {len(plan.changed)} files to {repo_id}")
    commit = _commit(plan, api, parent).oid
    _check(plan, api, commit, check_download, say)
    return _tag(plan, api, commit, say)


def _check_before(plan: PublicationPlan, say: Callable[[str], None]) -> None:
    """What would be there, as verification will see it: a commit that does not verify is not made at all."""
    say("verifying what is to be sent")
    # Its run record is read anew, as is that of what comes back: the proof is of the files as they lie there.
    report = verify(plan.publication.folder, expected=plan.tag)
    if not report.passed:
        problems = "; ".join(str(check) for check in report.failed)
        raise PublishingError(f"it would not verify, so nothing was sent: {problems}")


def _create(plan: PublicationPlan, api: HfApi, private: bool) -> str:
    """Makes the repository that the plan did not find, and returns its first commit: ours stands on nothing else."""
    repo_id = plan.remote.repo_id
    try:
        api.create_repo(repo_id, private=private)
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code == 409:
            raise PublishingError(
                f"{repo_id} was not there when the plan was made (or this token may not see it), and is there now, so "
                "it was left as it is. Run the command again: the plan then shows what it holds."
            ) from error
        raise
    return api.list_repo_commits(repo_id)[-1].commit_id


def _commit(plan: PublicationPlan, api: HfApi, parent: str, *, create_pr: bool = False) -> CommitInfo:
    repo_id = plan.remote.repo_id
    try:
        return api.create_commit(
            repo_id,
            _operations(plan),
            commit_message=_title(plan),
            commit_description=_description(plan),
            parent_commit=parent,
            create_pr=create_pr,
        )
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code == 412:
            raise _changed(repo_id) from error
        raise
    except RuntimeError as error:  # of hf_xet, which sends large files
        raise PublishingError(
            f"the files did not arrive ({error}), and nothing was committed. Run it again."
        ) from error


def _changed(repo_id: str) -> PublishingError:
    return PublishingError(
        f"{repo_id} has changed since the plan was made, so it was left as it is. Run the command again."
    )


def _through_pull_request(
    plan: PublicationPlan, api: HfApi, parent: str, check_download: bool, say: Callable[[str], None]
) -> str:
    """One pull request, made now or left by an interrupted try of ours; verified, then merged."""
    repo_id = plan.remote.repo_id
    number = _own_pull_request(plan, api, parent, say)
    if number is None:
        say(f"sending {len(plan.changed)} files to a pull request of {repo_id}")
        number = int(str(_commit(plan, api, parent, create_pr=True).pr_num))
    else:
        say(f"resuming pull request {number}")
    try:
        _check(plan, api, f"refs/pr/{number}", check_download, say)
        if api.repo_info(repo_id).sha != parent:
            raise _changed(repo_id)
    except PublishingError as error:
        api.change_discussion_status(repo_id, number, new_status="closed", comment=str(error))
        raise
    api.change_discussion_status(repo_id, number, new_status="open")
    api.merge_pull_request(repo_id, number)
    say(f"merged pull request {number}")
    commit = str(api.repo_info(repo_id).sha)
    _check(plan, api, commit, False, say)  # the request may have got another commit in its last moment
    return _tag(plan, api, commit, say)


def _own_pull_request(plan: PublicationPlan, api: HfApi, parent: str, say: Callable[[str], None]) -> int | None:
    """
    What an interrupted try has left: opened by the same account, of the same publication, one commit on top of what
    is there now. Anybody may open one with the same title; such a one is left alone.
    """
    repo_id, me = plan.remote.repo_id, None
    for found in api.get_repo_discussions(repo_id):
        if not found.is_pull_request or found.status not in ("draft", "open") or found.title != _title(plan):
            continue
        me = me or api.whoami()["name"]
        commits = api.list_repo_commits(repo_id, revision=f"refs/pr/{found.num}")
        newest, below = commits[0], commits[1:2]
        is_alone = [one.commit_id for one in below] == [parent] and newest.message.strip() == _description(plan)
        if found.author == me and is_alone:
            return found.num
        whose = "it has other commits than ours" if found.author == me else f"it is of {found.author}"
        say(f"pull request {found.num} has the same title and is left alone: {whose}")
    return None


def _operations(plan: PublicationPlan) -> list[CommitOperationAdd | CommitOperationDelete]:
    folder = plan.publication.folder
    added = [CommitOperationAdd(name, folder / name) for name in plan.changed]
    return [*added, *(CommitOperationDelete(name) for name in plan.deleted)]


def _title(plan: PublicationPlan) -> str:
    return f"Publish {plan.tag}"


def _description(plan: PublicationPlan) -> str:
    return f"manifest sha256 {plan.publication.manifest.digest}"


def _check(plan: PublicationPlan, api: HfApi, revision: str, check_download: bool, say: Callable[[str], None]) -> None:
    """What the Hub says it holds, file by file; and with `check_download` what it gives, verified and loaded."""
    remote = read_remote(api, plan.remote.repo_id, revision)
    folder = plan.publication.folder
    ours = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    left = {name: file for name, file in plan.remote.files.items() if name not in {*ours, *plan.deleted}}
    wrong = differing_files(api, remote, folder)
    wrong += [name for name, file in left.items() if remote.files.get(name) != file]
    wrong += [name for name in remote.files if name not in ours and name not in left]
    wrong = sorted({*wrong} - _OF_THE_HUB)
    if wrong:
        raise PublishingError(
            f"{plan.remote.repo_id} at {revision} does not hold what was sent, or more than that "
            f"({', '.join(wrong[:5])}), so it is not tagged. Run the command again."
        )
    if not check_download:
        return
    say("fetching it back, verifying, loading")
    with tempfile.TemporaryDirectory() as scratch:
        fetched = Path(
            snapshot_download(plan.remote.repo_id, revision=remote.head, local_dir=scratch, token=api.token)
        )
        report = verify(fetched, expected=plan.tag)
        if not report.passed:
            problems = "; ".join(str(check) for check in report.failed)
            raise PublishingError(f"what came back from {plan.remote.repo_id} does not verify: {problems}")
        _load(fetched, plan.publication.layout)


def _load(folder: Path, layout: str) -> None:
    """In a fresh process, as another user would: transformers alone for the built-in layout."""
    code = _LOADING if layout == "builtin" else f"import transformers_llava\n{_LOADING}"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PublishingError(f"what came back does not load: {done.stderr.strip().splitlines()[-1:]}")


def _tag(plan: PublicationPlan, api: HfApi, commit: str, say: Callable[[str], None]) -> str:
    repo_id, manifest = plan.remote.repo_id, plan.publication.manifest
    there = read_remote(api, repo_id).tags.get(plan.tag)
    if there is None:
        api.create_tag(repo_id, tag=plan.tag, tag_message=f"manifest sha256 {manifest.digest}", revision=commit)
        say(f"tagged {plan.tag}")
    elif there != commit:
        # Same manifest, other commit: somebody edited the card since. The tag keeps naming the first such commit.
        say(f"{plan.tag} is already the tag of {there[:12]}, which holds the same files")
    return plan.tag


__all__ = ["PublishingError", "publish"]
