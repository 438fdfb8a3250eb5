"""`README.md` of an exported model: its model card, from the reports of its run, or from the model alone."""

from __future__ import annotations

from pathlib import Path

from textune.evaluation import Opened, Story, model_card
from textune.model import README, complete_model, stated_license
from textune.prediction import ModelCard, outside_textune, read_card
from textune.run import RunFolder, card_of_run


def readme(model: Path, exported: Path, *, name: str = "", opened: Opened | None = None) -> str:
    """The page of the model folder or checkpoint `model`, which was written to `exported`, under `name` for readers
    who find it as `opened`.

    The best model of a run is described by the run's reports. A page that stands in the folder already is kept:
    whoever wrote it knew more. Otherwise the page says what `textune.json` says. Raises RunError where these are
    damaged.
    """
    opened, run = opened or Opened(), model.parent
    if (model / README).is_file():
        page = (model / README).read_text(encoding="utf-8", errors="replace")
        return opened.told_on(page)
    if (run / "manifest.json").is_file() and complete_model(run) == model:
        described = card_of_run(RunFolder(run), name=name, opened=opened)
        if described is not None:
            return described
    return _of_card(read_card(exported), name or model.absolute().name, opened)


def _of_card(card: ModelCard, name: str, opened: Opened) -> str:
    """What the card says of a model whose run is not here."""
    backbone = "" if card.adapters is None else card.adapters.backbone.name
    facts = {"task": "; ".join(map(str, card.label_maps.values()))} | (
        {} if card.step is None else {"optimizer steps": f"{card.step:,}"}
    )
    story = Story(
        name=name,
        status="",
        started="",
        seconds=None,
        steps=card.step,
        best_step=None,
        facts=facts,
        splits=(),
        history=None,
        findings=None,
        backbone="" if Path(backbone).exists() else backbone,
        license=stated_license(backbone),
        writes_texts=card.is_language_model,
        limits=outside_textune(card),
        labels=card.names,
        fingerprints=card.data,
    )
    return model_card({}, story, opened=opened)
