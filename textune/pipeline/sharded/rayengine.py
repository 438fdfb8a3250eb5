"""Shards predicted by Ray Data: the same plan, the same function for a shard, and the same parts beside the output.

Only numbers of shards go out: each actor reads the input by itself and goes forward in it, and what it predicted comes
back, so that this process alone writes. Without an address, a cluster of this machine is started for the time of the
call, without its dashboard and without usage statistics; its own files lie in the system's temporary folder, since
the names of sockets must be short, and are removed with it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from textune.errors import RunError, TextuneError
from textune.partfiles import PartFiles
from textune.pipeline.sharded.plan import Plan
from textune.pipeline.sharded.reading import ShardRows, rows_to_do
from textune.pipeline.sharded.settings import Settings
from textune.pipeline.sharded.worker import (
    TRIES,
    Outcome,
    Part,
    Seat,
    answer,
    keep_part,
    name_of,
    opened,
    seats,
)
from textune.prediction import read_card
from textune.wording import count


def require_ray() -> Any:
    """The module `ray`; RunError where the extra is not installed."""
    # Before ray is imported: it reads them then.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    try:
        import ray.data
    except ImportError as error:
        raise RunError(
            "--engine ray: Ray Data is not installed.",
            hint='Install it with: pip install "textune[ray]"; or leave --engine out for processes of this machine.',
            key="engine",
            value="ray",
            reason="not installed",
        ) from error
    return ray


class ShardActor:
    """Predicts shards by their numbers, in a process of Ray."""

    def __init__(self, seat: Seat, settings: Settings, plan: Plan, left: frozenset[int]) -> None:
        seat.take()
        self._settings = settings
        self._plan = plan
        self._left = left
        self._predictor = opened(settings, plan.schema)
        self._rows: Iterator[ShardRows] = iter(())
        self._at = len(plan.shards)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """One shard: its number, the content of its part, and what became of it."""
        parts = list[Part]()
        [number] = batch["number"].tolist()
        try:
            outcome = answer(self._predictor, self._read(number), parts.append)
        except TextuneError as error:
            outcome = Outcome(None, error)
        content = parts[0].content if parts else b""
        return {"number": batch["number"], "content": [content], "outcome": [pickle.dumps(outcome)]}

    def _read(self, number: int) -> ShardRows:
        """The rows of a shard: numbers mostly grow, so the input is mostly read forward."""
        if number <= self._at:
            done = set(range(len(self._plan.shards))) - self._left
            card = read_card(Path(self._settings.opening.model))
            self._rows = rows_to_do(self._settings, card, self._plan, done)
        for rows in self._rows:
            self._at = rows.number
            if rows.number == number:
                return rows
        raise AssertionError(f"no shard {number}")


def by_ray(
    settings: Settings,
    plan: Plan,
    parts: PartFiles,
    left: list[int],
    *,
    num_workers: int,
    address: str | None,
    on_notice: Callable[[str], None],
) -> Generator[tuple[int, Outcome]]:
    """Predict the shards `left` with `num_workers` actors: the number of each with what became of it, as they end.
    RunError where Ray is not installed, no cluster answers, or it cannot go on."""
    ray = require_ray()
    address = address or os.environ.get("RAY_ADDRESS") or None
    with _cluster(ray, num_workers, address):
        on_notice(f"{count(num_workers, 'actor')} of Ray on {address or 'this machine'}")
        waiting = set(left)
        try:
            for row in _dataset(ray, settings, plan, left, num_workers).iter_rows():
                number = int(row["number"])
                yield number, _kept(parts, number, row["content"], pickle.loads(row["outcome"]))
                waiting.discard(number)
        except ray.exceptions.RayError as error:
            first = name_of(settings, plan, min(waiting, default=left[0]))
            reason = _last_line(error)
            raise RunError(
                f"Ray gave up with {count(len(waiting), 'shard')} left, from {first} on: {reason}",
                hint="There may be too little memory: try fewer --workers. What is done is kept, and the same command"
                " continues.",
                key="engine",
                value="ray",
                place=first,
                reason=reason,
            ) from error


def _kept(parts: PartFiles, number: int, content: bytes, outcome: Outcome) -> Outcome:
    """What became of a shard, once its part is written here."""
    if outcome.facts is None:
        return outcome
    try:
        keep_part(parts, number, Part(content, outcome.facts))
    except TextuneError as error:
        return Outcome(None, error)
    return outcome


def _dataset(ray: Any, settings: Settings, plan: Plan, left: list[int], num_workers: int) -> Any:
    """The shards as a data set of Ray, each in a block of its own, so that whatever dies costs one shard."""
    cpu = settings.opening.device == "cpu" or settings.opening.precision == "int8"
    num_gpus = 0 if cpu else ray.cluster_resources().get("GPU", 0)
    threads = seats(num_workers, cpu=True)[0].threads
    numbers = ray.data.from_items([{"number": number} for number in left], override_num_blocks=len(left))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the last two, which have no other place yet
        return numbers.map_batches(
            ShardActor,
            fn_constructor_args=(Seat(threads), settings.anywhere(), plan, frozenset(left)),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=num_workers),
            num_cpus=1,
            num_gpus=min(1, num_gpus / num_workers) if num_gpus else None,
            max_restarts=TRIES - 1,  # Ray Data itself would go on for ever
            max_task_retries=TRIES - 1,
        )


@contextlib.contextmanager
def _cluster(ray: Any, num_workers: int, address: str | None) -> Iterator[None]:
    """A cluster that runs already, or one of this machine for as long as this lasts."""
    if ray.is_initialized():  # by whoever calls this
        yield
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": False}
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    folder = None if address else tempfile.mkdtemp(prefix="textune-ray-")
    chosen: dict[str, Any] = {"address": address}
    if address is None:
        # It hears only whoever knows the token; one that is given is not written into the home folder.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        chosen = {"num_cpus": num_workers, "include_dashboard": False, "_temp_dir": folder}
    try:
        ray.init(**chosen, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise RunError(
            f"no cluster of Ray answers at {address}: {_last_line(error)}"
            if address
            else f"Ray cannot be started on this machine: {_last_line(error)}",
            hint="Check --ray-address, or leave it out for a cluster of this machine.",
            key="ray_address",
            value=address,
            reason=_last_line(error),
        ) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    try:
        yield
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _last_line(error: BaseException) -> str:
    return str(error).strip().rpartition("\n")[2]
