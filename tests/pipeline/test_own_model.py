"""A model of a user's own: it trains, resumes, is saved without a pickle, evaluates and predicts."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.cli import runner
from kits.errors import refused
from kits.ownmodels import Bag, ReviewBert
from kits.ranking import textune_ranks
from kits.resume import end_of, same_end
from kits.runs import reviews, signal_after, write_place
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer

import textune
from textune.errors import CodeError, ConfigError, ModelError, Preempted
from textune.exports import export

BAG, PACKED, TWICE, BERT = (f"kits.ownmodels:{name}" for name in ("Bag", "PackedBag", "Twice", "ReviewBert"))
CONFIG = """
[data]
train.files = "rows.csv"
validation.ratio = 0.25
[model]
kind = "python"
object = "kits.ownmodels:Bag"
tokenizer = "backbone"
[train]
duration = "6 epochs"
optimizer.lr = 2e-2
"""
TEXTS = ["a fine film", "the worst", "a brilliant and charming movie", "a"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_place(tmp_path_factory.mktemp("place"), CONFIG, reviews(160))


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    textune.train(place / "config.toml", run=place / "run")
    return place / "run"


def test_it_trains_padded_and_predicts(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    assert report["metrics"]["accuracy"] > 0.9
    facts = json.loads((run / "manifest.json").read_text())["facts"]
    assert (facts["layout"], facts["model_type"], facts["backbone"]) == ("padded", "textune_python", BAG)
    assert "Bag is code of its own" in facts["layout_reason"] and "Bag is code of its own" in facts["kernels"]
    model = textune.load(run, code=BAG)
    assert [one.label for one in model.predict(TEXTS[:3])] == ["pos", "neg", "pos"]
    alone = np.concatenate([model.score([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, model.score(TEXTS), atol=1e-6)
    own = textune.evaluate(run, code=BAG)
    assert own.metrics["accuracy"] == report["metrics"]["accuracy"]


def test_ranks_share_it(place: Path, tmp_path: Path) -> None:
    """Two processes and one: the same rows, the same weights up to the order of sums."""
    words = [
        f"model.object={PACKED}",
        "model.options.dropout=0.0",
        "train.duration=8 steps",
        "data.validation.kind=none",
    ]
    words += ["task.kind=python", "task.object=kits.own:Margin", "train.optimizer.eps=1e-4"]
    config = str(place / "config.toml")
    done = textune_ranks(2, ["train", config, "--run", str(tmp_path / "two"), *words], tmp_path / "logs")
    assert set(done.codes) == {0}
    textune.train(config, run=tmp_path / "one", overrides=words)
    two, one = (load_file(tmp_path / name / "best" / "model.safetensors") for name in ("two", "one"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-5, rtol=1e-4)


def test_what_is_saved_is_the_module_and_no_pickle(run: Path) -> None:
    """And it does not open in plain transformers, which does not know the class."""
    assert {path.suffix for path in (run / "best").iterdir()} <= {".json", ".jsonl", ".safetensors", ".txt", ".jinja"}
    state = load_file(run / "best" / "model.safetensors")
    config = json.loads((run / "best" / "config.json").read_text())
    assert config["architectures"] == ["Bag"] and config["object"] == BAG
    module = Bag(num_outputs=2, vocab_size=config["vocab_size"], pad_id=config["pad_token_id"]).eval()
    module.load_state_dict({name.removeprefix("own."): tensor for name, tensor in state.items()})
    inputs = AutoTokenizer.from_pretrained(run / "best")(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        scores = torch.softmax(module(inputs["input_ids"], inputs["attention_mask"].bool()).double(), dim=1)
    torch.testing.assert_close(scores, torch.from_numpy(textune.load(run, code=BAG).score(TEXTS)), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="textune_python"):
        AutoConfig.from_pretrained(run / "best")


def test_nobody_imports_it_unasked(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    card = json.loads((run / "best" / "textune.json").read_text())
    assert card["model"] == {"object": BAG, "options": {}}
    cli = runner(capsys, monkeypatch, run.parent)
    assert cli("predict", str(run), "--code", BAG, stdin="a fine film\n").code == 0
    monkeypatch.setattr("importlib.import_module", None)
    with pytest.raises(CodeError) as caught:
        textune.load(run)
    assert caught.value.key == "code" and caught.value.value == BAG
    assert cli("predict", str(run), stdin="a fine film\n").code == 2


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    "words",
    [
        [f"model.object={BAG}"],
        [f"model.object={PACKED}", "train.max_tokens=100"],
        [f"model.object={TWICE}", "data.columns.text_pair=number"],
        [f"model.object={BERT}", "model.pretrained=backbone", "model.freeze=*.layer.0.*"],
        [f"model.object={BAG}", "task.kind=python", "task.object=kits.own:Margin", "model.options.width=4"],
    ],
)
def test_it_resumes_bit_for_bit(place: Path, tmp_path: Path, words: list[str]) -> None:
    words = [word.replace("=backbone", f"={place / 'backbone'}") for word in words]
    overrides = [*words, "train.duration=12 steps", "train.checkpoint.every=3 steps", "train.evaluate_every=4 steps"]
    textune.train(place / "config.toml", run=tmp_path / "whole", overrides=overrides)
    with pytest.raises(Preempted):
        after = signal_after({7: [signal.SIGTERM]})
        textune.train(place / "config.toml", run=tmp_path / "cut", overrides=overrides, after_step=after)
    textune.train(place / "config.toml", run=tmp_path / "cut", overrides=overrides, resume="latest")
    same_end(end_of(tmp_path / "cut"), end_of(tmp_path / "whole"))


def test_packed_is_padded(place: Path, tmp_path: Path) -> None:
    """Twin: the same weights after training, with and without padding; dropout draws otherwise in each."""
    ends = []
    for layout in ("packed", "padded"):
        overrides = [f"model.object={PACKED}", f"model.attention={layout}", "model.options.dropout=0.0"]
        overrides += ["train.duration=20 steps", "train.optimizer.eps=1e-4", "train.max_tokens=150"]
        result = textune.train(place / "config.toml", run=tmp_path / layout, overrides=overrides)
        assert result.facts is not None and result.facts.layout == layout
        ends.append(load_file(tmp_path / layout / "best" / "model.safetensors"))
    for name, tensor in ends[0].items():
        torch.testing.assert_close(tensor, ends[1][name], atol=1e-5, rtol=1e-5)
    with pytest.raises(ModelError):
        textune.train(place / "config.toml", run=tmp_path / "no", overrides=["model.attention=packed"])


def test_a_table_under_two_names_is_saved_once_and_stays_one(place: Path, tmp_path: Path) -> None:
    overrides = [f"model.object={TWICE}", "data.columns.text_pair=number", "train.duration=3 steps"]
    textune.train(place / "config.toml", run=tmp_path / "run", overrides=overrides)
    names = load_file(tmp_path / "run" / "best" / "model.safetensors").keys()
    assert ("own.table.weight" in names) + ("own.same.weight" in names) == 1 and "own.scale" in names
    model = textune.load(tmp_path / "run", code=TWICE)
    own = model._predictor.scorer.model.hf.own
    assert own.same.weight is own.table.weight
    assert model.score(["a film"], ["0.1"]).tolist() != model.score(["a film"], ["0.9"]).tolist()


def test_a_class_of_transformers(place: Path, tmp_path: Path) -> None:
    """Its folder opens in plain transformers, with its own class."""
    overrides = [f"model.object={BERT}", f"model.pretrained={place / 'backbone'}", "train.optimizer.lr=3e-3"]
    overrides += ["model.options.hidden_dropout_prob=0.0", "train.duration=2 epochs"]
    result = textune.train(place / "config.toml", run=tmp_path / "run", overrides=overrides)
    assert any("head is new" in notice for notice in result.notices)
    plain = ReviewBert.from_pretrained(tmp_path / "run" / "best").eval()
    assert plain.config.hidden_dropout_prob == 0 and plain.config.id2label == {0: "neg", 1: "pos"}
    inputs = AutoTokenizer.from_pretrained(tmp_path / "run" / "best")(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        scores = torch.softmax(plain(**inputs).logits.double(), dim=1)
    ours = textune.load(tmp_path / "run", code=BERT).score(TEXTS)
    torch.testing.assert_close(scores, torch.from_numpy(ours), atol=1e-6, rtol=1e-5)
    new = [word for word in overrides if "pretrained" not in word and "options" not in word]
    new += ["model.options={hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16}"]
    result = textune.train(place / "config.toml", run=tmp_path / "new", overrides=new)
    assert any("All weights of ReviewBert are new" in notice for notice in result.notices)
    assert textune.load(tmp_path / "new", code=BERT).score(TEXTS).shape == (4, 2)


def test_going_on_from_a_run_of_the_same_class(run: Path, place: Path, tmp_path: Path) -> None:
    overrides = [f"model.pretrained={run}", "train.duration=1 steps", "train.optimizer.lr=1e-9"]
    textune.train(place / "config.toml", run=tmp_path / "run", overrides=overrides)
    before, after = (textune.load(folder, code=BAG).score(TEXTS) for folder in (run, tmp_path / "run"))
    np.testing.assert_allclose(before, after, atol=1e-5)
    for words, key in (
        ([f"model.object={PACKED}"], "model.pretrained"),
        (["model.options.width=8"], "model.pretrained"),
        ([f"model.pretrained={place / 'backbone'}"], "model.pretrained"),
    ):
        with pytest.raises(ModelError) as caught:
            textune.train(place / "config.toml", run=tmp_path / "no", overrides=[overrides[0], *words], dry_run=True)
        assert caught.value.key == key
    words = ["model.kind=pretrained", f"model.pretrained={run}"]
    with pytest.raises(ModelError) as other:
        textune.train(place / "config.toml", run=tmp_path / "no", overrides=words, dry_run=True)
    assert f'model.object = "{BAG}"' in other.value.hint


@pytest.mark.every_day(1)
@pytest.mark.parametrize("object", [BAG, BERT])
def test_a_checkpoint_is_exported(place: Path, tmp_path: Path, object: str) -> None:
    overrides = [f"model.object={object}", "train.duration=4 steps", "data.validation.kind=none"]
    overrides += [f"model.pretrained={place / 'backbone'}"] if object == BERT else []
    textune.train(place / "config.toml", run=tmp_path / "run", overrides=overrides)
    checkpoint = tmp_path / "run" / "checkpoints" / "step-4"
    with pytest.raises(CodeError) as caught:
        export(checkpoint, tmp_path / "model")
    assert caught.value.value == object and not (tmp_path / "model").exists()
    export(checkpoint, tmp_path / "model", code=object)
    best, made = (
        load_file(folder / "model.safetensors") for folder in (tmp_path / "run" / "best", tmp_path / "model")
    )
    assert best.keys() == made.keys() and all(torch.equal(best[name], made[name]) for name in best)


@pytest.mark.every_day(5)
@pytest.mark.parametrize(
    ("overrides", "error", "key", "words"),
    [
        (["model.object=kits.own:Margin"], CodeError, "model.object", "is not a torch.nn.Module"),
        (["model.object=torch.nn:Linear"], CodeError, "model.object", "does not take (ids, mask)"),
        (["model.object=torch.nn:Module"], CodeError, "model.object", "has no method forward(ids, mask)"),
        (["model.object=kits.ownmodels:Bags"], CodeError, "model.object", "Did you mean 'Bag'?"),
        (["model.options.widht=3"], CodeError, "model.object", "does not take (num_outputs=..., vocab_size="),
        (["model.options.pad_id=3"], CodeError, "model.object", "model.options.pad_id is given by textune"),
        (["model.options.width=x"], CodeError, "model.object", "while it is made"),
        (
            [f"model.object={BERT}", "model.options.hiden_size=3"],
            ConfigError,
            "model.options.hiden_size",
            "hidden_size",
        ),
        (["model.freeze=encoder.*"], ConfigError, "model.freeze", "matches no parameter"),
        (["model.freeze=backbone"], ConfigError, "model.freeze", "all weights of this model are new"),
        (["tokens.max_length=40"], ConfigError, "", "has positions for 30 tokens"),
        (["train.compact_vocabulary=on"], ConfigError, "", "Bag is code of its own"),
    ],
)
def test_what_does_not_fit(
    place: Path, tmp_path: Path, overrides: list[str], error: Any, key: str, words: str
) -> None:
    with pytest.raises(error) as caught:
        textune.train(place / "config.toml", run=tmp_path / "run", overrides=overrides, dry_run=True)
    assert caught.value.key == key and words in str(caught.value)


def test_a_module_is_refused_before_data_is_read(place: Path, tmp_path: Path) -> None:
    with pytest.raises(CodeError):
        textune.train(place / "config.toml", overrides=["model.object=torch.nn:Linear", "data.train.files=gone.csv"])
    for model, name in ((BAG, "Bag"), (BERT, "ReviewBert")):
        windows = [f"model.object={model}", "tokens.long=windows", "data.train.files=gone.csv"]
        with refused(ModelError, key="tokens.long", value="windows", reason=f"{name} is code of its own"):
            textune.train(place / "config.toml", overrides=windows)
    with pytest.raises(ConfigError) as caught:
        textune.train({"data": {"train": {"files": "gone.csv"}}, "model": {"kind": "python", "object": BAG}})
    assert caught.value.key == "model.tokenizer"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return ids.float()", "forward returns a tensor of shape"),
        ("return [1]", "forward returns a list"),
        ("return self.out(ids)", "fails in forward"),
        ("return self.out(ids[:, :1].float().repeat(1, 3)).detach()", "forward returns outputs without a gradient"),
    ],
)
def test_what_it_gives_is_checked(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    module = write_module(tmp_path, monkeypatch, body)
    with pytest.raises(CodeError) as caught:
        textune.train(place / "config.toml", run=tmp_path / "run", overrides=[f"model.object={module}:M"])
    assert words in str(caught.value) and caught.value.key == "model.object"
    assert "fails" not in words or caught.value.place == f"{tmp_path / module}.py, line 7"


def test_a_loss_that_is_no_number_is_laid_to_its_own_code(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to the weights of a backbone that there is none of."""
    module = write_module(tmp_path, monkeypatch, "return self.out(mask[:, :1].float().repeat(1, 3)) / 0")
    with pytest.raises(ModelError) as caught:
        textune.train(place / "config.toml", run=tmp_path / "run", overrides=[f"model.object={module}:M"])
    assert "nan at step 1" in caught.value.message and "your own code" in caught.value.hint


def test_a_module_whose_sizes_are_not_known(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = write_module(tmp_path, monkeypatch, "return self.out(mask)", layer="nn.LazyLinear(k['num_outputs'])")
    with pytest.raises(CodeError) as caught:
        textune.train(place / "config.toml", run=tmp_path / "run", overrides=[f"model.object={module}:M"])
    assert caught.value.key == "model.object" and caught.value.value == "out.weight"


def write_module(
    folder: Path, monkeypatch: pytest.MonkeyPatch, body: str, layer: str = "nn.Linear(3, k['num_outputs'])"
) -> str:
    """A module of the user's with a class M that has this `forward`; its name."""
    name = f"own_{abs(hash((body, layer)))}"
    (folder / f"{name}.py").write_text(
        "from torch import nn\nclass M(nn.Module):\n    def __init__(self, **k):\n        super().__init__()\n"
        f"        self.out = {layer}\n    def forward(self, ids, mask):\n        {body}\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    return name


def test_the_example_of_the_documents_is_such_a_class(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands there, with its options."""
    page = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
    (block,) = [part.partition("```")[0] for part in page.split("```python\n") if part.startswith("class Bag")]
    (tmp_path / "my_models.py").write_text(f"from torch import nn\n{block}")
    monkeypatch.syspath_prepend(str(tmp_path))
    overrides = ["model.object=my_models:Bag", "model.options={ width = 64 }"]
    result = textune.train(place / "config.toml", run=tmp_path / "run", overrides=overrides)
    assert result.reports["validation"].metrics["accuracy"] > 0.9
    assert textune.load(tmp_path / "run", code="my_models:Bag").predict(TEXTS[:2])[1].label == "neg"
