"""Proves that a machine trains: its devices compute, its compiled kernels load, its launcher starts processes that
meet, and they train a step together as one process does.

Under a launcher (torchrun, `accelerate launch`) its processes are those that are put to the proof; without one, two
are started. Everything is written in a folder that is removed again.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from textune.adapters import Foreign, as_accelerated
from textune.chaos.alike import largest_difference, weights_difference
from textune.config import user_path
from textune.errors import RunError
from textune.model import KernelError, compiler_obstacle, load_library, processor, resolve_device
from textune.pipeline import train
from textune.ranks import Ranks, joined, launched
from textune.run import SilentTracker
from textune.wording import count

if TYPE_CHECKING:
    from pydantic import JsonValue

Run = Callable[[Sequence[str], int, Path, Mapping[str, str]], int]
"""Runs `textune WORDS` in so many processes to its end, its output into a file, in an environment: its exit code."""

_TOKENS = 8
"""Of each row. All are equally long, so that one process computes the same micro-batches that the ranks do."""
_CLOSE = {"fp32": 1e-5, "bf16": 1e-2, "fp16": 1e-2}
"""How far weights may be apart, by precision, where sums are added in another order."""
_TEXTS = ("a warm film with a warm ending and a warm cast", "a boring film with a boring ending and a boring cast")
_OF_LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_", "ACCELERATE_", "FSDP_")


@dataclass(frozen=True)
class Answer:
    """What one part of the machine answered."""

    name: str
    ok: bool
    said: str


@dataclass
class MachineProof:
    """All answers."""

    answers: list[Answer] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the machine is ready to train."""
        return all(answer.ok for answer in self.answers)

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        return {"ok": self.ok, "answers": [asdict(answer) for answer in self.answers]}


def prove_machine(
    *,
    processes: int = 2,
    folder: str | Path | None = None,
    say: Callable[[Answer], None] = lambda answer: None,
    run: Run | None = None,
) -> MachineProof | None:
    """Ask devices, compilers and the launcher, and train one step in `processes` and in one; None on all ranks but the
    first.

    `folder`: where it works, which processes on several machines must all reach; by default a new one among the
    system's temporary files. `run` starts the processes. `say` is called with each answer. TextuneError where a
    launcher has other settings than can be trained with.
    """
    proof = MachineProof()

    def answer(found: Answer) -> None:
        proof.answers.append(found)
        say(found)

    start = run or _in_processes
    with joined() if launched() else contextlib.nullcontext(Ranks()) as ranks, _workplace(ranks, folder) as place:
        if ranks.is_first:
            for one in (_devices(), _compilers()):
                answer(one)
        together = _Together.of(ranks, processes)
        code = together.train(place, ranks, start)
        if not ranks.is_first:
            return None
        alone = place / "alone"
        bare = {name: value for name, value in os.environ.items() if not name.startswith(_OF_LAUNCHERS)}
        ended = start(together.words(alone, kind="ddp"), 1, alone.with_suffix(".log"), bare)
        answer(_met(together, code, place / "together"))
        if not code:
            answer(_alike(together, ended, place / "together", alone))
    return proof


@dataclass(frozen=True)
class _Together:
    """The processes that train the step, and what a launcher's own configuration says of it."""

    world: int
    launched: bool
    settings: dict[str, object]

    @classmethod
    def of(cls, ranks: Ranks, processes: int) -> _Together:
        told = as_accelerated(Foreign("a launcher", (), ()), os.environ) if launched() else None
        settings: dict[str, object] = {} if told is None else {line.key: line.value for line in told.lines}
        world = ranks.world if launched() else processes
        if torch.cuda.device_count() < world and not launched():
            settings["train.device"] = "cpu"
        return cls(world, launched(), settings)

    @property
    def kind(self) -> str:
        return str(self.settings.get("train.distributed.kind", "ddp"))

    @property
    def precision(self) -> str:
        return str(self.settings.get("train.precision", "fp32"))

    @property
    def exact(self) -> bool:
        """Whether the bits must be those of one process: a sum of two numbers has no order."""
        return self.world <= 2 and self.kind == "ddp" and self.precision == "fp32"

    def overrides(self, run: Path, *, kind: str) -> dict[str, object]:
        """The toy's values for one step; dropout would be drawn for each process."""
        texts = run.with_name("rows.csv")
        shared = {key: value for key, value in self.settings.items() if key.startswith("train.distributed.")}
        own = {key: value for key, value in self.settings.items() if key not in shared}
        return {
            "data.train.files": str(texts),
            "data.validation.kind": "none",
            "tokens.cache": str(run.with_name("tokens")),
            "tokens.max_length": _TOKENS,
            "model.config": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
            "train.duration": "1 step",
            "train.order": "sequential",
            "train.batch_size": max(2, self.world),
            "train.max_tokens": _TOKENS,
            "train.deterministic": True,
            "train.precision": "fp32",
            **_rule(self.kind),
            "train.schedule.kind": "constant",
            "train.schedule.warmup": "0 steps",
            "evaluate.bootstrap": 0,
            **own,
            **(shared if kind != "ddp" else {"train.distributed.devices": "auto" if self.launched else 1}),
        }

    def words(self, run: Path, *, kind: str) -> list[str]:
        """The command of a run."""
        given = self.overrides(run, kind=kind)
        table = given.pop("model.config")
        assert isinstance(table, dict)
        inline = ", ".join(f"{key} = {value}" for key, value in table.items())
        if kind == "ddp":
            given["train.distributed.devices"] = 1
        pairs = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in given.items()]
        unset = [word for key in _UNSET for word in ("--unset", key)]
        return ["train", _TOY, "--run", str(run), *unset, f"model.config={{ {inline} }}", *pairs]

    def train(self, place: Path, ranks: Ranks, start: Run) -> int:
        """The step in all processes; their exit code."""
        run = place / "together"
        if ranks.is_first:
            lines = [f"{_TEXTS[row % 2]},{('positive', 'negative')[row % 2]}" for row in range(max(2, self.world))]
            (place / "rows.csv").write_text("\n".join(["review,opinion", *lines, ""]), encoding="utf-8")
        if not self.launched:
            bare = {name: value for name, value in os.environ.items() if not name.startswith(_OF_LAUNCHERS)}
            return start(self.words(run, kind="ddp"), self.world, run.with_suffix(".log"), bare)
        ranks.wait()
        train(_TOY, run=run, overrides=self.overrides(run, kind=self.kind), unset=_UNSET, tracker=SilentTracker())
        return 0


def _rule(kind: str) -> dict[str, object]:
    """An update in proportion to the gradient, so that a rounded one stays a small difference, and by the same code in
    every process: AdamW alone is a kernel, which rounds otherwise than PyTorch's. DeepSpeed has no other rule."""
    if kind == "deepspeed":
        return {"train.optimizer.eps": 1.0, "train.optimizer.lr": 0.1}
    return {"train.optimizer.kind": "sgd", "train.optimizer.lr": 0.1}


_TOY = "preset:tiny"
_UNSET = ("data.test",)


@contextlib.contextmanager
def _workplace(ranks: Ranks, folder: str | Path | None) -> Iterator[Path]:
    """A folder that all ranks know and the first one removes."""
    with contextlib.ExitStack() as stack:
        made = ""
        if ranks.is_first:
            parent = None if folder is None else user_path(folder)
            try:
                if parent is not None:
                    parent.mkdir(parents=True, exist_ok=True)
                made = stack.enter_context(tempfile.TemporaryDirectory(prefix="textune-test-", dir=parent))
            except OSError as error:
                raise _no_folder(parent, error) from error
        yield Path(ranks.broadcast(made))


def _no_folder(folder: Path | None, error: OSError) -> RunError:
    """That nothing can be written where the proof works."""
    reason = "it is a file" if folder is not None and folder.is_file() else error.strerror or str(error)
    return RunError(
        f"textune test cannot work in {folder or tempfile.gettempdir()}: {reason}.",
        hint="Give a folder that can be written to with --folder.",
        key="--folder",
        value=None if folder is None else str(folder),
        place=str(folder or ""),
        reason=reason,
    )


def _devices() -> Answer:
    """The processor and each GPU, which must multiply as the processor does."""
    here = resolve_device("auto", "auto")
    said = [f"PyTorch {torch.__version__}, Python {platform.python_version()}"]
    said.append(f"{count(torch.get_num_threads(), 'thread')} of {processor.vectors()}")
    left = torch.linspace(-1, 1, 64 * 64).reshape(64, 64)
    wrong = []
    for number in range(torch.cuda.device_count()):
        gpu = torch.device("cuda", number)
        said.append(f"GPU {number}: {torch.cuda.get_device_name(gpu)}")
        try:
            product = (left.to(gpu) @ left.to(gpu)).cpu()
        except RuntimeError as error:  # such as no code for a GPU of this age, or no memory that is free
            wrong.append(f"GPU {number} does not compute: {str(error).partition(chr(10))[0]}")
            continue
        if not torch.allclose(product, left @ left, atol=1e-2):
            wrong.append(f"GPU {number} multiplies wrongly")
    said.append(f"runs compute on {here}")
    return Answer("devices", not wrong, "; ".join([*wrong, *said]))


def _compilers() -> Answer:
    """The kernels that were built with the package, and what compiles layers for a GPU."""
    ok, said = True, []
    try:
        said.append(f"compiled kernels for {load_library().level}")
    except KernelError as error:
        ok = not processor.levels()  # a processor that textune knows no kernels for computes with PyTorch's operators
        said.append(f"no compiled kernels: {error}. {error.hint}")
    if torch.cuda.is_available():
        obstacle = compiler_obstacle(torch.device("cuda"))
        said.append(f"layers are not compiled on a GPU: {obstacle}" if obstacle else "layers are compiled on a GPU")
    return Answer("compilers", ok, "; ".join(said))


def _met(together: _Together, code: int, run: Path) -> Answer:
    """Whether the launcher's processes met and trained."""
    who = "the launcher" if together.launched else "torchrun"
    if code:
        return Answer("launcher", False, f"{who}: exit code {code}. {_last_words(run)}")
    return Answer("launcher", True, f"{count(together.world, 'process', 'processes')}, started by {who}, met")


def _alike(together: _Together, ended: int, run: Path, alone: Path) -> Answer:
    """Whether one process comes to the same weights."""
    what = f"{count(together.world, 'process', 'processes')} ({together.kind}, {together.precision})"
    if ended:
        return Answer("training", False, f"one process ended with exit code {ended}. {_last_words(alone)}")
    if together.exact:
        if difference := weights_difference(run, alone):
            return Answer("training", False, f"{what} do not train as one: {difference}")
        return Answer("training", True, f"{what} train a step to the same bits as one")
    apart = largest_difference(run, alone)
    return Answer(
        "training",
        apart <= _CLOSE[together.precision],
        f"after a step of {what} no weight is further than {apart:.1e} from that of one process",
    )


def _last_words(run: Path) -> str:
    try:
        lines = run.with_suffix(".log").read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    said = [line for line in lines if re.match(r"Error( on rank \d+)?: ", line)]
    said = said or [line for line in lines if line.strip()]
    return said[-1] if said else "It printed nothing."


def _in_processes(words: Sequence[str], processes: int, log: Path, environment: Mapping[str, str]) -> int:
    """As `textune launch` starts them on one machine."""
    own = [sys.executable, "-m", "textune", *words]
    node = [sys.executable, "-m", "textune.launch.node", "--signals=agent", "--standalone"]
    several = [*node, f"--nproc-per-node={processes}", "-m", "--", "textune", *words]
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
    with log.open("wb") as out:
        command = own if processes == 1 else several
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**threads, **environment}, check=False
        ).returncode
