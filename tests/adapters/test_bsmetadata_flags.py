"""The flags of bsmetadata's `evaluation.py`: each becomes words of `textune evaluate`, or is named as unused."""

from typing import Any

import pytest

from textune.adapters.bsmetadata.flags import FLAGS, read_flags
from textune.cli.models import evaluate
from textune.cli.systems.table import command_called

BECOMES: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"repo_id": "runs/x"}, ("runs/x", "--by-metadata")),
    ({"repo_id": "runs/x", "subfolder": "checkpoint-2000step"}, ("runs/x/checkpoint-2000step", "--by-metadata")),
    ({"output_file": "result.json"}, ("--out", "result.json")),
    ({"output_file": "result.txt"}, ("--out", "result.md")),
    ({}, ("--out", "evaluation.md")),
    ({"no_cuda": True}, ("--device", "cpu")),
    ({"test": True}, ("--max-documents", "10")),
    ({}, ("--max-documents", "1500")),
    ({"max_n_examples": 7}, ("--max-documents", "7")),
    ({"metadata_to_test": "html, title"}, ("--type", "html", "--type", "title")),
    ({"include_chunked_examples": True}, ("--chunks", "first")),
    ({"dedupe": True}, ("--dedupe",)),
    ({"prompt": True}, ("--prompt",)),
    ({"untrained": True}, ("--untrained", "gpt2-xl")),
    ({"untrained": True, "untrained_model_name": "gpt2"}, ("--untrained", "gpt2")),
]


@pytest.mark.parametrize(("given", "words"), BECOMES)
def test_a_flag_becomes_words(given: dict[str, Any], words: tuple[str, ...]) -> None:
    found = read_flags(given).words
    assert words in [found[start : start + len(words)] for start in range(len(found))]


def test_every_flag_has_a_test_or_a_reason_why_it_is_unused() -> None:
    tested = {name for given, _ in BECOMES for name in given}
    unused = {name for name, flag in FLAGS.items() if flag.unused}
    assert tested | unused == set(FLAGS) and not tested & unused
    left_out = read_flags(dict.fromkeys(unused, True)).left_out
    assert {one.key.removeprefix("--") for one in left_out} == unused


def test_the_words_are_ones_that_evaluate_takes() -> None:
    everything = {name: True for name, flag in FLAGS.items() if flag.default is False}
    words = list(read_flags({**everything, "repo_id": "runs/x"}).words)
    context = evaluate.make_context("evaluate", words)
    assert context.params["run"] == "runs/x" and context.params["by_metadata"]


def test_the_script_takes_every_flag() -> None:
    command = command_called("bsmetadata/evaluation.py")
    assert command is not None
    assert {option for parameter in command.params for option in parameter.opts} >= {f"--{name}" for name in FLAGS}
    assert len(command.params) == len(command_called("bsmetadata/evaluation").params)  # type: ignore[union-attr]
