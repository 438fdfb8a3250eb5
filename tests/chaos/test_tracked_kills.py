"""Runs with a tracker that are killed: it has everything in the end, and nothing twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kits.kills import Forked
from kits.trackers import Dying, kept_in, records_in

from textune.chaos.chaos import chaos
from textune.pipeline.tracking import replay
from textune.run.manifest import read_manifest

SMALL = (
    "data.test.kind=none",
    "train.duration=3 epochs",
    "train.log_every=1 steps",
    "train.evaluate_every=4 steps",
    "train.checkpoint.every=2 steps",
    "model.compile=off",
)


def track(kind: str, folder: Path, **options: str) -> str:
    named = ", ".join(f"{name} = {json.dumps(value)}" for name, value in {"folder": str(folder), **options}.items())
    return f'track=[{{kind = "python", object = "kits.trackers:{kind}", options = {{{named}}}}}]'


def trained(kept: list[dict[str, Any]]) -> list[Any]:
    """The steps and evaluations that a tracker has, without what is the machine's."""
    return [
        (
            one["stream"],
            one["step"],
            {
                name: value
                for name, value in one["numbers"].items()
                if "per_second" not in name and "system" not in name
            },
        )
        for one in kept
        if one.get("stream", "notice") != "notice"
    ]


def written(run: Path) -> list[tuple[str, int]]:
    """The same of metrics.jsonl, without figures."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        ("step" if line["kind"] == "step" else "evaluation/validation", line["step"])
        for line in lines
        if line["kind"] != "notice"
    ]


@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_kills_lose_nothing_and_double_nothing_at_a_tracker(home: Path, tmp_path: Path, kills: int) -> None:
    words = (*SMALL, track("Kept", tmp_path / "kept"))
    result = chaos(home / "config.toml", kills=kills, folder=tmp_path / "chaos", overrides=words, start=Forked)
    assert result.difference == "" and len(result.kills) == kills
    reference = trained(_kept(tmp_path / "chaos" / "reference", tmp_path / "kept"))
    assert [(stream, step) for stream, step, _ in reference] == written(tmp_path / "chaos" / "reference")
    files = sorted((tmp_path / "kept").glob("*.jsonl"))
    assert len(files) == 1 + result.runs
    for file in files:
        assert trained(records_in(file)) == reference
        assert json.loads(file.read_text().splitlines()[-1])["ended"] == "complete"


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    "moment", [pytest.param(one, marks=() if one in ("opened", "sent") else pytest.mark.slow) for one in Dying.MOMENTS]
)
def test_a_process_that_dies_in_the_middle_of_sending(home: Path, tmp_path: Path, moment: str) -> None:
    run = tmp_path / "run"
    words = [*SMALL, track("Dying", tmp_path / "kept", at=moment)]
    words = ["train", str(home / "config.toml"), "--run", str(run), "--resume", "auto", "--quiet", *words]
    assert Forked(words, tmp_path / "log").wait() == -9
    if read_manifest(run).status == "complete":
        replay(run)
    else:
        assert Forked(words, tmp_path / "log").wait() == 0
    kept = kept_in(tmp_path / "kept")
    assert [(stream, step) for stream, step, _ in trained(kept)] == written(run)
    assert len([one for one in kept if "parameters" in one]) == 1 and kept[-1]["ended"] == "complete"
    assert replay(run)[0].records == 0


def _kept(run: Path, kept: Path) -> list[dict[str, Any]]:
    """What a tracker has of a run."""
    name = json.loads((run / "tracking" / "python.json").read_text())["run"]
    return records_in(kept / f"{name}.jsonl")
