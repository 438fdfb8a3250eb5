"""Every block of docs/python.md runs, one after the other, as it stands; and what it says of checks is what the tests
know."""

import csv
import logging
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from kits.backbones import tiny_backbone
from kits.pages import DOCS, Place, blocks_of
from kits.runs import reviews

PAGE = DOCS / "python.md"


def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_backbone("bert", tmp_path / "backbone")
    with (tmp_path / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["text", "label"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(reviews(200))
    [config] = [block.text for block in blocks_of(PAGE, "toml")]
    small = f'precision = "fp32"\n[tokens]\nmax_length = 24\ncache = "{tmp_path}/cache"\n[evaluate]\nbootstrap = 0\n'
    config = re.sub(r"pretrained = .*", 'pretrained = "backbone"', config)
    (tmp_path / "config.toml").write_text(config + small, encoding="utf-8")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)  # other tests keep their handlers
    place = Place(tmp_path, capsys, monkeypatch, instead={"sentence-transformers/all-MiniLM-L6-v2": "backbone"})
    blocks = blocks_of(PAGE, "python")
    try:
        for block in blocks:
            place.run(block)
    finally:
        logging.getLogger("textune").setLevel(logging.NOTSET)
    assert len(blocks) == 14
    printed = capsys.readouterr().out
    assert "True" in printed and "['neg' 'pos']" in printed and "Prediction(label=" in printed
    probabilities = place.names["model"].predict_proba(place.names["texts"])
    assert probabilities.dtype == np.float64 and probabilities.shape == (200, 2)
    assert (tmp_path / "runs" / "steady" / "best").is_dir()


def test_the_page_names_every_check_that_cannot_hold() -> None:
    source = (Path(__file__).parent / "sklearn" / "test_estimator_checks.py").read_text(encoding="utf-8")
    table = source.partition("EXPECTED_FAILURES")[2].partition("REGRESSORS_OWN")[0]
    known = set(re.findall(r'"(check_\w+)"', table))
    assert len(known) == 9 and set(re.findall(r"`(check_\w+)`", PAGE.read_text(encoding="utf-8"))) == known
