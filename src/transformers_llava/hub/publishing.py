"""A plan to one commit on the Hub, checked where it lies and only then tagged."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from transformers_llava.hub.planning import PublicationPlan
from transformers_llava.hub.remote import read_remote
from transformers_llava.hub.verification import verify


_LOADING = """
import sys
from transformers import AutoModelForImageTextToText, AutoProcessor
AutoProcessor.from_pretrained(sys.argv[1])
_, report = AutoModelForImageTextToText.from_pretrained(sys.argv[1], output_loading_info=True)
assert not report["missing_keys"] and not report["unexpected_keys"], report
"""


class PublishingError(ValueError):
    """Nothing was tagged: what lies on the Hub is as before, or one whole commit that is not good."""


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
        private (`bool`, *optional*): Of a new repository.
        pull_request (`bool`, *optional*): Commits to a pull request, which is merged when it has been verified.
        check_download (`bool`, *optional*): Fetches and loads what was sent before it is tagged.
        say (`Callable`, *optional*): Told what happens.

    Returns:
        `str`: The tag.

    Raises:
        `PublishingError`: something must not leave, the repository has changed, or something else came back.
    """
    if plan.blockers:
        raise PublishingError("this must not leave the machine: " + "; ".join(plan.blockers))
    repo_id = plan.remote.repo_id
    if plan.remote.head is None:
        api.create_repo(repo_id, private=private, exist_ok=True)
    if plan.is_done:
        commit = str(plan.remote.head)
        say(f"{repo_id} has all of it at {commit[:12]}")
    elif pull_request:
        return _through_pull_request(plan, api, check_download, say)
    else:
        commit = _commit(plan, api, say)
    _check(plan, api, commit, check_download, say)
    return _tag(plan, api, commit, say)


def _commit(plan: PublicationPlan, api: HfApi, say: Callable[[str], None]) -> str:
    repo_id = plan.remote.repo_id
    say(f"sending {len(plan.changed)} files to {repo_id}")
    # A repository that was made a moment ago has a first commit of its own.
    parent = plan.remote.head or api.repo_info(repo_id).sha
    try:
        return api.create_commit(repo_id, _operations(plan), commit_message=_title(plan), parent_commit=parent).oid
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code == 412:
            raise PublishingError(
                f"{repo_id} has changed since the plan was made, so it was left as it is. Run the command again."
            ) from error
        raise


def _through_pull_request(plan: PublicationPlan, api: HfApi, check_download: bool, say: Callable[[str], None]) -> str:
    """One pull request, made now or left by an interrupted try; verified, then merged."""
    repo_id = plan.remote.repo_id
    number = _open_pull_request(plan, api)
    if number is None:
        say(f"sending {len(plan.changed)} files to a pull request of {repo_id}")
        parent = plan.remote.head or api.repo_info(repo_id).sha
        made = api.create_commit(
            repo_id, _operations(plan), commit_message=_title(plan), parent_commit=parent, create_pr=True
        )
        number = int(str(made.pr_num))
    else:
        say(f"going on with pull request {number}")
    revision = f"refs/pr/{number}"
    try:
        _check(plan, api, revision, check_download, say)
    except PublishingError as error:
        api.change_discussion_status(repo_id, number, new_status="closed", comment=str(error))
        raise
    api.change_discussion_status(repo_id, number, new_status="open")
    api.merge_pull_request(repo_id, number)
    say(f"merged pull request {number}")
    return _tag(plan, api, str(api.repo_info(repo_id).sha), say)


def _open_pull_request(plan: PublicationPlan, api: HfApi) -> int | None:
    """Of the same publication, on top of what is there now."""
    for discussion in api.get_repo_discussions(plan.remote.repo_id):
        if discussion.is_pull_request and discussion.status in ("draft", "open") and discussion.title == _title(plan):
            return discussion.num
    return None


def _operations(plan: PublicationPlan) -> list[CommitOperationAdd | CommitOperationDelete]:
    folder = plan.publication.folder
    added = [CommitOperationAdd(name, folder / name) for name in plan.changed]
    return [*added, *(CommitOperationDelete(name) for name in plan.deleted)]


def _title(plan: PublicationPlan) -> str:
    return f"Publish {plan.tag}"


def _check(plan: PublicationPlan, api: HfApi, revision: str, check_download: bool, say: Callable[[str], None]) -> None:
    """What the Hub says it holds, file by file; and with `check_download` what it gives, verified and loaded."""
    remote = read_remote(api, plan.remote.repo_id, revision)
    folder = plan.publication.folder
    names = {*plan.publication.manifest.files, "manifest.json", "README.md"}
    wrong = sorted(n for n in names if n not in remote.files or not remote.files[n].equals(folder / n))
    if wrong:
        raise PublishingError(
            f"{plan.remote.repo_id} at {revision} does not hold what was sent ({', '.join(wrong[:5])}), so it is not "
            "tagged. Run the command again."
        )
    if not check_download:
        return
    say("fetching it back, verifying, loading")
    with tempfile.TemporaryDirectory() as scratch:
        fetched = Path(snapshot_download(plan.remote.repo_id, revision=revision, local_dir=scratch, token=api.token))
        report = verify(fetched, expected=plan.tag)
        if not report.passed:
            problems = "; ".join(str(check) for check in report.failed)
            raise PublishingError(f"what came back from {plan.remote.repo_id} does not verify: {problems}")
        _load(fetched, plan.publication.layout)


def _load(folder: Path, layout: str) -> None:
    """In a fresh process, as a stranger would: transformers alone for the built-in layout."""
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
