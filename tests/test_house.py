"""The rules of the house: one-way imports, sections instead of the root, nothing heavy before it is used."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

import textune
from bench import parity
from textune.config.fields import keys_of, variants
from textune.config.schema import TrainSection
from textune.training.rules import UPDATE_RULES
from textune.training.schedule import SCHEDULES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "textune"
BELOW = {
    "draws",
    "owncode",
    "errors",
    "exitcodes",
    "wording",
    "jsontext",
    "inside",
    "locks",
    "crew",
    "partfiles",
    "atomic",
    "caches",
    "imports",
    "ahead",
    "ranks",
    "version",
}
"""Modules that every room may use; they use only each other."""
FLOW = [
    "config",
    "adapters",
    "data",
    "batches",
    "metadata",
    "tasks",
    "model",
    "training",
    "prediction",
    "evaluation",
    "run",
    "console",
    "exports",
    "serving",
    "pipeline",
    "studies",
    "sklearn",
    "launch",
    "chaos",
    "cli",
]
SEES_ONLY = {"launch": {"config"}, "adapters": {"config"}}
"""Rooms that see less than all that stands before them."""
MAY_SEE_EXPERIMENT = {"config", "adapters", "pipeline", "studies", "cli", "launch"}


@cache
def tree_of(path: Path) -> ast.Module:
    """Of a file of Python, which most of these tests read."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(tree_of(path)))


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[tuple[str, str]]:
    """(module, name) of every import of textune's own, wherever it stands."""
    found = []
    for node in nodes_of(path):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "textune":
            found += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names if alias.name.split(".")[0] == "textune"]
    return found


def rooms_of(path: Path) -> list[str]:
    """The packages that a module stands in, from the outermost on."""
    parts = path.relative_to(ROOT).parent.parts
    return [".".join(parts[: depth + 1]) for depth in range(len(parts))]


def door_of(package: str) -> Path:
    return ROOT.joinpath(*package.split("."), "__init__.pyi")


def names_at(door: Path) -> dict[str, str]:
    """Each name of a front door, and the module that it comes from."""
    if not door.is_file():
        return {}
    nodes = [node for node in tree_of(door).body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module or "" for node in nodes for alias in node.names}


def test_imports_follow_the_flow() -> None:
    wrong = []
    for path in modules():
        room = room_of(path)
        if room in {"__init__", "__main__"}:
            continue
        before = BELOW if room in BELOW else BELOW | SEES_ONLY.get(room, set(FLOW[: FLOW.index(room)])) | {room}
        for module, name in imports_of(path):
            target = module.split(".")[1] if "." in module else name
            if (PACKAGE / target).is_dir() or (PACKAGE / f"{target}.py").is_file():
                wrong += [] if target in before else [f"{path.relative_to(ROOT)} imports {module}"]
    assert wrong == []


def test_rooms_are_entered_by_their_front_doors() -> None:
    wrong = []
    for path in modules():
        if path.parent == PACKAGE and path.stem.startswith("__"):  # the public names
            continue
        for module, name in imports_of(path):
            packages = [".".join(module.split(".")[:depth]) for depth in range(2, module.count(".") + 2)]
            others = [
                package
                for package in packages
                if package not in rooms_of(path) and door_of(package).with_suffix(".py").is_file()
            ]
            if others and (module != others[0] or name not in names_at(door_of(others[0]))):
                wrong.append(f"{path.relative_to(ROOT)}: from {module} import {name}")
    assert wrong == []


def test_every_name_at_a_front_door_is_defined_there_and_used_elsewhere() -> None:
    """By another room, or by an example."""
    users = [*modules(), *(ROOT / "examples").glob("*.py")]
    used = {(module, name) for path in users for module, name in imports_of(path)}
    public = {(home, name) for name, home in textune._HOMES.items()}
    public |= {("textune.sklearn", name) for name in ("TextClassifier", "TextRegressor")}
    for door in sorted(PACKAGE.rglob("__init__.pyi")):
        package = ".".join(door.parent.relative_to(ROOT).parts)
        names = {
            name: module for name, module in names_at(door).items() if module
        }  # the others are modules themselves
        unknown = [name for name, module in names.items() if name not in _defined(_tree(door.parent, module))]
        assert unknown == []
        assert [name for name in names if (package, name) not in used | public] == []


def _tree(folder: Path, module: str) -> ast.Module:
    source = folder.joinpath(*module.split(".")).with_suffix(".py")
    return tree_of(source)


def _defined(tree: ast.Module) -> set[str]:
    """What a module gives a name to at its top level, or within an `if` there."""
    targets = [target for node in ast.walk(tree) if isinstance(node, ast.Assign) for target in node.targets]
    targets += [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    assigned = {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return assigned | {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_only_the_composition_root_sees_the_whole_configuration() -> None:
    """Neither under its own name nor under another: what holds it elsewhere may only be asked for a section at
    once."""
    wrong = []
    for path in modules():
        if room_of(path) in MAY_SEE_EXPERIMENT:
            continue
        wrong += [
            f"{path.relative_to(ROOT)} imports Experiment" for _, name in imports_of(path) if name == "Experiment"
        ]
        tree = tree_of(path)
        of_a_call = {
            id(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_section_of_a_call(node)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or ast.unparse(node).endswith("track.experiment"):  # MLflow's word
                continue
            if node.attr == "experiment" and id(node) not in of_a_call:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}")
    assert wrong == []


def _is_section_of_a_call(node: ast.Attribute) -> bool:
    """Whether this asks a configuration that was just loaded, as in `load_config(path).experiment.model`."""
    return isinstance(node.value, ast.Call) or (isinstance(node.value, ast.Name) and node.value.id == "loaded")


def test_only_labels_and_tasks_ask_which_problem_it_is() -> None:
    """Everybody else asks the label map or the head, so that a new kind of head is one file and one row of a table."""
    problems = {"binary", "multiclass", "multilabel", "regression"}
    wrong = []
    for path in modules():
        if path.relative_to(PACKAGE).parts[0] in {"config", "tasks"} or path.is_relative_to(
            PACKAGE / "data" / "labels"
        ):
            continue
        for node in nodes_of(path):
            sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            sides += [node.value] if isinstance(node, ast.MatchValue) else []
            words = {part.value for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)}
            wrong += [f"{path.relative_to(ROOT)}:{node.lineno}" for _ in words & problems]  # type: ignore[attr-defined]
    assert wrong == []


def test_only_their_tables_ask_which_optimizer_or_schedule_it_is() -> None:
    """Everybody else asks a row of the table, so that a new kind is one row."""
    kinds = {kind for key in ("optimizer", "schedule") for kind in variants(keys_of(TrainSection)[key])}
    assert kinds >= {*UPDATE_RULES, *SCHEDULES}
    wrong = []
    for path in modules():
        if path.relative_to(PACKAGE).parts[0] == "config":
            continue
        for node in nodes_of(path):
            sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            sides += [node.value] if isinstance(node, ast.MatchValue) else []
            words = {part.value for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)}
            # The first is the name of an activation, too, and the second a kind of rows, models and tasks.
            asked = words & (kinds - {"linear", "python"})
            asked |= {side for side in map(ast.unparse, sides) if re.search(r"(optimizer|schedule)\.kind$", side)}
            wrong += [f"{path.relative_to(ROOT)}:{node.lineno} {word}" for word in asked]  # type: ignore[attr-defined]
    assert wrong == []


def test_only_the_command_line_prints() -> None:
    wrong = []
    for path in modules():
        for node in nodes_of(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert wrong == []


def test_one_module_asks_what_the_processor_has() -> None:
    asking = ("torch.cpu._is", "get_capabilities", "get_cpu_capability", "_is_mkldnn_bf16", "march=")
    asked = {path.name for path in modules() if any(word in path.read_text(encoding="utf-8") for word in asking)}
    assert asked == {"processor.py"}


def test_one_page_names_every_change_of_a_model() -> None:
    """Modules that replace a forward, a class, a module, or what a process has in common."""
    change = re.compile(
        r"\.forward = |__class__ = |\._modules\[.*\] = |setattr\((hf|layer|module)|Interface\.register\("
        r"|register_optimizer_\w+\(|\.set_attn_implementation\(|\.mallopt\(|recompile_limit = |RTLD_GLOBAL"
        r"|tensor\.data = |\.compile\(dynamic|\.register_\w*(forward|backward)\w*hook\("
    )
    page = (ROOT / "docs" / "patches.md").read_text(encoding="utf-8")
    changing = [path for path in modules() if change.search(path.read_text(encoding="utf-8"))]
    assert {path.parent.name for path in changing} == {"model", "native"}
    assert [str(path) for path in changing if str(path.relative_to(PACKAGE)) not in page] == []


def test_every_module_says_its_place() -> None:
    assert [str(path) for path in modules() if not ast.get_docstring(tree_of(path))] == []


def test_the_map_shows_every_module_where_it_is() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    lines = text.partition("## Map\n\n```\ntextune/\n")[2].partition("\ntests/")[0].splitlines()
    shown: list[Path] = []
    room = current = PACKAGE
    for line in lines:
        indent = len(line) - len(line.lstrip())
        current = {2: PACKAGE, 4: room}.get(indent, current)
        for word in re.findall(r"[\w/]+\.py\b|\w+/", line):
            if word.endswith("/"):
                current = next((folder / word for folder in (current, room) if (folder / word).is_dir()), current)
                room = current if indent == 2 and current.parent == PACKAGE else room
            else:
                shown.append(current / word)
    assert sorted(shown) == [path for path in modules() if path.name != "__init__.py" or path.parent == PACKAGE]


def test_the_page_says_where_a_thing_is_added() -> None:
    """Every table that it names is a table of more than nothing, and the top of its file says how a row is added."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| an? .+ \| `(\S+)` \| `(\w+)` \|$", text.partition("## Where would I add ...")[2], re.MULTILINE
    )
    assert {table for _, table in rows} == {
        "KINDS",
        "TRACKERS",
        "BACKBONES",
        "ENGINES",
        "SHARINGS",
        "FORMATS",
        "FIGURES",
        "PLOTS",
        "UPDATE_RULES",
        "SCHEDULES",
        "RENDERERS",
        "PACKED_FAMILIES",
        "SYSTEMS",
        "LAYOUTS",
        "TAGGERS",
        "SHAPES",
        "OPENERS",
        "SETTINGS",
    }
    for path, table in rows:
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        assert len(getattr(module, table)) > 0
        assert "To add " in (module.__doc__ or "") and f"`{table}`" in (module.__doc__ or ""), path


FILE = re.compile(r"(?<![\w/.*{<])(?:--)?((?:\w[\w-]*/)*\w[\w-]*\.(?:py|cpp|h|md|toml))\b")
OF_OTHERS = {
    "run_glue.py",
    "model-card.md",
    "config.toml",
    "runs/x/config.toml",
    "base.toml",
    "report.md",
    "repeat.md",
    "examples/TASK.toml",
}
OF_OTHERS |= {"sweep.md", "best.toml", "b.toml", "grid.toml", "main.toml"}
OF_OTHERS |= {"examples/sequence_classification/config.toml"}
OF_OTHERS |= {"run_glue_no_trainer.py", "run_classification.py", "run_xnli.py", "own.toml"}
OF_OTHERS |= {"torchrecipes/launcher/torchx_app.py", "xlmr.toml"}
OF_OTHERS |= {"bsmetadata/train.py", "bsmetadata/evaluation.py", "train.py", "evaluation.py"}
"""Files of users, of runs and of transformers that pages and docstrings name; none of textune's own."""


def test_every_file_that_a_page_or_a_docstring_names_is_there() -> None:
    """A name with folders is a path, or the end of one; a bare name is that of a file somewhere."""
    skipped = {".git", ".venv", "libraries"}
    files = [path for path in ROOT.rglob("*.*") if not skipped & set(path.relative_to(ROOT).parts) and path.is_file()]
    ends = {
        "/".join(path.parts[-depth:]) for path in files for depth in range(1, len(path.relative_to(ROOT).parts) + 1)
    }
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    said = [(page, page.read_text(encoding="utf-8")) for page in pages]
    said += [(path, ast.get_docstring(tree_of(path)) or "") for path in modules()]
    named = {(str(path.relative_to(ROOT)), name) for path, text in said for name in FILE.findall(text)}
    assert sorted(one for one in named if one[1] not in ends | OF_OTHERS) == []


def test_the_table_of_file_formats_is_what_the_configuration_knows() -> None:
    from textune.config.sources import FilesSource
    from textune.data.reading.formats import ENDINGS, FORMATS

    assert get_args(FilesSource.model_fields["format"].annotation) == ("auto", *FORMATS)
    assert len(ENDINGS) == sum(len(known.endings) for known in FORMATS.values())
    assert set().union(*(known.options for known in FORMATS.values())) <= set(FilesSource.model_fields)


def test_every_dependency_has_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    names = [re.split(r"[>\[]", dependency)[0] for dependency in wanted]
    assert [name for name in names if name not in text] == []
    constraints = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert [name for name in names if name.lower() not in constraints] == []


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {dependency.split(">")[0].replace("-", "_") for dependency in project["dependencies"]}
    imported = set()
    for path in modules():
        for node in nodes_of(path):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                imported.add(node.module.split(".")[0])
    other_names = {"pydantic_core": "pydantic", "yaml": "pyyaml"}  # pydantic pins its core
    # These come with an extra; whoever imports them has looked whether they are there.
    third_party = (
        imported
        - set(sys.stdlib_module_names)
        - {
            *("textune", "torchx", "datasets", "peft", "bitsandbytes", "selectolax"),
            *(
                "onnx",
                "onnxruntime",
                "onnxruntime_extensions",
                "onnxscript",
                "onnx_ir",
                "optuna",
                "sklearn",
                "datasketch",
                "matplotlib",
            ),
            *("tensorboard", "mlflow", "pandas", "accelerate", "openvino", "nncf"),
            *("fastapi", "starlette", "uvicorn", "prometheus_client", "ray"),
        }
    )
    assert {other_names.get(name, name) for name in third_party} == declared


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import textune, textune.cli", {"torch", "transformers", "pyarrow", "pydantic", "rich", "numpy"}),
        ("import textune.config", {"torch", "transformers", "pyarrow"}),
        ("import textune.data", {"torch", "datasets"}),
        ("from textune.serving import let_threads_sleep", {"torch"}),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_used(statement: str, absent: set[str]) -> None:
    code = f"import sys; {statement}; print(*sorted(set(sys.modules) & {absent!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []


VERBS = {
    "chaos": "textune.chaos.chaos",
    "check": "textune.check",
    "compare": "textune.compare",
    "convert": "textune.convert",
    "decide": "textune.decide",
    "doctor": "textune.doctor",
    "evaluate": "textune.evaluate",
    "export": "textune.export",
    "generate": "textune.generate",
    "glue": "textune.glue",
    "info": "textune.info",
    "init": "textune.init",
    "launch": "textune.launch.prepare",
    "predict": "textune.predict",
    "presets": "textune.presets",
    "models": "textune.models",
    "push": "textune.push",
    "render": "textune.render",
    "repeat": "textune.repeat",
    "report": "textune.report",
    "runs": "textune.runs",
    "schema": "textune.schema",
    "serve": "textune.serve",
    "show": "textune.show",
    "sweep": "textune.sweep",
    "tag": "textune.tag",
    "test": "textune.chaos.prove_machine",
    "tracking": "textune.replay",
    "train": "textune.train",
}
"""The function of each verb of the command line."""


def test_every_verb_is_a_function_and_the_page_says_which() -> None:
    from textune.cli import commands

    assert {name for name, command in commands.commands.items() if not command.hidden} == set(VERBS)
    for path in VERBS.values():
        module, _, name = path.rpartition(".")
        function = getattr(importlib.import_module(module), name)
        assert callable(function) and function.__doc__, path
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    said = dict(re.findall(r"^\| `(\w+)` \| `([\w.]+)` \|", page, re.MULTILINE))
    assert said == VERBS


def test_the_public_names_are_these_and_exist() -> None:
    import textune

    types = ["Aim", "Prediction", "Report", "TextuneError", "TrainResult", "TrainedModel"]
    verbs = [path.removeprefix("textune.") for path in VERBS.values() if path.count(".") == 1]
    assert textune.__all__ == [*types, "__version__", *sorted([*verbs, "load", "predict_files"])]
    for name in textune.__all__:
        assert getattr(textune, name) is not None
    with pytest.raises(AttributeError):
        _ = textune.nonsense


def test_what_is_written_as_json_is_json() -> None:
    """NaN and infinities are not: every call says that it refuses them."""
    inside = {"records.py", "profile.py"}  # texts of values as they stand in the data, which nobody reads as JSON
    wrong = []
    for path in sorted([*PACKAGE.rglob("*.py"), *(ROOT / "bench").rglob("*.py")]):
        for node in nodes_of(path):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or path.name in inside:
                continue
            if ast.unparse(node.func) in {"json.dump", "json.dumps", "json.JSONEncoder"}:
                refuses = [
                    word for word in node.keywords if word.arg == "allow_nan" and ast.unparse(word.value) == "False"
                ]
                wrong += [] if refuses else [f"{path.relative_to(ROOT)}:{node.lineno}"]
    assert wrong == []


def test_what_the_page_of_parity_claims_has_its_tests() -> None:
    """After a change of a test that it names: `python -m bench.parity`."""
    data, tests = parity.read_parity(), parity.find_tests()
    assert parity.problems(data, tests) == []
    assert parity.PAGE.read_text(encoding="utf-8") == parity.render(data, tests)


def test_every_test_file_has_a_name_of_its_own() -> None:
    """pytest cannot collect two of one name."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
