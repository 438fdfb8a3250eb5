"""One repository of models on the Hugging Face hub: what is there, and a commit to it; each refusal is a sentence."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: of its HTTP client
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from textune.errors import AGAIN, MEND, HubError
from textune.exitcodes import worth_a_retry
from textune.wording import shorten

ANSWER_TIME = 30.0
"""Seconds in which the hub says what a repository holds."""
MAIN = "main"
MAX_SAID = 300
TOKENS_PAGE = "settings/tokens"
_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d{3})\b")
"""How the library that stores large files (Xet) says what it was answered."""


@dataclass(frozen=True)
class Held:
    """What a repository holds at one revision."""

    private: bool
    commit: str | None
    files: tuple[str, ...]


def require_name(name: str) -> None:
    """HubError where `name` is not `owner/name` as the hub takes it."""
    try:
        validate_repo_id(name)
        reason = "" if name.count("/") == 1 else "it names no owner"
    except HFValidationError as error:
        reason = " ".join(str(error).split()).rstrip(".")
    if reason:
        raise HubError(
            f"{shorten(name)} cannot be a name on the hub: {reason}.",
            hint="Give OWNER/NAME, such as ada/reviews: letters, digits, -, _ and . alone.",
            key="name",
            value=name,
            reason=reason,
        )


class Repository:
    """A repository of models by its name, with the token of this user; HubError without one, or where the hub may not
    be asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        token = None if constants.is_offline_mode() else get_token()
        if constants.is_offline_mode():
            raise HubError(
                "HF_HUB_OFFLINE is set: the hub may not be asked.",
                hint="Unset it, or add --dry-run, which needs no network.",
                key="HF_HUB_OFFLINE",
                reason="offline",
            )
        if token is None:
            raise HubError(
                "there is no token for the hub.",
                hint=f"Log in with `hf auth login`, or set HF_TOKEN: {_tokens_page()} makes one that may write.",
                key="HF_TOKEN",
                reason="no token",
            )
        self._token = token
        self._api = HfApi(token=token)

    @property
    def url(self) -> str:
        """Its page."""
        return f"{self._api.endpoint}/{self.name}"

    def look(self, revision: str) -> Held | None:
        """What stands there; None where there is no such repository, or none that this token may see. HubError where
        it has no such revision."""
        with self._spoken("could not be looked at"):
            try:
                info = self._api.model_info(self.name, timeout=ANSWER_TIME)
                if revision != MAIN:
                    info = self._api.model_info(self.name, revision=revision, timeout=ANSWER_TIME)
            except GatedRepoError:
                raise
            except RepositoryNotFoundError:
                return None
        files = tuple(sibling.rfilename for sibling in info.siblings or ())
        return Held(bool(info.private), info.sha, files)

    def create(self, *, private: bool | None) -> None:
        """Make it, empty."""
        with self._spoken("could not be created"):
            self._api.create_repo(self.name, private=private, repo_type="model")

    def commit(
        self,
        files: Mapping[str, Path],
        removed: Sequence[str],
        *,
        message: str,
        revision: str,
        parent: str | None,
        on_notice: Callable[[str], None],
    ) -> str:
        """Write files, and remove others, in one commit on top of `parent`; returns the commit's hash. `on_notice` is
        called with what the hub would have otherwise in README.md."""
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(path_in_repo=path, path_or_fileobj=file) for path, file in files.items()),
            *(CommitOperationDelete(path_in_repo=path) for path in removed),
        ]
        with self._spoken("took no files"), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)  # what the hub says of README.md
            done = self._api.create_commit(
                self.name,
                operations,
                commit_message=message,
                revision=revision,
                parent_commit=parent,
            )
        for warning in caught:
            if issubclass(warning.category, UserWarning):
                on_notice(f"the hub says: {self._without_token(str(warning.message))}")
        return str(done.oid)

    @contextlib.contextmanager
    def _spoken(self, what: str) -> Iterator[None]:
        """Every failure of a request as a HubError, which never holds the token."""
        try:
            yield
        except HfHubHTTPError as error:
            raise self._refusal(error, what) from error
        except RuntimeError as error:  # of the upload of a file: what went wrong may be its cause
            raise self._failure(error.__cause__ or error, what) from error
        except (HTTPError, OSError, ValueError) as error:
            raise self._failure(error, what) from error

    def _failure(self, error: BaseException, what: str) -> HubError:
        if isinstance(error, HfHubHTTPError):
            return self._refusal(error, what)
        said = self._without_token(str(error) or type(error).__name__)
        if told := _STATUS.search(said):
            return self._answered(int(told[1]), "", what)
        hint = "Run the same command again."
        if isinstance(error, HTTPError | OSError):
            hint = f"Is {self._api.endpoint} reachable from here? Then run the same command again; --dry-run needs no"
            hint += " network."
        elif said.startswith("Invalid metadata in README.md"):
            hint = "Change what stands between the lines --- of README.md: export the model, change its README.md, and"
            hint += " push that folder."
        return HubError(f"{self.name} {what}: {said}.", hint=hint, place=self.url, reason=said)

    def _refusal(self, error: HfHubHTTPError, what: str) -> HubError:
        said = self._without_token(error.server_message or error.response.headers.get("X-Error-Message") or "")
        if isinstance(error, RevisionNotFoundError):
            reason = "it has no such branch"
            hint = f"Make the branch first: `hf repos branch create {self.name} BRANCH`; or leave --revision out."
            value = error.response.status_code
            return HubError(f"{self.name} {what}: {reason}.", hint=hint, place=self.url, value=value, reason=reason)
        return self._answered(error.response.status_code, said, what)

    def _answered(self, status: int, said: str, what: str) -> HubError:
        """What an HTTP status of the hub means here."""
        owner = self.name.split("/")[0]
        again = "Run the same command again."
        if status == 401:
            reason = "the hub does not know the token"
            hint = f"Log in again with `hf auth login`: {_tokens_page()} makes a token that may write."
        elif status == 403:
            reason = f"the token may not write there{_in_brackets(said)}"
            hint = f"Take a token that may write to {owner} ({_tokens_page()}), or a name of your own."
        elif status in (404, 410):
            reason = f"there is no such repository, or the token may not see it{_in_brackets(said)}"
            hint = f"Check the name, and whether the token may write to {owner}."
        elif status in (409, 412):
            reason = f"it was made or changed meanwhile{_in_brackets(said)}"
            hint = f"Look at {self.url}, then run the same command again."
        elif status == 429:
            reason, hint = "the hub asks to wait", "Run the same command again in some minutes."
        elif status >= 500:
            reason, hint = f"the hub fails ({status}){_in_brackets(said)}", f"{again[:-1]} later."
        else:
            reason, hint = f"the hub answers {status}{_in_brackets(said)}", again
        code = AGAIN if worth_a_retry(status) else MEND
        return HubError(
            f"{self.name} {what}: {reason}.", hint=hint, place=self.url, value=status, reason=reason, exit_code=code
        )

    def _without_token(self, text: str) -> str:
        return " ".join(text.replace(self._token, "…").split())[:MAX_SAID].rstrip(".")


def _in_brackets(said: str) -> str:
    return f" ({said})" if said else ""


def _tokens_page() -> str:
    return f"{constants.ENDPOINT}/{TOKENS_PAGE}"
