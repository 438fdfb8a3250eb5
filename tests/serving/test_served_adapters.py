"""Several adapters of one backbone behind one server: every shape names them, one is reloaded beside the others; and
the commands of the page that serves them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kits.adapterfolders import Adapters, write_adapters
from kits.listening import listening
from kits.serving import client, some_texts
from safetensors.torch import load_file, save_file
from starlette.testclient import TestClient

from textune.prediction.load import load
from textune.serving.app import build_app
from textune.serving.models import Models
from textune.serving.settings import LoadOptions, Settings

pytest.importorskip("peft", reason="peft is not installed")

TEXTS = some_texts(5)
PAGE = Path(__file__).parents[2] / "docs" / "serving.md"


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Adapters:
    return write_adapters(tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="module")
def served(adapters: Adapters) -> Iterator[TestClient]:
    with client({folder.name: folder for folder in adapters.folders}, token="secret") as found:
        found.headers["authorization"] = "Bearer secret"
        yield found


def post(served: TestClient, path: str, **body: Any) -> Any:
    answer = served.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def backbones(served: TestClient) -> list[dict[str, int]]:
    """Where the frozen matrices of each model stand."""
    models: Models = served.models  # type: ignore[attr-defined]
    return [
        {
            name: weight.data_ptr()
            for name, weight in one.predictor.scorer.model.named_parameters()
            if ".encoder." in name and "lora_" not in name and weight.ndim == 2
        }
        for one in models
    ]


def test_every_shape_names_its_adapter_and_answers_as_the_folder_alone(served: TestClient, adapters: Adapters) -> None:
    first, *others = backbones(served)
    assert first and others == [first, first]
    seen = set()
    for folder in adapters.folders:
        for text in TEXTS:
            [expected] = load(folder, device="cpu").predict([text])
            names, numbers = list(expected.scores), list(expected.scores.values())
            seen.add(tuple(numbers))
            [item] = post(served, "/classify", model=folder.name, input=text)["data"]
            assert item["probs"] == numbers, "bit for bit"
            rows = post(served, f"/models/{folder.name}/predict", inputs=text)
            assert {row["label"]: row["score"] for row in rows} == expected.scores
        asked = {names[0]: {"type": "noul"}}
        answers = post(served, "/v1/systemone", model=folder.name, state=TEXTS[-1], questions=asked)["answers"]
        assert answers[names[0]]["noul"] == numbers[0]
        [flags] = post(served, "/v1/moderations", model=folder.name, input=TEXTS[-1])["results"]
        assert flags["category_scores"] == {names[1]: numbers[1]}
    assert len(seen) == len(adapters.folders) * len(TEXTS)


def test_one_adapter_is_reloaded_beside_the_others(served: TestClient, adapters: Adapters, tmp_path: Path) -> None:
    """With other numbers; the backbone stays where it was."""
    changed = adapters.folders[1]
    shutil.copytree(changed, tmp_path / "kept")
    before = [post(served, "/classify", model=name, input=TEXTS[:1])["data"] for name in "abc"]
    path = changed / "adapter_model.safetensors"
    save_file({name: 1.5 * tensor for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    try:
        post(served, "/models/b/reload")
        after = [post(served, "/classify", model=name, input=TEXTS[:1])["data"] for name in "abc"]
        assert (before[0], before[2]) == (after[0], after[2]) and before[1] != after[1]
        [expected] = load(changed, device="cpu").predict(TEXTS[:1])
        assert after[1][0]["probs"] == list(expected.scores.values())
        first, *others = backbones(served)
        assert others == [first, first]
    finally:
        shutil.copyfile(tmp_path / "kept" / path.name, path)
        post(served, "/models/b/reload")


def commands(*sections: str) -> list[str]:
    """The commands with curl in sections of the page."""
    parts = re.split(r"^## (.*)\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = "".join(parts[parts.index(section) + 1] for section in sections)
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if not line.startswith("#")]
    return re.findall(r"^curl .*?(?=^curl |^textune |\Z)", "\n".join(lines), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_of_the_page_answer(adapters: Adapters, folders: dict[str, Path]) -> None:
    settings = Settings()
    chosen = {name: folders[name] for name in ("tone", "tags")} | {one.name: one for one in adapters.folders}
    found = commands("Other shapes", "Several adapters of one backbone")
    assert len(found) >= 5
    with listening(build_app(Models(chosen, settings, LoadOptions(device="cpu")), settings)) as url:
        for command in found:
            words = command.replace("localhost:8080", url)
            done = subprocess.run(["bash", "-c", f"{words.strip()} --silent --fail"], capture_output=True, text=True)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
            assert json.loads(done.stdout)
