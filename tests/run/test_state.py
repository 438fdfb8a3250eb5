"""What a checkpoint keeps of a run: the same however old it is, and never a sentence that an editor may change."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from textune.errors import RunError
from textune.run.same import compare_identity
from textune.run.state import Identity, Progress, RunState, content_in_words, machine_in_words, state_of
from textune.training.checkpoint import Checkpoint, newest

OLD = Path(__file__).parents[1] / "data-of-versions" / "0.1.0" / "run" / "checkpoints"


@pytest.fixture
def old() -> Checkpoint:
    found, _ = newest(OLD)
    assert found is not None
    return found


def test_the_sentences_of_the_first_version_become_names(old: Checkpoint) -> None:
    state = state_of(old)
    named = {f"{kind}.{split}" for kind in ("data", "rows") for split in ("train", "validation")}
    assert state.identity.content.keys() == named | {"labels", "tokenizer", "token_embeddings"}
    assert state.identity.token_embeddings == old.state["content"]["the token embeddings of the backbone"]
    assert state.identity.content["labels"] == ["binary", "neg", "pos"]
    assert state.identity.machine.keys() == {"torch", "device", "kernels", "world", "sharing"}
    assert (state.identity.machine["world"], state.identity.machine["sharing"]) == (1, "alone")
    assert (state.progress.step, state.best_step, state.max_tokens, state.metrics_bytes) == (29, 27, 16384, 12439)
    assert (state.progress.evaluated, state.progress.evaluated_sets) == (False, [])


def test_what_is_written_is_read_again(old: Checkpoint) -> None:
    state = state_of(old)
    progress = replace(state.progress, evaluated_sets=["validation", "train"], losses=[0.5])
    changed = replace(state, progress=progress, trackers={"metrics_bytes": 7, "run_id": "a"})
    again = state_of(replace(old, state=json.loads(json.dumps(changed.to_dict()))))
    assert again == changed


@pytest.mark.parametrize("kind", ["data", "rows", "class_names"])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_every_old_sentence_is_the_words_of_its_name(old: Checkpoint, kind: str, split: str) -> None:
    sentence = {
        "data": f"the {split} data",
        "rows": f"the number of {split} rows",
        "class_names": f"the class names of the {split} data",
    }[kind]
    tree = old.state | {"content": {sentence: 1}}
    assert state_of(replace(old, state=tree)).identity.content == {f"{kind}.{split}": 1}
    assert content_in_words(f"{kind}.{split}") == sentence


@pytest.mark.parametrize(
    "name", ["progress", "best", "loader", "learner", "config", "trackers", "content", "machine", "backbone"]
)
def test_a_state_that_lacks_something_is_damaged(old: Checkpoint, name: str) -> None:
    tree = {key: value for key, value in old.state.items() if key != name}
    with pytest.raises(RunError) as caught:
        state_of(replace(old, state=tree))
    assert "step-29" in caught.value.message and name in caught.value.message and caught.value.hint


def test_what_changed_is_named(old: Checkpoint) -> None:
    saved = state_of(old).identity
    assert compare_identity(saved, saved, where="runs/x") == []
    now = replace(saved, content=dict(saved.content) | {"data.train": "other", "token_embeddings": "other"})
    with pytest.raises(RunError) as caught:
        compare_identity(saved, now, where="runs/x")
    for words in ("the train data", "the token embeddings of the backbone", "runs/x"):
        assert words in caught.value.message
    elsewhere = replace(saved, machine=dict(saved.machine) | {"world": 4, "sharing": "ddp"})
    [said] = compare_identity(saved, elsewhere, where="runs/x")
    for words in (f"{machine_in_words('world')} was 1, is 4", "alone", "ddp"):
        assert words in said


def test_a_later_backbone_may_know_more_keys() -> None:
    saved = Identity({}, {}, {"hidden_act": "gelu", "gone": 1})
    assert compare_identity(saved, replace(saved, backbone={"hidden_act": "gelu", "new": 2}), where="x") == []
    with pytest.raises(RunError, match="the backbone's hidden_act"):
        compare_identity(saved, replace(saved, backbone={"hidden_act": "relu"}), where="x")


def test_progress_and_state_have_names_of_their_own() -> None:
    state = RunState(Progress(step=3), {"best_step": None}, {"max_tokens": 9}, {}, {}, {}, Identity({}, {}, {}))
    assert state.to_dict()["step"] == 3 and state.best_step is None and state.metrics_bytes == 0
    assert state.identity.kernels is None and state.identity.token_embeddings is None


@pytest.mark.parametrize(("written", "known", "length"), [(24, None, 24), ("auto", None, 256), ("auto", 128, 128)])
def test_the_longest_row_is_that_of_the_version_which_began_the_run(
    old: Checkpoint, written: int | str, known: int | None, length: int
) -> None:
    """0.1.0 kept only the setting, and its `auto` was 256."""
    config = old.state["config"] | {"tokens": old.state["config"]["tokens"] | {"max_length": written}}
    content = old.state["content"] | ({} if known is None else {"max_length": known})
    assert state_of(replace(old, state=old.state | {"config": config, "content": content})).max_length == length


@pytest.mark.parametrize(
    ("has_key", "known", "separator"), [(False, None, ""), (True, None, None), (True, "\n", "\n")]
)
def test_what_stands_between_texts_is_that_of_the_version_which_began_the_run(
    old: Checkpoint, has_key: bool, known: str | None, separator: str | None
) -> None:
    """0.1.0 had no separator."""
    keys = old.state["config"]["tokens"] | ({"pair_separator": "auto"} if has_key else {})
    content = old.state["content"] | ({} if known is None else {"pair_separator": known})
    changed = old.state | {"config": old.state["config"] | {"tokens": keys}, "content": content}
    assert state_of(replace(old, state=changed)).pair_separator == separator
