"""The bench of long texts: a run is known by all that decides its result, and the page names the command."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import longtexts


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The configuration of each training, of which every one has an accuracy of its own."""
    configs: list[dict[str, Any]] = []

    def train(config: dict[str, Any], *, run: Path) -> SimpleNamespace:
        configs.append(config)
        report = SimpleNamespace(metrics={"accuracy": len(configs) / 100, "log_loss": 1.0})
        return SimpleNamespace(reports={"test": report}, facts=SimpleNamespace(device_name="1 CPU thread, fp32"))

    def reviews(number: int) -> SimpleNamespace:
        return SimpleNamespace(examples=[(f"text {index}", None, "pos") for index in range(number)])

    monkeypatch.setattr(longtexts.textune, "train", train)
    monkeypatch.setattr(longtexts, "long_texts", reviews)
    monkeypatch.setattr(longtexts, "minilm", lambda: Path("minilm"))
    return configs


def test_other_sizes_are_other_runs_and_a_column_of_their_own(
    tmp_path: Path, trained: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["--out", str(tmp_path), "--settings", "cut at 128", "windows, mean", "--seeds", "0", "2"]
    for words in (["--train", "20"], ["--train", "30"], ["--train", "20", "--test", "9"], ["--epochs", "1"]):
        before = len(trained)
        assert longtexts.main([*common, *words]) == 0
        assert len(trained) == before + 4
        assert longtexts.main([*common, *words]) == 0
        assert len(trained) == before + 4, "nothing is trained again"
    rows = {name: [Path(config["data"][name]["files"]) for config in trained] for name in ("train", "test")}
    assert [len(file.read_text().splitlines()) for file in rows["train"]] == [20] * 4 + [30] * 4 + [20] * 4 + [
        2000
    ] * 4
    assert len(rows["test"][8].read_text().splitlines()) == 9

    page = tmp_path / "page.md"
    page.write_text(f"before\n{longtexts.BEGIN}\nold\n{longtexts.END}\nafter\n")
    monkeypatch.setattr(longtexts, "PAGE", page)
    assert longtexts.main(["--out", str(tmp_path), "--page"]) == 0
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after") and "old" not in lines
    assert (
        "| cut at 128 | 10.0 ± 1.4 (2 seeds) | 2.0 ± 1.4 (2 seeds) | 6.0 ± 1.4 (2 seeds) | 14.0 ± 1.4 (2 seeds) |"
        in lines
    )

    # The commands of the page, in another folder, give the same page.
    commands = [line for line in lines if line.startswith("python -m bench.longtexts")]
    assert len(commands) == 4
    again = tmp_path / "again"
    for command in commands:
        assert longtexts.main(shlex.split(command.replace("FOLDER", str(again)))[3:]) == 0
    sizes = [json.loads(file.read_text()) for folder in (tmp_path, again) for file in sorted(folder.glob("*.json"))]
    known = [tuple(result[key] for key in ("task", "setting", "seed", "train", "test", "epochs")) for result in sizes]
    assert len(known) == 32 and known[:16] == known[16:]
