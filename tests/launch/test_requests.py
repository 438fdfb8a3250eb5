"""The exact requests: the batch script of Slurm, run against stand-ins of its commands, and Kubernetes' manifest."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from textune.errors import LaunchError
from textune.launch import cluster
from textune.launch.cluster import prepare
from textune.launch.job import Job
from textune.launch.slurm import seconds


def write_command(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of stand-ins, first on the path; there is no cluster to ask for its memory."""
    folder = tmp_path / "commands"
    folder.mkdir()
    write_command(folder, "sinfo", "exit 1")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def slurm(config: Path, *options: str, **facts: Any) -> cluster.Request:
    return prepare(Job(str(config), **facts), "slurm", options)


@pytest.mark.parity("TR-12", "AZ-24")
def test_the_batch_script(config: Path, commands: Path) -> None:
    write_command(commands, "sbatch", "exit 1")
    options = ("time=4:00:00", "partition=long", "account=my group", "mail-user=me@here", "exclusive=")
    text = slurm(config, *options, nodes=2, gpus=8, cpus=16, memory_mb=64000, grace=90, env={"A": "it's $x"}).text
    heads = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]
    assert sorted(heads) == sorted(
        [
            "--job-name=my-first-0",
            "--nodes=2",
            "--ntasks-per-node=1",
            "--cpus-per-task=16",
            "--mem=64000",
            "--gpus-per-node=8",
            "--time=4:00:00",
            "--partition=long",
            "--account='my group'",
            "--mail-user=me@here",
            "--exclusive",
            "--requeue",
            "--open-mode=append",
            "--signal=USR1@90",
        ]
    )
    assert text.startswith("#!/bin/bash\n#SBATCH ")
    assert "\nsrun --cpus-per-task=16 --kill-on-bad-exit=0 --wait=90 " in text
    assert "--signals=everyone --nnodes=2 --nproc-per-node=8" in text
    assert "--gpus-per-node" not in slurm(config, processes=2).text


def run_script(config: Path, commands: Path, code: int, *, saves: str = "", before: str = "", failed: int = 0) -> str:
    """What the script says when srun ends with `code` and the run has the checkpoints `before`, then `saves` too."""
    folder = config.parent
    run = folder / "runs" / "My first"
    for name in before.split():
        (run / "checkpoints" / name).mkdir(parents=True)
    saving = "".join(f"mkdir -p {shlex.quote(str(run / 'checkpoints' / name))}; " for name in saves.split())
    write_command(commands, "sbatch", "exit 1")
    write_command(
        commands, "srun", f'printf "%s\\n" "$@" "$A" "$TORCHX_JOB_ID" "$TEXTUNE_ENDPOINT" > said; {saving}exit {code}'
    )
    write_command(commands, "scontrol", 'echo "$@" > requeued')
    if failed:
        (folder / FAILURES).write_text(f"{failed}\n")
    script = folder / "job.sh"
    script.write_text(slurm(config, env={"A": "it's $x"}).text, encoding="utf-8")
    environment = {**os.environ, "SLURM_JOB_ID": "20007", "SLURM_RESTART_COUNT": "9"}
    done = subprocess.run(
        ["bash", str(script)], env=environment, capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.stderr == ""
    assert done.returncode == (2 if code == 200 else code)
    return done.stdout


FAILURES = "slurm-20007-my-first.failures"


@pytest.mark.parametrize(
    ("code", "failed", "requeued"),
    [
        (0, 0, False),
        (2, 0, False),
        (200, 0, False),  # a mistake on any of several nodes
        (130, 0, False),
        (1, 0, True),
        (75, 0, True),
        (137, 2, True),
        (137, 3, False),
        (138, 0, True),
        (143, 3, False),  # nothing saved
    ],
)
def test_the_script_requeues_what_may_go_on(
    config: Path, commands: Path, code: int, failed: int, requeued: bool
) -> None:
    run_script(config, commands, code, failed=failed)
    said = (config.parent / "said").read_text().splitlines()
    assert said[-3:-1] == ["it's $x", "slurm://textune/20007"]
    assert said[-1].endswith(":29493")
    assert (config.parent / "requeued").exists() is requeued
    # The count lives as long as the job.
    assert (config.parent / FAILURES).exists() is requeued
    if requeued:
        assert (config.parent / "requeued").read_text() == "requeue 20007\n"
        assert (config.parent / FAILURES).read_text() == f"{failed + 1}\n"


@pytest.mark.parametrize(
    ("before", "saves", "free"),
    [
        ("", "step-7", True),
        ("step-9", "step-10", True),
        ("step-9 step-10", "step-10", False),
        ("step-9", "", False),
        ("step-9", "step-10.writing", False),
        ("", "", False),
    ],
)
@pytest.mark.parametrize("code", [138, 143])
def test_a_warned_run_is_requeued_freely_only_if_it_has_saved(
    config: Path, commands: Path, code: int, before: str, saves: str, free: bool
) -> None:
    said = run_script(config, commands, code, before=before, saves=saves, failed=3)
    assert (config.parent / "requeued").exists() is free
    assert ("the run is saved and the job requeued" in said) is free
    assert ("this counts as a failure" in said) is not free
    # A pre-emption leaves the count of failures as it is.
    assert (config.parent / FAILURES).exists() is free


def test_without_a_count_of_failures_nothing_is_requeued(config: Path, commands: Path) -> None:
    (config.parent / FAILURES).mkdir()
    script = config.parent / "job.sh"
    write_command(commands, "sbatch", "exit 1")
    write_command(commands, "srun", "exit 1")
    write_command(commands, "scontrol", 'echo "$@" > requeued')
    script.write_text(slurm(config).text, encoding="utf-8")
    environment = {**os.environ, "SLURM_JOB_ID": "20007"}
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, cwd=config.parent, check=False)
    assert done.returncode == 1
    assert not (config.parent / "requeued").exists()


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("90", 5400),
        ("2:30", 150),
        ("1:02:03", 3723),
        ("2-3", 183600),
        ("2-3:04", 183840),
        ("2-3:04:05", 183845),
        ("0", float("inf")),
        ("UNLIMITED", float("inf")),
    ],
)
def test_times_are_read_as_slurm_reads_them(time: str, expected: float) -> None:
    assert seconds(time) == expected


@pytest.mark.parametrize("time", ["", "x", "1:2:3:4", "1-", "-5", "1-2-3", "1.5"])
def test_a_time_that_slurm_does_not_know_is_refused(time: str) -> None:
    with pytest.raises(LaunchError, match="is not a time limit"):
        seconds(time)


def test_what_is_shown_is_what_is_submitted(config: Path, commands: Path) -> None:
    write_command(commands, "sbatch", 'cp "${@: -1}" submitted; echo "${@:1:$#-1}" > words; echo 12')
    request = slurm(config, "comment=two words")
    assert request.submit() == "slurm://textune/12"
    assert (config.parent / "submitted").read_text() == request.text
    assert (config.parent / "words").read_text() == "--parsable\n"
    assert "#SBATCH --comment='two words'" in request.text


def test_a_refusal_of_the_scheduler_is_a_sentence(config: Path, commands: Path) -> None:
    write_command(commands, "sbatch", "echo 'sbatch: error: invalid partition' >&2; exit 1")
    with pytest.raises(
        LaunchError, match=r"--scheduler slurm did not take the job: .*exit status 1.*Nothing was submitted"
    ):
        slurm(config).submit()


def kubernetes(config: Path, *options: str, **facts: Any) -> dict[str, Any]:
    facts = {"image": "registry/textune:1", "gpus": 1, **facts}
    manifest = yaml.safe_load(prepare(Job(str(config), **facts), "kubernetes", ["queue=default", *options]).text)
    assert isinstance(manifest, dict)
    return manifest


def test_the_manifest(config: Path) -> None:
    manifest = kubernetes(config, nodes=2, mounts=("type=volume,src=work,dst=/work",))
    assert (manifest["kind"], manifest["spec"]["queue"], manifest["spec"]["maxRetry"]) == ("Job", "default", 3)
    pods = [task["template"]["spec"] for task in manifest["spec"]["tasks"]]
    assert [pod["terminationGracePeriodSeconds"] for pod in pods] == [120, 120]
    assert all(pod["volumes"][1]["persistentVolumeClaim"] == {"claimName": "work"} for pod in pods)
    containers = [pod["containers"][0] for pod in pods]
    assert [each["resources"]["limits"]["nvidia.com/gpu"] for each in containers] == ["1", "1"]
    assert [each["image"] for each in containers] == ["registry/textune:1"] * 2
    texts = [[expanded(word, {}) for word in each["command"]] for each in containers]
    assert all(text[:2] == ["bash", "-c"] and "--signals=agent --nnodes=2" in text[2] for text in texts)
    assert '--rdzv-endpoint="${TORCHX_RANK0_HOST:-localhost}:29500"' in texts[0][2]
    assert '--rdzv-endpoint="${VC_TRAIN_0_HOSTS:-localhost}:29500"' in texts[1][2]
    assert f'--rdzv-id="{manifest["metadata"]["name"]}"' in texts[0][2]


def test_a_mistake_ends_the_job(config: Path) -> None:
    policies = [task["policies"] for task in kubernetes(config, nodes=2)["spec"]["tasks"]]
    assert policies[0] == policies[1]
    assert policies[0][0] == {"exitCode": 2, "action": "TerminateJob"}
    assert {"event": "PodFailed", "action": "RestartJob"} in policies[0][1:]
    assert "policies" not in kubernetes(config, max_retries=0)["spec"]["tasks"][0]


def expanded(text: str, variables: dict[str, str]) -> str:
    """What Kubernetes makes of a command or a value: $(NAME) is the variable where there is one, $$ is $."""
    return re.sub(
        r"\$(\$|\(([^)]*)\))",
        lambda found: "$" if found[1] == "$" else variables.get(found[2], found[0]),
        text,
        flags=re.ASCII,
    )


@pytest.mark.parametrize("text", ["data.train.files=a$$b ${app_id} $x.csv", "data.train.files=a$(HOME)b$$(HOME).csv"])
def test_dollars_survive_the_templates_and_kubernetes(config: Path, text: str) -> None:
    manifest = kubernetes(config, overrides=(text,), env={"A": text})
    container = manifest["spec"]["tasks"][0]["template"]["spec"]["containers"][0]
    command = expanded(container["command"][2], {"HOME": "/root"})
    shown = subprocess.run(["bash", "-c", f'set -- {command}; echo -n "${{@: -1}}"'], capture_output=True, text=True)
    assert shown.stdout == text
    values = {each["name"]: each.get("value") for each in container["env"]}
    assert expanded(values["A"], {"HOME": "/root"}) == text


@pytest.mark.parametrize(
    ("scheduler", "options", "facts", "message"),
    [
        ("slrum", (), {}, r"Unknown scheduler slrum\. Did you mean slurm\?"),
        ("moon", (), {}, r"Unknown scheduler moon\. Known: local, slurm"),
        ("slurm", ("acount=x",), {}, r"slurm has no such option\. Did you mean account\?"),
        ("slurm", ("job_dir=x",), {}, r"slurm has no such option"),
        ("slurm", ("time",), {}, r"expected key=value"),
        ("slurm", ("time=1\n#SBATCH --uid=0",), {}, r"expected key=value"),
        ("slurm", ("time=1:00",), {}, r"time=1:00 is 60 s, and --grace 120 warns the job 120 s before its end"),
        ("slurm", ("time=2",), {}, r"time=2 is 120 s, and --grace 120"),
        ("slurm", ("time=soon",), {}, r"time=soon is not a time limit"),
        ("slurm", (), {"image": "a:1"}, r"--image a:1: slurm runs the installed textune"),
        ("slurm", (), {"sbatch": {"acount": "x"}}, r"acount is not an option that is passed on to sbatch"),
        ("local", ("log_dir=x",), {}, r"takes no options"),
        ("local", ("prepend_cwd=perhaps",), {"nodes": 2}, r"prepend_cwd=perhaps: expected true or false"),
        ("kubernetes", (), {"image": "a:1"}, r"kubernetes needs --scheduler-option queue=\.\.\.: Volcano queue"),
        ("kubernetes", ("queue=a",), {}, r"runs containers, but no image is given"),
        ("kubernetes", ("queue=a",), {"image": "a:1", "mounts": ("src=a",)}, r"the mount src=a cannot be read"),
        ("kubernetes", ("queue=a",), {"image": "a:1", "mounts": ("type=disk,src=a,dst=/a",)}, r"the mount type=disk"),
    ],
)
def test_what_cannot_be_launched_is_refused(
    config: Path, scheduler: str, options: tuple[str, ...], facts: dict[str, Any], message: str
) -> None:
    with pytest.raises(LaunchError, match=message):
        prepare(Job(str(config), **facts), scheduler, options, dry_run=True)


def absent(*names: str) -> Callable[[str], Any]:
    found = cluster.importlib.util.find_spec
    return lambda name: None if name in names else found(name)


def test_what_is_not_installed_is_named(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None)
    with pytest.raises(LaunchError, match=r"needs the command sbatch, which is not installed here.*slurm-client"):
        slurm(config)
    assert prepare(Job(str(config)), "slurm", dry_run=True).text.startswith("#!/bin/bash")
    with pytest.raises(LaunchError, match=r"aws_batch needs the Python package boto3\. `pip install boto3`"):
        monkeypatch.setattr(cluster.importlib.util, "find_spec", absent("boto3"))
        prepare(Job(str(config), image="a:1"), "aws_batch")
    monkeypatch.setattr(cluster.importlib.util, "find_spec", absent("torchx"))
    with pytest.raises(LaunchError, match=r'pip install "textune\[launch\]"'):
        slurm(config)
    assert prepare(Job(str(config)), "local").text.startswith(f"exec {sys.executable} -m textune.launch.node")
