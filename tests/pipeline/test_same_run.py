"""Every key of the configuration, changed when a run goes on: refused, let pass with a sentence, or compared by
content."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from kits.errors import refused

from textune.config.adapters import Lora, Quantize
from textune.config.deciding import Costs, DecideSection, F1Thresholds, PrecisionThresholds
from textune.config.documents import AllTypes, IndependentTypes, MetadataSection, UniformTypes
from textune.config.fields import item_variants, keys_of, role_of, variants
from textune.config.schema import Experiment, ModelSection, PythonModel, TrainSection
from textune.config.section import Role, Section
from textune.config.sharing import DeepSpeed, Sharded
from textune.config.sources import (
    ConcatSource,
    DataSection,
    FilesSource,
    FoldOff,
    GivenSource,
    HubSource,
    MetadataPrefix,
    PythonSource,
    SavedSource,
    SplitOff,
    StreamSource,
)
from textune.config.taskkinds import (
    BinaryTask,
    ConditionalLmTask,
    MulticlassTask,
    MultilabelTask,
    MultitaskTask,
    PythonTask,
    RegressionTask,
)
from textune.config.tracking import AccelerateTrack, MlflowTrack, PythonTrack, TensorBoardTrack
from textune.config.updaterules import (
    Adafactor,
    AdamW8bit,
    ConstantSchedule,
    CosineSchedule,
    InverseRootSchedule,
    Lion,
    Muon,
    PolynomialSchedule,
    PythonOptimizer,
    RestartedCosineSchedule,
    ScheduleFree,
    Sgd,
    Soup,
    WarmedUpConstantSchedule,
)
from textune.config.values import Duration
from textune.errors import RunError
from textune.run.same import compare, flat

WHERE = "runs/x"

ROLES = {
    "train.optimizer.lr": Role.LEARNED,
    "data.validation.seed": Role.LEARNED,
    "data.train.files": Role.LOCATED,
    "data.train.sources.0.files": Role.LOCATED,
    "data.train.sources.1.name": Role.LOCATED,
    "data.evaluations.news.files": Role.LOCATED,
    "data.evaluations.news.format": Role.LEARNED,
    "data.labels.names_file": Role.LOCATED,
    "data.corrections": Role.LOCATED,
    "model.pretrained": Role.LOCATED,
    "model.compile": Role.COMPUTED,
    "model.quantize.compute": Role.LEARNED,
    "model.freeze": Role.LEARNED,
    "data.metadata.dropout": Role.LEARNED,
    "data.metadata.allow_leak": Role.COMPUTED,
    "model.lora.r": Role.LEARNED,
    "model.lora.options": Role.LEARNED,
    "model.lora.merge": Role.COMPUTED,
    "train.distributed.stage": Role.COMPUTED,
    "train.checkpoint.every": Role.COMPUTED,
    "train.early_stopping.patience": Role.COMPUTED,
    "evaluate.metric": Role.LEARNED,
    "evaluate.best_by": Role.LEARNED,
    "evaluate.keep": Role.LEARNED,
    "train.rounding": Role.LEARNED,
    "train.order_seed": Role.LEARNED,
    "train.soup.seeds": Role.LEARNED,
    "train.evaluate_at": Role.COMPUTED,
    "evaluate.arms": Role.COMPUTED,
    "evaluate.plots": Role.COMPUTED,
    "evaluate.probe": Role.COMPUTED,
    "evaluate.at_end": Role.COMPUTED,
    "decide.folds": Role.COMPUTED,
    "decide.thresholds.matrix": Role.COMPUTED,
    "track.1.uri": Role.COMPUTED,
    "no.such.key": Role.LEARNED,
}

FILES, MORE = FilesSource(files=("a.csv",)), FilesSource(files=("b.csv",))
CONCAT = ConcatSource(sources=(FILES, HubSource(name="x/y")))
SAVED, PYTHON, GIVEN = SavedSource(folder="s"), PythonSource(object="m:f"), GivenSource(name="rows")
SCHEDULES: dict[type[Section], dict[str, Any]] = {
    CosineSchedule: {},
    RestartedCosineSchedule: {"num_cycles": 2},
    PolynomialSchedule: {"power": 2.0},
    ConstantSchedule: {},
    WarmedUpConstantSchedule: {},
    InverseRootSchedule: {"timescale": 10},
}
FLAT = {section.__name__ for section in (ConstantSchedule, WarmedUpConstantSchedule, InverseRootSchedule)}
"""Whose rates do not depend on how long the run is."""
EXPERIMENTS = {
    "files": Experiment(),
    "hub": Experiment().model_copy(
        update={"data": Experiment().data.model_copy(update={"train": HubSource(name="x/y")})}
    ),
    "saved": Experiment().model_copy(
        update={"data": Experiment().data.model_copy(update={"train": SAVED, "test": MORE})}
    ),
    "given": Experiment().model_copy(
        update={"data": Experiment().data.model_copy(update={"train": GIVEN, "test": GIVEN})}
    ),
    "prefixed": Experiment(data=DataSection(metadata=MetadataPrefix(columns=("source",)))),
    "named": Experiment().model_copy(
        update={
            "data": Experiment().data.model_copy(
                update={"evaluations": {"news": FILES, "share": SplitOff(), "both": CONCAT}}
            )
        }
    ),
    "stream": Experiment().model_copy(
        update={"data": Experiment().data.model_copy(update={"train": StreamSource(files=("a.jsonl",))})}
    ),
    "python": Experiment().model_copy(
        update={"data": Experiment().data.model_copy(update={"train": PYTHON, "test": SAVED})}
    ),
    "concat": Experiment().model_copy(
        update={"data": Experiment().data.model_copy(update={"train": CONCAT, "test": CONCAT})}
    ),
    "held out": Experiment().model_copy(
        update={"data": Experiment().data.model_copy(update={"validation": HubSource(name="x/y"), "test": SplitOff()})}
    ),
    "folds": Experiment().model_copy(
        update={
            "data": Experiment().data.model_copy(
                update={"validation": FoldOff(fold=1), "evaluations": {"share": FoldOff(fold=0)}}
            )
        }
    ),
    **{
        task.__name__: Experiment(task=task())
        for task in (BinaryTask, MulticlassTask, MultilabelTask, MultitaskTask, RegressionTask, ConditionalLmTask)
    },
    **{
        way.__name__: Experiment().model_copy(
            update={"train": Experiment().train.model_copy(update={"distributed": way()})}
        )
        for way in (Sharded, DeepSpeed)
    },
    **{
        f"documents, {sampling.kind}": Experiment(metadata=MetadataSection(types=("html", "url"), sampling=sampling))
        for sampling in (AllTypes(), UniformTypes(), IndependentTypes())
    },
    "soup": Experiment(train=TrainSection(order_seed=1, soup=Soup())),
    "few bits": Experiment(model=ModelSection(lora=Lora(), quantize=Quantize())),
    "adapters": Experiment(model=ModelSection(lora=Lora(options={"use_rslora": True}))),
    **{
        f"decide, {rule.kind}": Experiment(decide=DecideSection(thresholds=rule))
        for rule in (F1Thresholds(), PrecisionThresholds(floor=0.9), Costs(matrix=((0, 1), (5, 0))))
    },
    "tracked": Experiment(
        track=(
            TensorBoardTrack(folder="logs"),
            MlflowTrack(uri="sqlite:///x.db"),
            AccelerateTrack(name="wandb", options={"entity": "us"}),
            PythonTrack(object="m:C", options={"a": 1}),
        )
    ),
    "own model": Experiment(model=PythonModel(object="m:C", options={"a": 1})),
    "own task": Experiment(task=PythonTask(object="m:C", options={"a": 1})),
    **{
        schedule.__name__: Experiment().model_copy(
            update={"train": Experiment().train.model_copy(update={"schedule": schedule(**needed)})}
        )
        for schedule, needed in SCHEDULES.items()
    },
    **{
        optimizer.__name__: Experiment().model_copy(
            update={"train": Experiment().train.model_copy(update={"optimizer": optimizer()})}
        )
        for optimizer in (AdamW8bit, Adafactor, Sgd, Lion, ScheduleFree, Muon)
    },
    "own optimizer": Experiment().model_copy(
        update={
            "train": Experiment().train.model_copy(
                update={"optimizer": PythonOptimizer(object="m:C", options={"a": 1})}
            )
        }
    ),
}


def values_of(section: Section, place: tuple[str, ...] = ()) -> dict[str, tuple[Any, Any]]:
    """Every key by its place, with its annotation and value; sections of lists by number."""
    found: dict[str, tuple[Any, Any]] = {}
    for name, annotation in keys_of(type(section)).items():
        value, here = getattr(section, name), (*place, name)
        if isinstance(value, Section):
            found |= values_of(value, here)
            if len(variants(annotation)) > 1:
                found[".".join((*here, "kind"))] = (str, value.kind)  # type: ignore[attr-defined]
        elif isinstance(value, tuple) and value and isinstance(value[0], Section):
            for number, item in enumerate(value):
                found |= values_of(item, (*here, str(number)))
        elif isinstance(value, dict) and value and all(isinstance(item, Section) for item in value.values()):
            for entry, item in value.items():
                found |= values_of(item, (*here, entry)) | {".".join((*here, entry, "kind")): (str, item.kind)}
        else:
            found[".".join(here)] = (annotation, value)
    return found


def other_than(value: Any) -> Any:
    """Another value, as JSON holds it; `compare` sees resolved values and judges no types."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "x"
        case Duration():
            return str(Duration(value.amount + 1, value.unit))
        case dict():
            return {**value, "folder": "changed"}
        case tuple() | list():
            return [*value, "changed"]
        case None:
            return "set"
    raise AssertionError(value)


def changed(tree: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    name, _, rest = key.partition(".")
    if not rest:
        return {**tree, name: value}
    if isinstance(tree[name], list):
        number, _, rest = rest.partition(".")
        items = list(tree[name])
        items[int(number)] = changed(items[int(number)], rest, value)
        return {**tree, name: items}
    return {**tree, name: changed(tree[name], rest, value)}


CASES = [(name, key) for name, experiment in EXPERIMENTS.items() for key in values_of(experiment)]


@pytest.mark.every_day(1)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_key_is_refused_listed_or_compared_by_content(name: str) -> None:
    experiment = EXPERIMENTS[name]
    saved = experiment.model_dump(mode="json")
    assert compare(saved, saved, where=WHERE) == []
    for key, (_, value) in values_of(experiment).items():
        now = changed(saved, key, other_than(value))
        if key == "tokens.max_length":  # "auto" stands for some number, which the content is compared by
            assert compare(saved, now, where=WHERE) == compare(now, saved, where=WHERE) == []
            saved_24, now = changed(saved, key, 24), changed(saved, key, 32)
            with refused(RunError, reason="tokens.max_length was 24 and is 32"):
                compare(saved_24, now, where=WHERE)
        elif role_of(key) is Role.LOCATED:
            assert compare(saved, now, where=WHERE) == [], key
        elif role_of(key) is Role.COMPUTED or (key == "train.duration" and name in FLAT):
            for before, after in ((saved, now), (now, saved)):
                notes = compare(before, after, where=WHERE)
                assert len(notes) == 1 and notes[0].endswith(" from here on"), notes
                said = notes[0].partition(" was ")[0]
                assert said == key or (isinstance(value, dict) and said.startswith(f"{key}.")), notes
        else:
            for before, after in ((saved, now), (now, saved)):
                with pytest.raises(RunError, match="was trained with another configuration") as caught:
                    compare(before, after, where=WHERE)
                assert f"{key}" in caught.value.message, caught.value.message
                assert " from here on" not in caught.value.message


def test_the_cases_are_all_keys_of_all_variants() -> None:
    """A new key, or a new kind of table, must come by here."""

    def kinds(section: type[Section]) -> set[type[Section]]:
        found = {section}
        for name, annotation in keys_of(section).items():
            for variant in (variants(annotation) or item_variants(annotation)).values():
                if name != "sources":
                    found |= kinds(variant)
        return found

    def seen(section: Section) -> set[type[Section]]:
        found = {type(section)}
        for name in keys_of(type(section)):
            value = getattr(section, name)
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Section):
                    found |= seen(item)
        return found

    assert kinds(Experiment) == set(
        itertools.chain.from_iterable(seen(experiment) for experiment in EXPERIMENTS.values())
    )
    everything = {key for _, key in CASES}
    assert everything >= ROLES.keys() - {"no.such.key"}


@pytest.mark.parametrize("key", ROLES)
def test_a_key_has_the_role_that_the_schema_gives_it_or_its_table(key: str) -> None:
    assert role_of(key) is ROLES[key]


@pytest.mark.parametrize(
    ("key", "table"),
    [
        ("task.class_weights", "task"),
        ("task.groups", "task"),
        ("model.config", "model"),
        ("data.train.where", "data.train"),
        ("data.train.rename", "data.train"),
    ],
)
@pytest.mark.parametrize("name", ["folder", "files", "tokenizer", "revision"])
def test_a_name_of_the_users_own_is_no_key_that_says_where_something_stands(key: str, table: str, name: str) -> None:
    """A label, a column or a key of the backbone may be called `folder`."""
    saved = Experiment().model_dump(mode="json")
    before, after = changed(saved, key, {name: 1}), changed(saved, key, {name: 2})
    with refused(RunError, reason=f"{key}.{name} was 1 and is 2"):
        compare(before, after, where=WHERE)
    with pytest.raises(RunError, match=rf"{key}\.{name} was not set and is 2\.") as caught:
        compare(changed(saved, key, {}), after, where=WHERE)
    assert caught.value.message.count(" was ") == 2


def test_evaluation_sets_of_rows_of_their_own_may_come_and_go() -> None:
    saved = EXPERIMENTS["named"].model_dump(mode="json")
    sets = saved["data"]["evaluations"]
    without = {name: {**saved, "data": {**saved["data"], "evaluations": sets | {name: None}}} for name in sets}
    for name, tree in without.items():
        del tree["data"]["evaluations"][name]
        if name == "share":  # it gives its rows back to training, or takes them from there
            for pair in ((saved, tree), (tree, saved)):
                with refused(RunError, reason="data.evaluations.share.kind"):
                    compare(*pair, where=WHERE)
        else:
            assert compare(saved, tree, where=WHERE) == [f"data.evaluations.{name} is not evaluated from here on"]
            assert compare(tree, saved, where=WHERE) == [f"data.evaluations.{name} is evaluated from here on"]
    news = changed(saved, "data.evaluations.news.kind", "split")
    with refused(RunError, reason="data.evaluations.news.kind"):
        compare(saved, news, where=WHERE)


def test_trackers_may_come_and_go() -> None:
    saved = EXPERIMENTS["tracked"].model_dump(mode="json")
    kinds = [table["kind"] for table in saved["track"]]
    for number in range(len(kinds)):
        fewer = {**saved, "track": saved["track"][:number]}
        named = [f"track[{index}] ({kinds[index]})" for index in range(number, len(kinds))]
        for before, after, what in ((fewer, saved, "hears"), (saved, fewer, "does not hear")):
            said = [f"{name} {what} of the run from here on" for name in named]
            assert compare(before, after, where=WHERE) == said


def test_options_of_trackers_are_not_told() -> None:
    saved = EXPERIMENTS["tracked"].model_dump(mode="json")
    now = changed(saved, "track.2.options", {"entity": "us", "api_key": "secret-17"})
    for before, after in ((saved, now), (now, saved), (now, changed(now, "track.2.options.api_key", "secret-18"))):
        [note] = compare(before, after, where=WHERE)
        assert note.startswith("track.2.options.api_key was ") and "secret" not in note


def test_passwords_of_addresses_are_not_told() -> None:
    saved = EXPERIMENTS["tracked"].model_dump(mode="json")
    before, after = (changed(saved, "track.1.uri", f"https://me:{word}@{word}.org") for word in ("one", "two"))
    assert compare(before, after, where=WHERE) == [
        'track.1.uri was "https://one.org" and is "https://two.org" from here on'
    ]


def test_a_longer_run_is_the_same_run_only_under_a_flat_schedule() -> None:
    saved = Experiment().model_dump(mode="json")
    longer = changed(saved, "train.duration", "5 epochs")
    with refused(RunError, reason='train.duration was "3 epochs" and is "5 epochs"'):
        compare(saved, longer, where=WHERE)
    flat_before, flat_after = (changed(tree, "train.schedule.kind", "constant") for tree in (saved, longer))
    assert compare(flat_before, flat_after, where=WHERE) == [
        'train.duration was "3 epochs" and is "5 epochs" from here on'
    ]
    flat_before, flat_after = (
        changed(tree, "train.schedule.warmup", "6 %") for tree in (flat_before, flat_after)
    )  # a share of another length is another warm-up
    with refused(RunError, reason='train.duration was "3 epochs" and is "5 epochs"'):
        compare(flat_before, flat_after, where=WHERE)
    with pytest.raises(RunError, match=r"train\.schedule\.kind was") as caught:
        compare(saved, flat_after, where=WHERE)
    assert "train.duration" in caught.value.message


@pytest.mark.parametrize("curriculum", [[], [[0.5, 0.0]]])
def test_a_longer_run_is_told_that_its_curriculum_does_not_stretch(curriculum: list[list[float]]) -> None:
    experiment = Experiment(task=ConditionalLmTask(), metadata=MetadataSection(types=("url",)))
    saved = changed(experiment.model_dump(mode="json"), "train.schedule.kind", "constant")
    saved["metadata"]["sampling"]["curriculum"] = curriculum
    longer = changed(saved, "train.duration", "5 epochs")
    [said] = compare(saved, longer, where=WHERE)
    assert ("metadata.sampling.curriculum stays" in said) == bool(curriculum)


def test_several_changes_are_all_named() -> None:
    saved = Experiment().model_dump(mode="json")
    now = changed(changed(changed(saved, "train.seed", 3), "train.order", "bucket"), "train.prefetch", 0)
    with pytest.raises(
        RunError, match=r'train\.order was "shuffle" and is "bucket"; train\.seed was 0 and is 3\.'
    ) as caught:
        compare(saved, now, where=WHERE)
    assert "prefetch" not in caught.value.message and "RUN/best" in caught.value.hint


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ({"r": 4}, "model.lora.r was 8 and is 4"),
        ({"alpha": 8.0}, "model.lora.alpha was 16.0 and is 8.0"),
        ({"targets": ("query",)}, 'model.lora.targets was ["all-linear"] and is ["query"]'),
        ({"options": {"use_dora": True}}, "model.lora.options.use_dora was not set and is true"),
        (None, "model.lora.r was 8 and is not set"),
    ],
)
def test_other_adapters_are_another_run(now: dict[str, Any] | None, reason: str) -> None:
    saved = Experiment(model=ModelSection(lora=Lora())).model_dump(mode="json")
    changed_lora = None if now is None else Lora(**now)
    other = Experiment(model=ModelSection(lora=changed_lora)).model_dump(mode="json")
    with pytest.raises(RunError) as caught:
        compare(saved, other, where=WHERE)
    assert reason in caught.value.reason


def test_tables_are_flat() -> None:
    tree = {"a": {"b": 1, "c": None, "d": {}}, "e": [{"f": 2}, {"f": 3}], "g": (1, 2), "h": []}
    assert flat(tree) == {"a.b": 1, "e.0.f": 2, "e.1.f": 3, "g": [1, 2], "h": []}
