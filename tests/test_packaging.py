"""The files around the package are what their readers take: the image, the workflows, the citation, the forms; and a
wheel holds every file of the package that a run reads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SCHEMAS = {
    "CITATION.cff": "citation-file-format",
    ".github/ISSUE_TEMPLATE/bug.yml": "github-issue-forms",
    ".github/ISSUE_TEMPLATE/wish.yml": "github-issue-forms",
    ".github/ISSUE_TEMPLATE/config.yml": "github-issue-config",
    ".github/workflows/test.yml": "github-workflows",
    ".github/workflows/slow.yml": "github-workflows",
}


def tool(name: str) -> str:
    if not (BIN / name).is_file():
        pytest.skip(f"{name} is not installed: make setup")
    return str(BIN / name)


def said(*words: str) -> str:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_image_follows_the_rules_of_its_linter() -> None:
    assert said(tool("hadolint"), "--no-color", "Dockerfile") == ""


@pytest.mark.parametrize(("file", "schema"), SCHEMAS.items(), ids=list(SCHEMAS))
def test_a_file_fits_its_schema(file: str, schema: str) -> None:
    assert "ok" in said(tool("check-jsonschema"), "--builtin-schema", f"vendor.{schema}", file)


def test_every_form_and_workflow_has_a_schema_here() -> None:
    found = {str(path.relative_to(ROOT)) for path in (ROOT / ".github").rglob("*.yml")}
    assert found == {name for name in SCHEMAS if name.startswith(".github")}


def test_workflows_run_what_the_makefile_has() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        called = re.findall(r"run: make ([a-z-]+)", file.read_text(encoding="utf-8"))
        assert called and set(called) <= targets


def test_the_image_copies_what_is_there() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = [name for line in re.findall(r"^COPY ([^-].*)$", text, re.MULTILINE) for name in line.split()[:-1]]
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert copied and set(copied) == set(kept)
    assert all((ROOT / name).exists() for name in kept)


def test_one_version_everywhere() -> None:
    import textune

    stated = {
        file: re.search(r"^version(?: =|:) \"?([\d.]+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
        for file in ("pyproject.toml", "CITATION.cff")
    }
    assert {found[1] for found in stated.values() if found} == {textune.__version__} and all(stated.values())


def test_a_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    """Built without the kernels, which take a compiler and half a minute; `make wheel-test` uses a whole one."""
    from hatchling.builders.wheel import WheelBuilder
    from hatchling.metadata.core import ProjectMetadata
    from hatchling.plugin.manager import PluginManager

    metadata = ProjectMetadata(str(ROOT), PluginManager())
    builder = WheelBuilder(str(ROOT), metadata=metadata)
    held = {file.relative_path for file in builder.recurse_included_files()}
    tracked = said("git", "ls-files", "textune").split()
    assert set(tracked) <= held
