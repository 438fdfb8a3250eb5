"""Presets in use: `preset:tiny` from command to report, the list of them, and that an installed textune has them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
from kits.cli import runner

from textune.config.presets import preset_names
from textune.jsontext import parse_json

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "textune" / "presets"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    return runner(capsys, monkeypatch, tmp_path)


@pytest.mark.parity("tiny")
def test_the_tiny_preset_goes_from_command_to_report(call: Any, tmp_path: Path) -> None:
    answer = call("train", "preset:tiny", "train.device=cpu", "--json", "--quiet")
    assert answer.code == 0, answer.err
    reports = parse_json(answer.out)["reports"]
    assert reports["test"]["rows"] == 100 and reports["validation"]["rows"] == 50
    assert reports["test"]["main"]["value"] >= 0.9  # the toy can be learned
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny"]
    written = (tmp_path / "runs" / "tiny" / "config.toml").read_text(encoding="utf-8")
    assert "# preset:tiny" in written
    said = call("predict", "runs/tiny", "--device", "cpu", stdin="what a charming film\n")
    assert parse_json(said.out)["predicted_label"] == "positive"
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr(
            "more/rows.csv", "review,opinion\nwhat a charming film,positive\nthe cast was dull,negative\n"
        )
    for name in ("more.zip!more/rows.csv", "more/rows.csv"):  # a file inside an archive, under either name
        predicted = call("predict", "runs/tiny", "--data", name, "--device", "cpu")
        assert [line.split(",")[2] for line in predicted.out.splitlines()[1:]] == ["positive", "negative"]
        assert call("evaluate", "runs/tiny", "--data", name, "--device", "cpu").code == 0
    assert call("predict", "runs/tiny", "--data", "more/row.csv").code == 2
    again = call("train", "preset:tiny", "train.device=cpu", "--resume", "--json", "--quiet")
    assert again.code == 0 and parse_json(again.out)["complete_before"]


def test_the_presets_are_listed_with_what_they_are_for(call: Any) -> None:
    answer = call("presets")
    assert answer.code == 0
    names = [line.partition(": ")[0] for line in answer.out.splitlines()]
    assert names == [f"preset:{name}" for name in preset_names()]
    listed = parse_json(call("presets", "--json").out)["presets"]
    assert list(listed) == preset_names() and all(listed.values())


def test_an_unknown_preset_is_refused_with_the_nearest(call: Any) -> None:
    answer = call("train", "preset:tinny")
    assert answer.code == 2 and 'Did you mean "preset:tiny"?' in answer.err


def test_a_preset_for_gpus_is_refused_without_one(call: Any, tmp_path: Path) -> None:
    for name in ("one_gpu", "gpus"):
        answer = call("train", "preset:tiny", f"extends=preset:{name}", "--json")
        assert answer.code == 2 and parse_json(answer.out)["error"]["key"] == "train.device"
    assert list(tmp_path.iterdir()) == []


def test_show_gives_the_origin_of_what_a_preset_sets(call: Any) -> None:
    answer = call("show", "preset:tiny", "extends=preset:cpu", "train.seed=4", "--json")
    origins = parse_json(answer.out)["origins"]
    assert origins["train.duration"] == "preset:tiny" and origins["train.device"] == "preset:cpu"
    assert origins["train.seed"] == "command line" and origins["train.prefetch"] == "default"


def test_an_installed_textune_has_the_presets() -> None:
    """What goes into a wheel and into a source distribution, as the builder itself lists it."""
    wheel = pytest.importorskip("hatchling.builders.wheel")
    sdist = pytest.importorskip("hatchling.builders.sdist")
    files = {path.relative_to(ROOT).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert len(files) > 5
    for builder in (wheel.WheelBuilder(str(ROOT)), sdist.SdistBuilder(str(ROOT))):
        packed = {file.distribution_path.replace("\\", "/") for file in builder.recurse_included_files()}
        assert files <= packed


def test_the_tiny_preset_is_tiny_and_holds_no_pickle() -> None:
    files = [path for path in (FOLDER / "tiny").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 100_000
    assert {path.suffix for path in files} == {".csv", ".json", ".safetensors"}
