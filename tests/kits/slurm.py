"""A one-machine Slurm cluster in a folder of its own: munged, slurmctld and two slurmd, started without systemd and
ended.

It touches no other Slurm on the machine: own configuration, ports, socket, key and state; and it ends only its own
processes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kits.patience import PATIENCE

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")


def missing() -> str:
    """Why no cluster can be started here; empty where one can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (apt-get install slurm-wlm munge)"
    return "" if os.geteuid() == 0 else "slurmd starts jobs as root only"


@dataclass
class Cluster:
    """Running daemons and how to talk to them."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """Variables for every command of Slurm that is to reach this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def command(self, *words: str) -> str:
        """Standard output of a command of Slurm."""
        done = subprocess.run(
            words, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=PATIENCE
        )
        if done.returncode:
            raise AssertionError(f"{' '.join(words)}: {done.stderr}")
        return done.stdout.strip()

    def fact(self, job: str, name: str) -> str:
        """One value of `scontrol show job`, such as JobState."""
        text = self.command("scontrol", "show", "job", job)
        return dict(word.partition("=")[::2] for word in text.split() if "=" in word)[name]

    def wait_for(self, what: str, holds: Callable[[], bool]) -> None:
        """Until something holds; where it does not, the error shows the ends of all logs."""
        end = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > end:
                raise AssertionError(f"waited {PATIENCE:.0f} s for {what}\n{self.logs()}")
            time.sleep(0.2)

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        texts = {path.name: path.read_text(errors="replace")[-2000:] for path in sorted(self.folder.glob("*.log"))}
        return "\n".join(f"--- {name}\n{text}" for name, text in texts.items())

    def start(self, *words: str) -> None:
        """A daemon that stays in the foreground of its own process."""
        environment = {**os.environ, **self.environment}
        with (self.folder / f"{Path(words[0]).name}-{len(self.processes)}.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen(words, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            )

    def end(self) -> None:
        """Cancel what still runs, then end the daemons, the last first."""
        with contextlib.suppress(AssertionError, subprocess.SubprocessError):
            jobs = self.command("squeue", "--noheader", "--format=%i").split()
            if jobs:
                self.command("scancel", *jobs)
                self.wait_for("the jobs to end", lambda: not self.command("squeue", "--noheader", "--format=%i"), 45)
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Two nodes of four processors each (as Slurm believes), partitions `low` (pre-emptible, 30 s of grace) and
    `high`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    (folder / "slurm.conf").write_text(_configuration(folder), encoding="utf-8")
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n", encoding="utf-8")  # not used, but looked for
    made = Cluster(folder)
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "seed", "log")]
    try:
        made.start(
            shutil.which("munged") or "munged",
            "--foreground",
            "--force",
            f"--socket={folder}/munge.socket",
            f"--key-file={key}",
            *munge,
        )
        made.wait_for("munged", (folder / "munge.socket").exists, 20)
        made.start("slurmctld", "-D", "-i")
        for node in ("one", "two"):
            made.start("slurmd", "-D", "-N", node)
        made.wait_for("two idle nodes", lambda: _idle(made) == 2, 60)
        yield made
    finally:
        made.end()


def _idle(made: Cluster) -> int:
    try:
        return made.command("sinfo", "--noheader", "--Node", "--partition=low", "--format=%T").split().count("idle")
    except AssertionError:  # the controller is not up yet
        return 0


def _configuration(folder: Path) -> str:
    host = socket.gethostname()
    controller, one, two = _free_ports(3)
    return f"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits as long as a credential lives.
AuthInfo=socket={folder}/munge.socket,cred_expire=6
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=20
ReturnToService=2
MailProg=/bin/true
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={one} CPUs=4 RealMemory=2000 State=UNKNOWN
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={two} CPUs=4 RealMemory=2000 State=UNKNOWN
PartitionName=low Nodes=one,two Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=30 MaxTime=60 State=UP
PartitionName=high Nodes=one,two PriorityTier=10 PreemptMode=OFF MaxTime=60 State=UP
"""


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
