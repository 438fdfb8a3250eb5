"""A model of a run as something else can use it: written aside, asked by the gate, renamed, or refused and gone."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textune.atomic import WRITING, write_folder, write_text
from textune.config import user_path
from textune.errors import RunError
from textune.exports.generated import generated_probe
from textune.exports.parity import Parity, pass_gate, write_parity
from textune.exports.plain import Form, Source, find_source
from textune.exports.readme import readme
from textune.exports.table import ExportKind, kind_of, require_held
from textune.model import CARD_NAME, README
from textune.owncode import require_allowed
from textune.prediction import ModelCard, Probe, load_scorer, read_card, take_usual, write_probe


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    step: int | None
    """Optimizer steps behind the model; None if its card does not say."""
    source: Path
    form: Form
    """Whether it holds whole weights, or adapters."""
    kind: str
    """As `textune export --to` names it."""
    parity: Parity
    """What the gate found."""
    change: float | None = None
    """The largest change of a logit when weights of few bits became fp32; None where there were none."""


def export(
    source: str | Path,
    target: str | Path,
    *,
    to: str = "hf",
    code: str | Sequence[str] = (),
    form: Form | None = None,
    on_notice: Callable[[str], None] = warnings.warn,
    **options: Any,
) -> Exported:
    """Write a model as an export of the kind `to` (`KINDS`): the best one of a run, or that of its newest checkpoint
    if it has not evaluated yet, or that of one checkpoint.

    The folder is complete or absent: what does not answer the rows of the model's probe as the model does, is refused.
    `code`: as in `textune.prediction.load`. `form`: of a model with adapters, whether these are put into the weights
    ("merged") or written by themselves ("adapter"); by default as its `model.lora.merge` says: "adapter" for "off",
    else "merged"; always "merged" but for `to = "hf"`. `options` are those of the kind. Raises RunError if there is no
    model, if the checkpoint is damaged, if it has no adapters to write, if there is no such kind or if `target`
    exists; ExportError if a package is missing, if the kind cannot hold the model, or if the gate refuses it;
    CodeError for code of its own that `code` does not name.
    """
    source, target = user_path(source), user_path(target)
    code = [code] if isinstance(code, str) else list(code)
    if target.exists():
        raise RunError(
            f"--out {target} exists; nothing is ever overwritten.",
            hint="Choose another name.",
            key="out",
            value=str(target),
        )
    kind = kind_of(to)
    found = find_source(source, code=code, form=form if not kind.writer else _whole(form, to))
    require_held(to, found.card)
    require_allowed(found.card.code, code, where=str(found.folder))
    made: list[tuple[Parity, ModelCard]] = []

    def write(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=f"{target.name}.", suffix=WRITING, dir=target.parent) as scratch:
            made.append(_write(found, folder, to, kind, Path(scratch), code, on_notice, options))

    write_folder(target, write)
    parity, card = made[0]
    return Exported(
        folder=target,
        step=found.step,
        source=found.folder,
        form=found.form,
        kind=to,
        parity=parity,
        change=card.merge_change,
    )


def plain_folder(source: str | Path, target: Path, *, code: Sequence[str], form: Form) -> None:
    """Write a model as a plain folder without asking it anything: for a copy that stays in this process's hands.
    Errors as `export`."""
    write_folder(target, find_source(user_path(source), code=code, form=form).write)


def _whole(form: Form | None, to: str) -> Form:
    """Every kind but the plain folder needs whole weights."""
    if form == "adapter":
        raise RunError(
            f"--adapter: --to {to} holds whole weights, and no adapters by themselves.",
            hint="Leave --adapter out, or choose --to hf.",
            key="form",
            value="adapter",
        )
    return "merged"


def _write(
    source: Source,
    folder: Path,
    to: str,
    kind: ExportKind,
    scratch: Path,
    code: Sequence[str],
    on_notice: Callable[[str], None],
    options: dict[str, Any],
) -> tuple[Parity, ModelCard]:
    """Fill the folder of an export, and pass the gate; also the card of the plain model."""
    if not kind.writer:
        model = folder
        source.write(model)
        write_text(folder / README, readme(source.folder, folder))
    elif source.is_plain:
        model = source.folder
    else:
        model = scratch / "model"
        model.mkdir()
        source.write(model)
    probe = _probe(source, model, kind, code)
    if model != source.folder:
        take_usual(source.folder, model)
        if probe.is_kept:
            write_probe(probe, model)
    if kind.writer:
        kind.write()(model, folder, probe=probe, on_notice=on_notice, **options)
        if probe.is_kept:
            write_probe(probe, folder)
        if (folder / CARD_NAME).is_file():  # a folder that a server may open
            take_usual(source.folder, folder)
    card = read_card(model)
    asked = scratch / "asked"
    asked.mkdir()
    parity = pass_gate(folder, to, kind, probe, card.build_task(), card, scratch=asked, code=code)
    write_parity(parity, folder)
    return parity, card


def _probe(source: Source, model: Path, kind: ExportKind, code: Sequence[str]) -> Probe:
    """The rows that the gate asks, with what the plain model says of them."""
    if source.probe is not None and not source.is_rescored:
        return source.probe
    scorer = load_scorer(model, device="cpu", precision="fp32", compile="off", code=code, on_notice=lambda _: None)
    if source.probe is not None:
        return source.probe.scored_by(scorer)
    return generated_probe(scorer, of_texts=kind.of_texts)
