"""Going on from a model that was fine-tuned before: outputs follow their labels, and whatever changes is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from kits.backbones import tiny_backbone
from kits.models import ALL, COLORS, Built, lay_out, plain_copy, plain_inputs, random_rows
from transformers import AutoConfig, AutoModelForTokenClassification

from textune.config.schema import ModelSection
from textune.data.labels.map import REGRESSION, LabelMap
from textune.errors import ModelError
from textune.model.loading import load_model
from textune.model.tokenizer import load_tokenizer

POLAR = LabelMap("binary", ("neg", "pos"))


def load(folder: Path, labels: LabelMap, num_logits: int | None = None, *, seed: int = 1, **options: Any) -> Built:
    section = ModelSection(pretrained=str(folder), **options.pop("section", {}))
    tokenizer = load_tokenizer(section)
    outputs = len(labels.names) if num_logits is None else num_logits
    model = load_model(section, tokenizer, label_maps={"label": labels}, num_logits=outputs, seed=seed, **options)
    return Built(model.hf.config.model_type, folder, tokenizer, model.eval())


def fine_tuned(folder: Path, labels: LabelMap, num_logits: int | None = None, *, family: str = "bert") -> Built:
    """A model with a head of its own in `folder`: every bias and weight is unlike that of a new one."""
    tiny_backbone(family, folder / "backbone")
    built = load(folder / "backbone", labels, num_logits, seed=77)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in built.hf.named_parameters():
            if not name.startswith(built.hf.base_model_prefix + "."):
                parameter.normal_(generator=generator)
    built.model.save(folder)
    built.tokenizer.save_pretrained(folder)
    return Built(family, folder, built.tokenizer, built.model)


def edit_config(folder: Path, **keys: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def logits(built: Built) -> dict[str, torch.Tensor]:
    """Each output's logits [B], by its name in the configuration."""
    with torch.no_grad():
        logits_BC = built.model(lay_out(built, random_rows(built)))
    names = [built.hf.config.id2label[index] for index in range(built.hf.config.num_labels)]
    assert logits_BC.shape[1] == len(names)
    return dict(zip(names, logits_BC.T, strict=True))


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-5, rtol=1e-5)


# --- rows follow their labels ----------------------------------------------------------------------------------------


@pytest.mark.every_day(5)
@pytest.mark.parametrize("family", ALL)
def test_labels_that_stay_keep_their_logits_in_every_family(family: str, tmp_path: Path) -> None:
    before = fine_tuned(tmp_path / "first", COLORS, family=family)
    after = load(tmp_path / "first", LabelMap("multiclass", ("blue", "grey", "red", "white")))
    old, new = logits(before), logits(after)
    assert list(new) == ["blue", "grey", "red", "white"]
    assert same(new["blue"], old["blue"]) and same(new["red"], old["red"])
    assert not any(same(new[name], value) for name in ("grey", "white") for value in old.values())
    assert not same(new["grey"], new["white"])
    (notice,) = [note for note in after.model.notes if "head" in note]
    assert f"the head of the folder {tmp_path / 'first'} is kept for blue, red" in notice
    assert "is new for grey, white" in notice and "loses green" in notice and "data.labels.names" in notice
    # What is saved has the new labels, for plain transformers as well.
    rows = random_rows(after)[-1:]
    plain = plain_copy(after, tmp_path / "second")
    assert plain.config.label2id == {"blue": 0, "grey": 1, "red": 2, "white": 3}
    with torch.no_grad():
        theirs = plain(**plain_inputs(after, rows)).logits
        assert same(theirs, after.model(lay_out(after, rows)))


@pytest.mark.parametrize("names", [("green", "blue", "red"), ("blue", "green", "red")])
def test_another_order_permutes_the_outputs(names: tuple[str, ...], tmp_path: Path) -> None:
    before = fine_tuned(tmp_path, COLORS)
    after = load(tmp_path, LabelMap("multiclass", names))
    old, new = logits(before), logits(after)
    assert tuple(new) == names and all(same(new[name], old[name]) for name in names)
    assert after.model.notes == (
        f"the head is kept, its outputs in the order of the labels here: {', '.join(names)}"
        f" (in the folder {tmp_path}: red, green, blue)",
    )


@pytest.mark.parametrize("problem", ["multiclass", "multilabel"])
def test_the_same_labels_change_nothing_and_are_not_reported(problem: Any, tmp_path: Path) -> None:
    labels = LabelMap(problem, COLORS.names)
    before = fine_tuned(tmp_path, labels)
    after = load(tmp_path, labels, seed=9)
    assert after.model.notes == ()
    assert all(torch.equal(tensor, after.hf.state_dict()[name]) for name, tensor in before.hf.state_dict().items())


def test_layers_below_the_last_one_are_carried_over(tmp_path: Path) -> None:
    before = fine_tuned(tmp_path, COLORS, family="roberta")
    after = load(tmp_path, LabelMap("multiclass", ("a", "b", "c", "d")))
    assert torch.equal(before.hf.classifier.dense.weight, after.hf.classifier.dense.weight)
    assert after.hf.classifier.out_proj.weight.shape == (4, 32)


def test_labels_of_a_multilabel_model(tmp_path: Path) -> None:
    before = fine_tuned(tmp_path, LabelMap("multilabel", ("a", "b", "c")))
    old, new = logits(before), logits(load(tmp_path, LabelMap("multilabel", ("c", "d"))))
    assert same(new["c"], old["c"]) and not same(new["d"], old["a"])


def test_many_names_are_not_all_listed(tmp_path: Path) -> None:
    fine_tuned(tmp_path, LabelMap("multiclass", (*(f"old{n}" for n in range(40)), "kept")))
    (notice,) = load(tmp_path, LabelMap("multiclass", ("kept", "new"))).model.notes
    assert "old7 and 32 more" in notice and "old8" not in notice


def test_new_rows_depend_on_the_seed_alone_and_draw_nothing_else(tmp_path: Path) -> None:
    fine_tuned(tmp_path, COLORS)
    labels = LabelMap("multiclass", ("red", "x", "y"))
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = load(tmp_path, labels, seed=3).hf.classifier.weight
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(load(tmp_path, labels, seed=3).hf.classifier.weight, first)
    other = load(tmp_path, labels, seed=4).hf.classifier.weight
    assert torch.equal(other[0], first[0]) and not torch.equal(other[1:], first[1:])


@pytest.mark.parametrize(("family", "std"), [("bert", 0.2), ("t5", 32**-0.5), ("modernbert", 0.88 * 32**-0.5)])
def test_new_rows_are_initialised_as_their_family_does(family: str, std: float, tmp_path: Path) -> None:
    """ModernBERT cuts its normal distribution off at two deviations, which leaves 0.88 of the deviation."""
    fine_tuned(tmp_path, COLORS, family=family)
    labels = LabelMap("multiclass", tuple(f"n{index}" for index in range(400)))
    hf = load(tmp_path, labels).hf
    layer = hf.classification_head.out_proj if family == "t5" else hf.classifier
    assert layer.weight.std().item() == pytest.approx(std, rel=0.04)
    assert layer.weight.requires_grad and not layer.bias.any()


def test_a_frozen_backbone_leaves_a_changed_head(tmp_path: Path) -> None:
    fine_tuned(tmp_path, COLORS)
    built = load(tmp_path, LabelMap("multiclass", ("red", "x")), section={"freeze": ("backbone",)})
    built.model.freeze()
    hf = built.hf
    assert {name for name, p in hf.named_parameters() if p.requires_grad} == {"classifier.weight", "classifier.bias"}


# --- one output for two classes --------------------------------------------------------------------------------------


def test_one_logit_stays_where_its_label_stays(tmp_path: Path) -> None:
    before = fine_tuned(tmp_path, POLAR, 1)
    after = load(tmp_path, POLAR, 1)
    assert after.model.notes == () and same(logits(after)["pos"], logits(before)["pos"])


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_one_logit_is_negated_where_the_classes_change_places(family: str, tmp_path: Path) -> None:
    before = fine_tuned(tmp_path, POLAR, 1, family=family)
    after = load(tmp_path, LabelMap("binary", ("pos", "neg")), 1)
    assert same(logits(after)["neg"], -logits(before)["pos"])
    assert "negated weights" in after.model.notes[0] and "stands for pos, here for neg" in after.model.notes[0]


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_another_number_of_logits_for_two_classes_starts_anew(before: int, after: int, tmp_path: Path) -> None:
    first = fine_tuned(tmp_path, POLAR, before)
    second = load(tmp_path, POLAR, after)
    assert not any(same(one, other) for one in logits(second).values() for other in logits(first).values())
    forms = {1: "sigmoid on 1 output", 2: "softmax on 2 outputs"}
    assert second.model.notes == (
        f"the head is new: that of the folder {tmp_path} is a {forms[before]}, and this task needs a {forms[after]}",
    )


# --- heads that cannot be kept ---------------------------------------------------------------------------------------


@pytest.mark.every_day(2)
@pytest.mark.parametrize(
    ("before", "after", "parts"),
    [
        (
            COLORS,
            LabelMap("multiclass", ("a", "b", "c")),
            ["has the labels red, green, blue", "none of those in this data (a, b, c)"],
        ),
        (COLORS, LabelMap("multiclass", ("a", "b", "c", "d")), ["none of those in this data (a, b, c, d)"]),
        (COLORS, LabelMap("multilabel", COLORS.names), ["is a softmax on 3 outputs", "needs a sigmoid on 3 outputs"]),
        (COLORS, REGRESSION, ["is a softmax on 3 outputs", "needs a regression with 1 output"]),
        (REGRESSION, COLORS, ["is a regression with 1 output", "needs a softmax on 3 outputs"]),
        (REGRESSION, LabelMap("multilabel", ("score",)), ["is a regression", "needs a sigmoid on 1 output"]),
    ],
)
def test_a_head_of_another_meaning_starts_anew(
    before: LabelMap, after: LabelMap, parts: list[str], tmp_path: Path
) -> None:
    first = fine_tuned(tmp_path, before)
    second = load(tmp_path, after)
    assert not any(same(one, other) for one in logits(second).values() for other in logits(first).values())
    (notice,) = second.model.notes
    assert notice.startswith("the head is new: ") and "\n" not in notice
    assert all(part in notice for part in parts), notice
    again = load(tmp_path, after)
    assert all(
        torch.equal(one, other) for one, other in zip(logits(second).values(), logits(again).values(), strict=True)
    )


def test_a_regression_goes_on(tmp_path: Path) -> None:
    before = fine_tuned(tmp_path, REGRESSION)
    edit_config(tmp_path, id2label={"0": "LABEL_0"}, label2id={"LABEL_0": 0}, problem_type=None)
    after = load(tmp_path, REGRESSION)
    assert after.model.notes == () and same(logits(after)["score"], logits(before)["score"])


def unnamed(folder: Path) -> Built:
    built = fine_tuned(folder, COLORS)
    labels = {str(index): f"LABEL_{index}" for index in range(3)}
    edit_config(
        folder, id2label=labels, label2id={name: int(index) for index, name in labels.items()}, problem_type=None
    )
    return built


def test_outputs_without_names_start_anew_under_names(tmp_path: Path) -> None:
    first = unnamed(tmp_path)
    second = load(tmp_path, COLORS)
    assert not any(same(one, other) for one in logits(second).values() for other in logits(first).values())
    (notice,) = second.model.notes
    assert "calls its outputs LABEL_0, LABEL_1, LABEL_2" in notice and "mean red, green, blue" in notice
    assert "id2label in its config.json" in notice
    edit_config(
        tmp_path,
        id2label=dict(zip("012", COLORS.names, strict=True)),
        label2id={n: i for i, n in enumerate(COLORS.names)},
    )
    named = load(tmp_path, COLORS)
    assert named.model.notes == () and same(logits(named)["red"], logits(first)["red"])


def test_outputs_without_names_are_taken_for_the_integers_they_count(tmp_path: Path) -> None:
    first = unnamed(tmp_path)
    second = load(tmp_path, LabelMap("multiclass", ("0", "2", "1")))
    old, new = logits(first), logits(second)
    assert same(new["2"], old["blue"]) and same(new["1"], old["green"])
    assert "LABEL_0, LABEL_1, LABEL_2" in second.model.notes[0] and "taken for 0 to 2" in second.model.notes[0]
    ratings = load(tmp_path, LabelMap("multiclass", ("1", "2", "3")))
    assert "head is new" in ratings.model.notes[0]


def test_unnamed_outputs_that_the_data_names_the_same(tmp_path: Path) -> None:
    first = unnamed(tmp_path)
    new = logits(load(tmp_path, LabelMap("binary", ("LABEL_1", "LABEL_2"))))
    assert same(new["LABEL_1"], logits(first)["green"]) and same(new["LABEL_2"], logits(first)["blue"])


def test_unnamed_outputs_of_another_number_are_asked_about(tmp_path: Path) -> None:
    unnamed(tmp_path)
    with pytest.raises(ModelError, match=r"classifier\.bias is \(3,\).*ignore_mismatched_sizes = true"):
        load(tmp_path, POLAR)
    allowed = load(tmp_path, POLAR, section={"ignore_mismatched_sizes": True})
    assert allowed.model.notes == ("The classification head is new and will be trained.",)


def test_a_name_that_stands_twice_is_not_carried_over(tmp_path: Path) -> None:
    first = fine_tuned(tmp_path, COLORS)
    edit_config(tmp_path, id2label={"0": "red", "1": "red", "2": "blue"}, label2id={"red": 1, "blue": 2})
    second = load(tmp_path, LabelMap("binary", ("blue", "red")))
    assert same(logits(second)["blue"], logits(first)["blue"])
    assert not any(same(logits(second)["red"], logits(first)[name]) for name in ("red", "green"))


def test_the_head_of_another_task_is_not_taken_for_ours(tmp_path: Path) -> None:
    folder = tiny_backbone("bert", tmp_path)
    words = AutoModelForTokenClassification.from_pretrained(
        folder, id2label={0: "neg", 1: "pos"}, label2id={"neg": 0, "pos": 1}
    )
    words.save_pretrained(folder)
    model = load(folder, POLAR).model
    assert "the head is new" in model.notes[0] and "BertForTokenClassification" in model.notes[0]
    assert not torch.equal(model.hf.classifier.weight, words.classifier.weight)
    edit_config(folder, architectures=None)
    assert torch.equal(load(folder, POLAR).hf.classifier.weight, words.classifier.weight), (
        "it may be a classifier of texts"
    )


@pytest.mark.parametrize("names", [("red", "green", "blue"), ("red", "x", "y", "z")])
def test_a_head_that_the_weights_lack_is_not_said_to_be_kept(names: tuple[str, ...], tmp_path: Path) -> None:
    fine_tuned(tmp_path, COLORS)
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("classifier")}
    safetensors.torch.save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    built = load(tmp_path, LabelMap("multiclass", names))
    assert built.model.notes == ("The classification head is new and will be trained.",)
    assert tuple(logits(built)) == names


def test_a_configuration_that_disagrees_with_its_weights(tmp_path: Path) -> None:
    fine_tuned(tmp_path, COLORS)
    edit_config(tmp_path, id2label={"0": "red", "1": "green"}, label2id={"red": 0, "green": 1})
    labels = LabelMap("multiclass", ("red", "green", "x", "y"))
    with pytest.raises(ModelError, match=r"classifier\.bias is \(3,\).*must be \(2,\)"):
        load(tmp_path, labels)
    assert len(logits(load(tmp_path, labels, section={"ignore_mismatched_sizes": True}))) == 4


def test_a_model_is_opened_as_it_was_saved(tmp_path: Path) -> None:
    """For prediction the outputs are those of the card, whatever a person wrote into config.json."""
    before = fine_tuned(tmp_path, COLORS)
    edit_config(
        tmp_path, id2label={"0": "rouge", "1": "vert", "2": "bleu"}, label2id={"rouge": 0, "vert": 1, "bleu": 2}
    )
    after = load(tmp_path, COLORS, as_saved=True)
    assert after.model.notes == () and same(logits(after)["red"], logits(before)["red"])


def test_a_head_that_ends_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BertForSequenceClassification

    fine_tuned(tmp_path, COLORS)
    made = BertForSequenceClassification.__init__

    class Scaled(torch.nn.Linear):
        """A layer that computes more than its weights say."""

    def init(self: Any, config: Any) -> None:
        made(self, config)
        self.classifier = Scaled(config.hidden_size, config.num_labels)

    monkeypatch.setattr(BertForSequenceClassification, "__init__", init)
    with pytest.raises(ModelError, match="does not end in one linear layer") as caught:
        load(tmp_path, POLAR)
    assert "Train on the same labels" in caught.value.hint


# --- which folder ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["best", "best.new", "best.old"])
@pytest.mark.parametrize("given", ["run", "run/best"])
def test_a_run_stands_for_its_best_model(name: str, given: str, tmp_path: Path) -> None:
    before = fine_tuned(tmp_path / "run" / name, COLORS)
    assert AutoConfig.from_pretrained(tmp_path / "run" / name).num_labels == 3
    assert same(logits(load(tmp_path / given, COLORS))["red"], logits(before)["red"])


def test_a_run_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ModelError, match=r"is a run that has not saved a model yet\. Wait for its first evaluation"):
        load(tmp_path, COLORS)


def test_a_checkpoint_is_no_model(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints" / "step-120"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"step-120 is a training checkpoint.*`--resume`.*`textune export`"):
        load(folder, COLORS)
