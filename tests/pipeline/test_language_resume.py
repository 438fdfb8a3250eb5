"""A language model goes on bit for bit: from every step of two epochs that are drawn anew, and on other ranks."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from kits.errors import refused
from kits.languageruns import write_language_home
from kits.resume import same_end
from kits.resumption import Kit, end, quick, record
from kits.runs import Listener

import textune.metadata.opening as opening
import textune.run.same as same
from textune.batches.batch import Batch, TokenBatch
from textune.config.load import load_config
from textune.data.shards.blocks import BlockReader
from textune.errors import RunError
from textune.pipeline.build import build_parts
from textune.ranks import Ranks
from textune.run.folder import RunFolder
from textune.run.parts import Parts, batches_of
from textune.run.session import Session, WrittenConfig
from textune.run.start import plan_start
from textune.run.tracking.tracker import Trackers

DRAWN = ["metadata.sampling.kind=uniform", "metadata.sampling.probability=0.7", "train.duration=2 epochs"]
STREAM = [
    "data.train.kind=stream",
    'data.train.files=["a.jsonl", "b.jsonl"]',
    "data.train.block_rows=7",
    "data.train.interleave=2",
    "data.train.num_rows=40",
]
PLACES: dict[str, list[str]] = {
    "files": [*DRAWN, "train.batch_size=24", "train.prefetch=2"],
    "files, nothing ahead": [*DRAWN, "train.batch_size=24", "train.prefetch=0"],
    "stream": [*DRAWN, *STREAM, "train.batch_size=24", "train.prefetch=2"],
    "stream, nothing ahead": [*DRAWN, *STREAM, "train.batch_size=24", "train.prefetch=0"],
    "a curriculum": [
        "train.duration=9 steps",
        "train.batch_size=24",
        "metadata.sampling.curriculum=[[0, 1.0], [0.6, 0.0]]",
        "metadata.end_token=always",
    ],
    "rows of one length": [
        *STREAM,
        "data.chunks=fixed",
        "train.duration=9 steps",
        "train.batch_size=8",
        "metadata.sampling.curriculum=[[0.5, 0.0]]",
    ],
    "in parts": [*DRAWN, "train.max_tokens=48", "train.batch_size=24", "task.metadata_loss=true"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_language_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def undelayed(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[None]:
    monkeypatch.chdir(home)  # where the overrides' files are
    with quick():
        yield


def session(home: Path, folder: Path, overrides: list[str], *, ranks: Ranks | None = None) -> Parts:
    """What `train --resume` does, built anew as it does: with what the run knew when it stopped; without reports."""
    loaded = load_config(home / "config.toml", overrides)
    start = plan_start(RunFolder(folder), loaded.resolved, "latest")
    parts = build_parts(
        loaded.experiment, tracker=Listener(), audit=False, earlier=start.earlier(loaded.experiment.train)
    )
    config = WrittenConfig("", loaded.resolved)
    Session(RunFolder(folder), config, parts, start, Trackers([Listener()]), report=lambda *_: {}).run()
    return parts


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    "place",
    [
        pytest.param(
            name, marks=[] if name in ("files", "stream, nothing ahead", "a curriculum") else pytest.mark.slow
        )
        for name in PLACES
    ],
)
def test_resumed_at_every_step_is_never_stopped(home: Path, tmp_path: Path, place: str) -> None:
    kit = Kit.of(home / "config.toml", PLACES[place])
    whole = record(kit, tmp_path / "whole")
    expected = end(whole.folder)
    assert whole.steps == kit.parts.plan.total_steps >= 4 and expected.lines
    for step in range(1, whole.steps + 1):
        run = whole.at(step, tmp_path / f"from-{step}")
        listener = kit.run(run, resume="latest")
        assert not any("bit-identical" in notice for notice in listener.notices)
        same_end(end(run), expected)
        shutil.rmtree(run)


def test_a_run_that_goes_on_counts_nothing_again(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of types, the length of an epoch and that of the run are those that it began with."""
    words = [*PLACES["files"], "train.checkpoint.every=1 step", "train.checkpoint.keep=all"]
    curriculum = [*words, "metadata.sampling.curriculum=[[0.5, 0.2]]"]
    kit = Kit.of(home / "config.toml", curriculum)
    assert kit.parts.maker is not None and len(kit.parts.maker.state) == 3
    whole = record(kit, tmp_path / "whole")
    run = whole.at(2, tmp_path / "run")
    monkeypatch.setattr(opening, "count_types", None)
    monkeypatch.setattr(opening, "SAMPLED_DOCUMENTS", 5)  # another estimate would give another number of steps
    parts = session(home, run, [*kit_words(), *curriculum])
    assert parts.maker is not None and parts.maker.state == kit.parts.maker.state
    assert parts.plan == kit.parts.plan
    same_end(end(run), end(whole.folder))


def kit_words() -> list[str]:
    from kits.resumption import SMALL

    return list(SMALL)


# --- rows on ranks ---------------------------------------------------------------------------------------------------


def rows_of(batch: Batch) -> list[tuple[int, ...]]:
    """Tokens and masks of each row that this rank computes."""
    found = []
    for part in batch.micro_batches if batch.micro_batches[0].counts else ():
        tokens = part.tokens
        assert isinstance(tokens, TokenBatch)
        at = row = 0
        for group in tokens.groups:
            for _ in range(group.rows):
                length = int(tokens.row_lengths[row])
                columns = (tokens.columns[name][at : at + length].tolist() for name in ("ids", "mask"))
                found.append(tuple(number for column in columns for number in column))
                at, row = at + group.length, row + 1
    return found


def steps_of(parts: Parts, num: int, state: Any = None) -> tuple[list[Counter[Any]], list[dict[str, Any]]]:
    """The rows of each step on the ranks of these parts, and the loader's state behind each."""
    loader, steps, states = batches_of(parts, state=state), [], []
    with closing(iter(loader)) as batches:
        for batch in islice(batches, num):
            steps.append(Counter(rows_of(batch)))
            states.append(json.loads(json.dumps(loader.state_dict())))
    return steps, states


@pytest.mark.every_day(1)
@pytest.mark.parametrize("place", ["files", "stream"])
def test_other_ranks_go_on_with_the_same_rows(home: Path, place: str) -> None:
    """From the state of any step of two epochs, saved with any number of ranks."""
    parts = Kit.of(home / "config.toml", PLACES[place]).parts
    num = parts.plan.total_steps
    whole, states = steps_of(parts, num)
    assert sum(map(len, whole)) > 60
    for world in (2, 4):
        ranks = [steps_of(replace(parts, ranks=Ranks(rank, world, rank, world)), num) for rank in range(world)]
        shared = [sum((rank[step] for rank, _ in ranks), Counter()) for step in range(num)]
        assert shared == whole
        assert all(saved == states for _, saved in ranks), "a state does not depend on the ranks"
    for step in range(1, num):
        assert steps_of(parts, num - step, states[step - 1])[0] == whole[step:]


# --- what makes it another run ---------------------------------------------------------------------------------------


@pytest.fixture
def stopped(home: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    words = [*kit_words(), *PLACES["files"]]
    kit = Kit.of(home / "config.toml", PLACES["files"])
    return record(kit, tmp_path / "whole").at(2, tmp_path / "run"), words


def test_documents_rendered_by_other_rules_are_refused(
    home: Path, stopped: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, words = stopped
    monkeypatch.setattr(same, "RENDERING_VERSION", 1000)
    with refused(RunError, key="metadata", value=1000, place=str(run)):
        session(home, run, words)


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    "change",
    ['metadata.types=["url", "title", "html"]', "metadata.prefix_share=0.4", "task.metadata_loss=true"],
)
def test_documents_rendered_in_another_way_are_refused(
    home: Path, stopped: tuple[Path, list[str]], change: str
) -> None:
    run, words = stopped
    with refused(RunError, place=str(run), reason=change.partition("=")[0]):
        session(home, run, [*words, change])


def test_other_documents_are_refused(home: Path, stopped: tuple[Path, list[str]], tmp_path: Path) -> None:
    run, words = stopped
    with refused(RunError, place=str(run)):
        session(home, run, [*words, "data.train.files=a.jsonl"])


def test_held_out_documents_are_compared_once(
    home: Path, stopped: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All shards are not read again where a run goes on."""
    run, words = stopped
    read: list[int] = []
    real = BlockReader.read
    monkeypatch.setattr(BlockReader, "read", lambda self, cursor: read.append(cursor.block) or real(self, cursor))
    monkeypatch.setattr("textune.pipeline.sharing.HeldOutTexts", None)
    session(home, run, [*words, "data.on_shared_text=report"])
    assert os.path.exists(run / "checkpoints") and read
