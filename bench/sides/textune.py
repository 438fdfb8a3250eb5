"""textune's side. What the benchmarks know of its insides stands here and in `kernels.py` and `static.py`, nowhere
else."""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

import textune
from bench.machine import processor, versions
from bench.sides.examples import read_example
from bench.worker import Channel, Json, Skip, peak_memory, wait_for_device
from textune.batches.batch import Batch
from textune.batches.rows import TokenRows
from textune.batches.store import TokenStore
from textune.config.load import load_config
from textune.config.sharing import Checkpointing
from textune.config.tracking import MlflowTrack, TensorBoardTrack
from textune.data.labels.map import LABEL
from textune.errors import TextuneError
from textune.model.native.copies import WorkingCopy
from textune.pipeline.build import build_parts
from textune.ranks import ALONE
from textune.run.facts import run_facts
from textune.run.folder import RunFolder
from textune.run.header import describe
from textune.run.parts import Parts, batches_of
from textune.run.tracking.delivery import Delivery, Story
from textune.run.tracking.lines import JsonlTracker
from textune.run.tracking.table import build_targets
from textune.run.tracking.tracker import SilentTracker, StepValues
from textune.run.use import Use
from textune.training import updates
from textune.training.keeper import CheckpointKeeper
from textune.training.learner import Learner, learner_alone
from textune.training.loop import StepResult, steps

PACKAGES = ("textune", "torch", "transformers", "tokenizers", "datasets", "pyarrow", "numpy", "scikit-learn")
PROFILE_WARM_UP, KERNELS = 6, ("attention", "norm", "activation")
Run = Generator[StepResult]


# --- parts of a run --------------------------------------------------------------------------------------------------


def opened(config: str | Path, overrides: Sequence[str] = ()) -> Parts:
    """The parts of a run."""
    return build_parts(load_config(config, overrides).experiment, tracker=SilentTracker(), audit=False)


def facts(parts: Parts) -> Json:
    """For the first reply: threads, and what the run says of itself."""
    rows = parts.rows["train"]
    return {
        "threads": torch.get_num_threads(),
        "precision": parts.device.precision,
        "num_rows": len(rows),
        "num_tokens": int(rows.lengths.sum()),
        "num_trained": sum(p.numel() for p in parts.model.parameters() if p.requires_grad),
        "header": describe(run_facts(parts)),
    }


def rows_in_order(parts: Parts, order: Sequence[int]) -> TokenRows:
    """The training rows in the given order (`train.order` must be sequential); rows may occur more than once."""
    return parts.rows["train"].at(np.asarray(order, dtype=np.int64))


def rows_of(parts: Parts, lengths: np.ndarray) -> TokenRows:
    """Rows of the given `lengths` (int64 [N], in tokens), made of the tokens of the run's own rows, in a store of
    their own."""
    rows = parts.rows["train"]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.resize(np.asarray(rows.store.ids), int(lengths.sum()))
    store = TokenStore({"ids": ids}, offsets, lengths.astype(np.int32), example=np.arange(len(lengths)))
    targets = {name: np.resize(targets, len(lengths)) for name, targets in rows.targets.items()}
    return TokenRows(store, np.arange(len(lengths)), targets, None)


def stepping(parts: Parts, rows: TokenRows, learner: Learner | None = None) -> Run:
    """The training loop as a run drives it; endless for all that is measured here."""
    section = parts.settings.train
    return steps(
        learner or learner_alone(parts.model, section, parts.device),
        parts.task,
        batches_of(parts, rows),
        section,
        total_steps=parts.plan.total_steps,
        warmup_steps=parts.plan.steps(section.schedule.warmup),
    )


# --- training --------------------------------------------------------------------------------------------------------


def training(channel: Channel, spec: Json) -> None:
    """A segment of optimizer steps per command, over the rows in the order that comes first."""
    parts = opened(spec["config"], spec.get("overrides", ()))
    channel.reply(**facts(parts))
    run = stepping(parts, rows_in_order(parts, channel.receive()["order"]))

    def segment(command: Json) -> Json:
        results = [next(run) for _ in range(command["steps"])]
        return {
            "rows": sum(result.num_rows for result in results),
            "tokens": sum(result.num_tokens for result in results),
            "loss": sum(float(result.loss) for result in results) / len(results),
        }

    channel.serve(segment)


def streaming(channel: Channel, spec: Json) -> None:
    """The same over rows that are made block by block while the model trains."""
    parts = opened(spec["config"])
    channel.reply(**facts(parts))
    run = stepping(parts, parts.rows["train"])

    def segment(command: Json) -> Json:
        return {"tokens": sum(next(run).num_tokens for _ in range(command["steps"]))}

    channel.serve(segment)


def loops(channel: Channel, spec: Json) -> None:
    """`ours` and `plain`: our loop and one written by hand, over the same batches."""
    # Two models, so that neither loop meets what the other leaves in the gradients.
    parts, other = opened(spec["config"]), opened(spec["config"])
    rows = rows_in_order(parts, spec["order"])
    loader = iter(batches_of(parts, rows))
    batches = [next(loader) for _ in range(spec["batches"])]
    loader.close()
    runs = {"ours": stepping(parts, rows), "plain": plain_steps(other, batches)}
    channel.reply(**facts(parts))

    def segment(command: Json) -> Json:
        for _ in range(command["steps"]):
            next(runs[command["do"]])
        return {}

    channel.serve(segment)


def plain_steps(parts: Parts, batches: Sequence[Batch]) -> Generator[Any]:
    """The loop that one would write by hand over the same model and batches: forward, backward, clip, fused AdamW."""
    section = parts.settings.train
    trained = [p for p in parts.model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": section.optimizer.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=section.optimizer.lr, fused=True)
    done = 0
    while True:
        batch = batches[done % len(batches)]
        parts.model.train()
        optimizer.zero_grad(set_to_none=True)
        for part in batch.micro_batches:
            with parts.device.autocast():
                logits_BC = parts.model(part.tokens.to(parts.device.torch))
            losses_B = parts.task.head.row_losses(logits_BC, part.targets[LABEL].to(parts.device.torch))
            (losses_B.sum() / batch.num_rows).backward()
        torch.nn.utils.clip_grad_norm_(trained, section.max_grad_norm)
        optimizer.step()
        done += 1
        yield done


def token_costs(channel: Channel, spec: Json) -> None:
    """Per command, for `rows` rows of `length` tokens (None: the run's own lengths, repeated): planning and some
    steps."""
    channel.reply(threads=torch.get_num_threads())

    def cost(command: Json) -> Json:
        parts = opened(command["config"])
        count, length = command["rows"], command["length"]
        own = parts.rows["train"].lengths
        lengths = np.resize(own, count) if length is None else np.full(count, length, dtype=np.int64)
        rows = rows_of(parts, lengths)
        started = time.perf_counter()
        loader = iter(batches_of(parts, rows))
        next(loader)
        planning = time.perf_counter() - started
        loader.close()
        run, tokens, seconds = stepping(parts, rows), 0, 0.0
        for number in range(command["warm_up"] + command["steps"]):
            started = time.perf_counter()
            result = next(run)
            wait_for_device()
            if number >= command["warm_up"]:
                seconds += time.perf_counter() - started
                tokens += result.num_tokens
        run.close()
        measured = {
            "planning": planning,
            "epoch_tokens": int(lengths.sum()),
            "step_seconds": seconds,
            "tokens": tokens,
        }
        return {**measured, **peak_memory()}

    channel.serve(cost)


def timed(
    owner: Any, name: str, note: Callable[[float], object], clock: Callable[[], float] = time.perf_counter
) -> None:
    """Tell the seconds of each call of `owner.name`, from now on."""
    inner = getattr(owner, name)

    def outer(*args: Any, **kwargs: Any) -> Any:
        started = clock()
        try:
            return inner(*args, **kwargs)
        finally:
            note(clock() - started)

    setattr(owner, name, outer)


def checkpoints(channel: Channel, spec: Json) -> Json:
    """`plain` and `ours`: steps without checkpoints, and with one every `spec["every"]` steps, saved as a run saves
    them."""
    parts, folder = opened(spec["config"], spec.get("overrides", ())), Path(spec["folder"])
    learner = learner_alone(parts.model, parts.settings.train, parts.device)
    keeper = CheckpointKeeper(folder, Checkpointing(), ALONE)
    keeper.open(0)
    seconds: dict[str, list[float]] = {"copy_seconds": [], "write_seconds": []}
    timed(keeper, "_snapshot", seconds["copy_seconds"].append)
    timed(keeper, "_write", seconds["write_seconds"].append)
    run = stepping(parts, parts.rows["train"], learner)
    channel.reply(**facts(parts))
    for command in channel:
        started = time.perf_counter()
        for number in range(command["steps"]):
            step = next(run).step
            if command["do"] == "ours" and number % spec["every"] == 0:
                # One that is due while the last is still being written waits for a later step.
                if keeper.phase == "written":
                    keeper.wait()
                if keeper.phase == "idle":
                    keeper.save(learner, step, {"step": step})
        channel.reply(seconds=time.perf_counter() - started, **peak_memory())
        keeper.wait()  # outside of both: what is left of the last checkpoint would count against the next segment
    newest = folder / f"step-{keeper.last_step}"
    return {"bytes": sum(path.stat().st_size for path in newest.rglob("*") if path.is_file()), **seconds}


def tracked(channel: Channel, spec: Json) -> None:
    """`plain` and `ours`: steps written to metrics.jsonl, and the same sent to TensorBoard and MLflow at the end of
    each stretch, as if the run itself waited for that."""
    for package in ("tensorboard", "mlflow"):
        if find_spec(package) is None:
            raise Skip(f"{package} is not installed")
    parts, folder = opened(spec["config"]), RunFolder(Path(spec["folder"]))
    folder.path.mkdir(parents=True, exist_ok=True)
    run, use, seconds = stepping(parts, parts.rows["train"]), Use(parts.device.torch), -time.process_time()
    tracks = (TensorBoardTrack(), MlflowTrack(uri=f"sqlite:///{folder.path}/mlflow.db"))
    story = Story({}, run_facts(parts).to_dict())
    deliveries = [Delivery(target, folder, story) for target in build_targets(tracks, folder.path)]
    for delivery in deliveries:
        delivery.open()
    channel.reply(**facts(parts), opening_seconds=round(seconds + time.process_time(), 1))
    with JsonlTracker(folder.path / "plain.jsonl") as plain, JsonlTracker(folder.metrics) as lines:

        def segment(command: Json) -> Json:
            is_sent = command["do"] == "ours"
            for _ in range(command["steps"]):
                (lines if is_sent else plain).step(logged(next(run), use))
            for delivery in deliveries if is_sent else ():
                while delivery.send_next():
                    pass
            return {"sent": [delivery.num_sent for delivery in deliveries]}

        channel.serve(segment)
    for delivery in deliveries:
        delivery.close()


def logged(result: StepResult, use: Use) -> StepValues:
    """A step as a run writes it down."""
    return {
        "step": result.step,
        "total_steps": 0,
        "epoch": 0.0,
        "loss": float(result.loss),
        "lr": result.lr,
        "grad_norm": float(result.grad_norm),
        "tokens_per_second": 0.0,
        "rows_per_second": 0.0,
        "use": use.since_last(),
    }


def profile(channel: Channel, spec: Json) -> None:
    """Milliseconds per step in each part, timed from outside, on the compiled path."""
    parts = opened(spec["config"], spec["overrides"])
    channel.reply(**facts(parts))
    # With one thread processor time: other work on the machine distorts it less.
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: dict[str, list[float]] = defaultdict(list)
    kernels = parts.model.accelerator.kernels
    watched: list[tuple[Any, str, str]] = [
        (kernels, f"{name}{end}", f"{name} kernel") for name in KERNELS for end in ("", "_backward")
    ]
    watched += [
        (torch.Tensor, "__matmul__", "products of the layers"),
        (torch, "addmm", "products of the layers"),
        (torch.Tensor, "float", "gradients to fp32"),
        (WorkingCopy, "get", "copies of weights"),
        (updates, "update_weights", "gradient norm and optimizer"),
    ]
    for owner, name, part in watched:
        timed(owner, name, seconds[part].append, clock)
    run = stepping(parts, parts.rows["train"])

    def measure(command: Json) -> Json:
        for _ in range(PROFILE_WARM_UP):
            next(run)
        for spent in seconds.values():
            spent.clear()
        started = clock()
        for _ in range(command["steps"]):
            next(run)
        whole, parts_ms = (
            clock() - started,
            {part: 1e3 * sum(spent) / command["steps"] for part, spent in seconds.items()},
        )
        return {"parts": parts_ms | {"everything else": 1e3 * whole / command["steps"] - sum(parts_ms.values())}}

    channel.serve(measure)


# --- prediction ------------------------------------------------------------------------------------------------------


def predicting(channel: Channel, spec: Json) -> None:
    """Label names of the texts of each command, from a saved folder."""
    precision = spec["precision"]
    try:
        predictor = textune.load(spec["model"], device=spec["device"], precision=precision)
    except TextuneError as error:
        raise Skip(f"textune cannot predict in {precision} here: {error}") from error
    named = predictor.device.precision if precision == "auto" else precision
    channel.reply(threads=torch.get_num_threads(), precision=named)
    channel.serve(lambda command: {"labels": [found.label for found in predictor.predict(command["texts"])]})


# --- scores ----------------------------------------------------------------------------------------------------------


def scores(channel: Channel, spec: Json) -> None:
    """Train an example to its end in a folder that is removed again; the first reply is the result."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = [*spec["overrides"], f"train.seed={spec['seed']}"]
        result = textune.train(spec["example"], run=Path(folder) / "run", overrides=overrides)
        assert result is not None
        lines = [json.loads(line) for line in (result.run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    rates = [line["tokens_per_second"] for line in lines if line["kind"] == "step"]
    best = next(line for line in reversed(evaluations) if line["is_best"])
    facts = result.facts
    assert facts is not None
    reports = {name: report.to_dict() for name, report in result.reports.items()}
    for report in reports.values():  # texts of the data stay with the data
        for key in ("mistakes", "confusion_matrix", "confusions", "classes"):
            report.pop(key)
    channel.reply(
        seed=spec["seed"],
        metric=best["main"],
        epochs=[{"epoch": line["epoch"], "step": line["step"], **line["metrics"]} for line in evaluations],
        best=best["metrics"],
        last=evaluations[-1]["metrics"],
        reports=reports,
        rows=facts.rows,
        steps=facts.steps,
        parameters=facts.parameters,
        parameters_trained=facts.parameters_trained,
        precision=facts.precision,
        seconds=round(result.seconds, 1),
        tokens_per_second=round(sum(rates) / len(rates)),
        **peak_memory(),
        threads=torch.get_num_threads(),
        versions=versions(PACKAGES),
        machine=processor(),
        example=read_example(Path(spec["example"])),
    )
