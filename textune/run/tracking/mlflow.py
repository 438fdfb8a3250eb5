"""`[[track]]` of kind `mlflow`: a run of MLflow, on a server or in a database.

Through `MlflowClient` alone: nothing here changes what `mlflow.start_run` and the like would do in this process.
MLflow's metrics are a set: the same name, step, time and value sent twice are one, so a batch of which nobody knows
whether it arrived can be sent again.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import posixpath
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from textune.atomic import WRITING
from textune.config import MlflowTrack
from textune.errors import ConfigError
from textune.run.tracking.installed import require_installed
from textune.run.tracking.mlflowmanners import GOOD_MANNERS, import_client
from textune.run.tracking.sink import Ended, Opened, Record, TrackedRun, as_scalars
from textune.wording import without_passwords

KEY_TAG, SENT_TAG, NOTICES_TAG, CHANGED_TAG = "textune.key", "textune.sent", "notices", "changed."
"""Tags of a run: `TrackedRun.key`; how far it has come, by stream; what was said; and, before the name of a parameter,
the value that it got when the run was resumed: MLflow lets no parameter change."""
MAX_METRICS = 1000
"""Of one request, as MLflow says."""
MAX_PARAMETERS = 25
"""Of one request; MLflow takes 100 if they are together shorter than a million bytes."""
MAX_VALUE, MAX_TAG, MAX_NAME = 6000, 8000, 250
"""Characters of the value of a parameter, of a tag, and of any name."""
OLD_MAX_VALUE = 250
"""Characters that every server takes, however old."""
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")
STATUSES = {"complete": "FINISHED", "failed": "FAILED"}
"""MLflow's word for how a run ended; any other is `KILLED`."""
_REFUSED = (400, 413, 422)
"""HTTP statuses of what a server will never take, however often it is sent."""
_GONE = ("RESOURCE_DOES_NOT_EXIST", "ENDPOINT_NOT_FOUND", "INVALID_PARAMETER_VALUE")
_Item = TypeVar("_Item")


class MlflowSink:
    """Metrics by step and time, parameters, tags; the files of a complete run as artefacts."""

    def __init__(self, track: MlflowTrack, key: str) -> None:
        """ConfigError where MLflow is not installed, or `uri` is none of its addresses."""
        require_installed("mlflow", key=f"{key}.kind", value="mlflow")
        _check_address(track.uri, key=f"{key}.uri")
        import_client()
        self._track = track
        self._client: Any = None
        self._run = ""
        self._sent: dict[str, int] = {}
        self._notices = ""

    def open(self, run: TrackedRun) -> Opened:
        with GOOD_MANNERS:
            return self._open(run)

    def _open(self, run: TrackedRun) -> Opened:
        database = database_file(self._track.uri)
        if database is not None and not database.exists():
            make_database(database)
        self._client = import_client()(tracking_uri=self._track.uri)
        found = self._find(run) or self._create(run)
        self._run, tags = found.info.run_id, found.data.tags
        self._sent = {stream: int(step) for stream, step in json.loads(tags.get(SENT_TAG, "{}")).items()}
        self._notices = tags.get(NOTICES_TAG, "")
        if found.info.status != "RUNNING":
            self._client.update_run(self._run, status="RUNNING")
        self._log_parameters(as_scalars(run.parameters), found.data.params)
        return Opened(self._run, dict(self._sent))

    def send(self, records: Sequence[Record]) -> Sequence[str]:
        with GOOD_MANNERS:
            return [reason for part in _parts(records) for reason in self._send(part)]

    def keep(self, name: str, path: Path) -> None:
        with GOOD_MANNERS:
            if path.is_dir():
                self._client.log_artifacts(self._run, str(path), artifact_path=name)
            else:
                inside = name.rpartition("/")[0]  # of a name such as plots/loss.png
                self._client.log_artifact(self._run, str(path), artifact_path=inside or None)

    def finish(self, ended: Ended) -> None:
        from mlflow.entities import Metric

        with GOOD_MANNERS:
            there = self._client.get_run(self._run).data.metrics
            now = int(time.time() * 1000)
            found = {metric_name(name): value for name, value in ended.numbers.items()}
            for part in _pieces([name for name in found if there.get(name) != found[name]], MAX_METRICS):
                metrics = [Metric(name, found[name], now, ended.best_step or 0) for name in part]
                self._client.log_batch(self._run, metrics=metrics)
            self._client.set_terminated(self._run, STATUSES.get(ended.status, "KILLED"))

    def close(self) -> None:
        self._client = None

    # --- beginning ---------------------------------------------------------------------------------------------------

    def _find(self, run: TrackedRun) -> Any:
        """MLflow's run of an earlier session, or of one that was killed before it could say so; None for neither."""
        from mlflow.exceptions import MlflowException

        if run.known:
            try:
                found = self._client.get_run(run.known)
            except MlflowException as error:
                if error.error_code not in _GONE:
                    raise
            else:
                if found.info.lifecycle_stage == "active":
                    return found
        experiment = self._client.get_experiment_by_name(self._track.experiment)
        if experiment is None:
            return None
        tagged = f"tags.`{KEY_TAG}` = '{run.key}'"
        return next(iter(self._client.search_runs([experiment.experiment_id], tagged, max_results=1)), None)

    def _create(self, run: TrackedRun) -> Any:
        tags = {KEY_TAG: run.key, "mlflow.source.name": "textune"}
        with contextlib.suppress(KeyError, OSError, ImportError):  # a container whose user has no name
            tags["mlflow.user"] = getpass.getuser()
        return self._client.create_run(
            self._experiment(),
            run_name=self._track.run_name or run.name,
            tags=tags,
            start_time=int(time.time() * 1000),
        )

    def _experiment(self) -> str:
        """The id of the experiment, made if need be."""
        from mlflow.exceptions import MlflowException

        name, database = self._track.experiment, database_file(self._track.uri)
        found = self._client.get_experiment_by_name(name)
        if found is None:
            # MLflow itself would take a folder in the working directory.
            artefacts = None if database is None else str(database.parent / "mlartifacts")
            try:
                return str(self._client.create_experiment(name, artifact_location=artefacts))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self._client.get_experiment_by_name(name)  # another run has just made it
        return str(found.experiment_id)

    def _log_parameters(self, wanted: Mapping[str, object], there: Mapping[str, str]) -> None:
        """Send the parameters that MLflow does not have yet; those that have become others are tags."""
        from mlflow.entities import Param, RunTag

        texts = {metric_name(name): _cut(str(value), MAX_VALUE) for name, value in wanted.items()}
        new = [Param(name, text) for name, text in texts.items() if name not in there]
        for part in _pieces(new, MAX_PARAMETERS):
            self._log_refusable(part, lambda items: self._client.log_batch(self._run, params=items))
        # A server that cut a value has one that begins alike.
        changed = [
            RunTag(CHANGED_TAG + name, _cut(text, MAX_TAG))
            for name, text in texts.items()
            if name in there and not _same(text, there[name])
        ]
        for tags in _pieces(changed, MAX_PARAMETERS):
            self._client.log_batch(self._run, tags=tags)

    def _log_refusable(self, params: list[Any], log: Any) -> None:
        """Log parameters at once; of those that a server refuses, such as an old one to which they are too long, the
        beginning. `config.toml` has them whole."""
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        try:
            log(params)
        except MlflowException as error:
            if error.get_http_status_code() not in _REFUSED:
                raise
            if len(params) > 1:
                for param in params:
                    self._log_refusable([param], log)
            elif len(params[0].value) > OLD_MAX_VALUE:
                self._log_refusable([Param(params[0].key, _cut(params[0].value, OLD_MAX_VALUE))], log)
            else:
                self._client.set_tag(self._run, f"refused.{params[0].key}"[:MAX_NAME], _cut(str(error), OLD_MAX_VALUE))

    # --- sending -----------------------------------------------------------------------------------------------------

    def _send(self, records: Sequence[Record]) -> Iterator[str]:
        """Send records in one request; if it is refused, each in one of its own, and yield why one is left out."""
        from mlflow.exceptions import MlflowException

        try:
            self._log(records)
        except MlflowException as error:
            if error.get_http_status_code() not in _REFUSED:
                raise
            if len(records) == 1:
                if self._client.get_run(self._run).info.lifecycle_stage != "active":
                    raise  # deleted meanwhile: not the record is refused, and a new run gets everything
                yield f"MLflow refused it: {_cut(' '.join(str(error).split()), OLD_MAX_VALUE)}"
                return
            for record in records:
                yield from self._send([record])

    def _log(self, records: Sequence[Record]) -> None:
        from mlflow.entities import Metric, RunTag

        metrics = [
            Metric(metric_name(name), value, int(record.time * 1000), record.step)
            for record in records
            for name, value in record.numbers.items()
        ]
        sent = self._sent | {record.stream: record.step for record in records if record.kind != "notice"}
        tags = [RunTag(SENT_TAG, json.dumps(sent, allow_nan=False))]
        notices = self._notices
        for record in records:
            if record.kind == "notice" and f"{record.message}\n" not in notices:
                notices += f"{record.message}\n"
        if notices != self._notices:
            tags.append(RunTag(NOTICES_TAG, notices[-MAX_TAG:]))
        self._client.log_batch(self._run, metrics=metrics, tags=tags)
        self._sent, self._notices = sent, notices


def metric_name(name: str) -> str:
    """A name as MLflow allows it: letters, digits, ` _-./`, no empty or dotted parts between slashes, not too long.
    Where that changes it, a hash keeps it apart from others."""
    allowed = re.sub(r"[^\w.\- /]", "_", name)
    allowed = "/".join("_" if part in ("", ".", "..") else part for part in allowed.split("/"))
    allowed = posixpath.normpath(allowed)
    if allowed == name and len(name) <= MAX_NAME:
        return name
    return f"{allowed[: MAX_NAME - 9]}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


def database_file(uri: str) -> Path | None:
    """The file of a database in a file; None for any other address."""
    scheme, _, path = uri.partition(":///")
    return Path(path).absolute() if scheme.partition("+")[0] == "sqlite" and path else None


def make_database(file: Path) -> None:
    """Make the tables of MLflow, all or none of them: one of which half were made, by a process that was killed, would
    be refused by MLflow for ever. Where another process makes the same, its file stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f"{file.name}{WRITING}-{uuid.uuid4().hex[:8]}")  # MLflow remembers addresses
    client = import_client()(tracking_uri=f"sqlite:///{aside}")
    try:
        client.search_experiments(max_results=1)
        client._tracking_client.store.engine.dispose()
        with contextlib.suppress(FileExistsError):
            os.link(aside, file)  # which, other than renaming, replaces nothing
    finally:
        aside.unlink(missing_ok=True)


def _check_address(uri: str, *, key: str) -> None:
    scheme = uri.partition(":")[0].split("+")[0].lower() if ":" in uri else ""
    database = database_file(uri)
    in_memory = scheme == "sqlite" and (database is None or database.name == ":memory:")  # ends with the process
    if scheme not in SCHEMES or in_memory:
        raise ConfigError(
            f"{key} = {without_passwords(uri)!r} is no address of MLflow.",
            hint='Give a server, such as "http://localhost:5000", or a database, such as "sqlite:///mlflow.db"; MLflow'
            " no longer writes to folders.",
            key=key,
            value=without_passwords(uri),
            reason="neither a server nor a database",
        )


def _same(text: str, there: str) -> bool:
    cut = there.removesuffix("…")
    return text == there or (len(there) >= OLD_MAX_VALUE and text.startswith(cut))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _pieces(items: Sequence[_Item], size: int) -> Iterator[list[_Item]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def _parts(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Records in parts with at most as many metrics as MLflow takes at once."""
    part, size = list[Record](), 0
    for record in records:
        num = len(record.numbers)
        if part and size + num > MAX_METRICS:
            yield part
            part, size = [], 0
        part.append(record)
        size += num
    if part:
        yield part
