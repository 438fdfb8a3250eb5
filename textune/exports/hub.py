"""A model on the Hugging Face hub: an exported folder and its card in one commit, and nothing else of the run."""

from __future__ import annotations

import fnmatch
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from textune.atomic import write_text
from textune.config import user_path
from textune.errors import HubError
from textune.evaluation import Opened
from textune.exports.exporting import Exported, export
from textune.exports.hubrepo import MAIN, Held, Repository, require_name
from textune.exports.parity import PARITY_NAME
from textune.exports.plain import Form
from textune.exports.readme import readme
from textune.model import CARD_NAME, README
from textune.prediction import PROBE_NAME, USUAL_NAME, read_card
from textune.wording import listing

OF_ROWS = (PROBE_NAME, USUAL_NAME)
"""What a model's folder says of the validation rows: pushed only where that is asked for."""
MODEL_FILES = (
    README,
    CARD_NAME,
    PARITY_NAME,
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.*",
    "merges.txt",
    "bpe.codes",
    "*.model",
    "*.tiktoken",
)
"""What a model folder is made of, whatever its family; no other file is pushed."""
_OF_THE_HUB = (".gitattributes", README)
"""What a repository may hold before there is a model in it."""


@dataclass(frozen=True)
class Pushed:
    """What was pushed, or would be."""

    name: str
    """As `owner/name`."""
    revision: str
    files: dict[str, int]
    """Bytes by name."""
    left_out: tuple[str, ...]
    """Files of the model's folder that were not pushed."""
    card: str
    """The text of README.md."""
    step: int | None
    """Optimizer steps behind the model; None if its card does not say."""
    private: bool | None
    """Whether only its owner sees it; None where nobody has said, or the hub was not asked."""
    url: str | None = None
    """Its page; None after a dry run."""
    commit: str | None = None
    """Hash of the commit; None after a dry run."""

    def to_dict(self) -> dict[str, object]:
        """The same for JSON."""
        return {**vars(self), "left_out": list(self.left_out)}


def push(
    source: str | Path,
    name: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    message: str | None = None,
    with_probe: bool = False,
    form: Form | None = None,
    code: str | Sequence[str] = (),
    dry_run: bool = False,
    on_notice: Callable[[str], None] = lambda _: None,
) -> Pushed:
    """Write a model to the repository `name` (`owner/name`) of the hub in one commit: what `export` makes of `source`,
    with its card as README.md. A repository that does not exist is made, `private` or not; of an earlier model of
    textune there, the files that this one lacks are removed.

    `revision`: a branch that exists, by default `main`. `with_probe`: what the folder says of the validation rows as
    well, with texts. `form` and `code`: as of `export`. `dry_run`: nothing is sent and nobody is asked; the result
    says what would be. `on_notice` is called with what is left out. Raises RunError as `export` does, before anything
    is on the hub, and HubError where the hub refuses the name, the token or the files, cannot be reached, or has other
    files there.
    """
    require_name(name)
    source, branch = user_path(source), revision or MAIN
    repository = None if dry_run else Repository(name)
    held = None if repository is None else _looked_at(repository, branch, private=private)
    with tempfile.TemporaryDirectory(prefix="textune-push-") as scratch:
        done = export(source, Path(scratch) / "model", code=code, form=form, on_notice=on_notice)
        folder = done.folder
        _require_backbone_there(folder, name, source)
        opened = Opened(name, on_hub=True, revision=revision)
        card = readme(done.source, folder, name=name.split("/")[1], opened=opened)
        write_text(folder / README, card)
        files, left_out = _chosen(folder, with_probe=with_probe)
        for path in left_out:
            on_notice(_why_left_out(path, done))
        sizes = {path: file.stat().st_size for path, file in files.items()}
        pushed = Pushed(name, branch, sizes, left_out, card, done.step, private)
        if repository is None:
            return pushed
        is_private, commit = _send(
            repository, held, files, branch, private=private, message=message or _message(done, source), said=on_notice
        )
        return replace(pushed, private=is_private, url=repository.url, commit=commit)


def _send(
    repository: Repository,
    held: Held | None,
    files: Mapping[str, Path],
    branch: str,
    *,
    private: bool | None,
    message: str,
    said: Callable[[str], None],
) -> tuple[bool | None, str]:
    """Make the repository where there is none (`held`), and commit the files to it; whether it is private, and the
    hash of the commit."""
    removed = () if held is None else _replaced(held, files)
    if held is None:
        repository.create(private=private)
    elif README in held.files:
        said(f"README.md there is replaced by this model's card; the history of {repository.url} keeps it")
    try:
        there = repository.look(branch) if held is None else held
        parent = None if there is None else there.commit
        commit = repository.commit(files, removed, message=message, revision=branch, parent=parent, on_notice=said)
    except HubError as error:
        if held is None:
            error.advise(f"The repository {repository.name} was made and is empty.")
        raise
    return private if there is None else there.private, commit


def _looked_at(repository: Repository, branch: str, *, private: bool | None) -> Held | None:
    """What the repository holds; HubError where it is not what was asked for."""
    held = repository.look(branch)
    if held is None:
        if branch != MAIN:
            raise HubError(
                f"{repository.name} does not exist yet, so it has no branch {branch}.",
                hint=f"Push without --revision first, or make it: `hf repos create {repository.name}`, then `hf repos"
                f" branch create {repository.name} {branch}`.",
                key="revision",
                value=branch,
                place=repository.url,
                reason="no such branch",
            )
        return None
    if private is not None and private != held.private:
        is_, asked = ("private", "public") if held.private else ("public", "private")
        raise HubError(
            f"{repository.name} exists and is {is_}, not {asked}.",
            hint=f"Choose another name, or change it: `hf repos settings {repository.name} --{asked}`.",
            key="private",
            value=private,
            place=repository.url,
            reason=f"it is {is_}",
        )
    others = _others(held)
    if others:
        raise HubError(
            f"{repository.name} holds files that are no model of textune: {listing(others)}.",
            hint="Choose another name, or another branch with --revision, or remove them there: `hf repos delete-files"
            f" {repository.name} FILE`.",
            place=repository.url,
            value=", ".join(others),
            reason="other files",
        )
    return held


def _others(held: Held) -> list[str]:
    """The files there that are not of a model that textune could have pushed."""
    if CARD_NAME in held.files:
        return [path for path in held.files if path not in (*_OF_THE_HUB, *OF_ROWS) and not _is_model_file(path)]
    return [path for path in held.files if path not in _OF_THE_HUB]


def _replaced(held: Held, files: Collection[str]) -> tuple[str, ...]:
    """The files of an earlier model there that the new one lacks, such as parts of its weights."""
    return tuple(path for path in held.files if path not in files and path not in _OF_THE_HUB)


def _is_model_file(path: str) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in MODEL_FILES) and "/" not in path


def _chosen(folder: Path, *, with_probe: bool) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The files to push by name, and the names of the others."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    chosen = {path: file for path, file in found.items() if _is_model_file(path) or (with_probe and path in OF_ROWS)}
    return chosen, tuple(path for path in found if path not in chosen)


def _why_left_out(path: str, done: Exported) -> str:
    if path in OF_ROWS:
        what = "texts" if path == PROBE_NAME else "figures"
        return f"{path} is not pushed: it holds {what} of the validation rows (--with-probe pushes it)"
    return f"{path} is not pushed: it is no file of a model ({done.source})"


def _require_backbone_there(folder: Path, name: str, source: Path) -> None:
    """HubError for adapters beside a folder of this machine, which nobody else could open."""
    adapters = read_card(folder).adapters
    if adapters is None or adapters.backbone.folder is None:
        return
    raise HubError(
        f"the adapters stand beside {adapters.backbone.folder}, a folder of this machine: nobody who fetches {name}"
        " could open them.",
        hint=f"Push whole weights: `textune push {source} {name} --merge`.",
        key="form",
        value="adapter",
        place=str(source),
        reason="the backbone is a folder",
    )


def _message(done: Exported, source: Path) -> str:
    step = "" if done.step is None else f", step {done.step:,}"
    return f"Model of {source.absolute().name}{step}"
