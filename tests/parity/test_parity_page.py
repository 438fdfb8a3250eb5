"""The page of parity: what counts as a proof, and what is refused."""

from pathlib import Path

import pytest

from bench import parity

DATA = """
not_yet = [
    "TW-02",
    "class-weights",
]
[systems]
TW = "training-wizard"
[lines]
TW-01 = "A file."
TW-02 = "A class."
[features]
file = ["a file", "yynp", "TW-01"]
class = ["a class", "ynnn", "TW-01", "TW-02"]
class-weights = ["class weights", "nnnn"]
tpu = ["TPUs", "nnny"]
[no]
tpu = "There is none."
"""


def house(folder: Path, tests: str) -> tuple[parity.Parity, dict[str, list[parity.Test]]]:
    """The data in a file, and these tests in another."""
    (folder / "parity.toml").write_text(DATA, encoding="utf-8")
    (folder / "tests").mkdir(exist_ok=True)
    (folder / "tests" / "test_one.py").write_text(f"import pytest\n{tests}", encoding="utf-8")
    return parity.read_parity(folder / "parity.toml"), parity.find_tests(folder / "tests")


NAMED = "def test_tw_01_a_file() -> None: ...\n"


def test_a_line_is_proved_by_the_name_of_a_test_or_by_its_marker(tmp_path: Path) -> None:
    slow = "@pytest.mark.slow\n@pytest.mark.parity('TW-01', 'class')\ndef test_other() -> None: ...\n"
    data, tests = house(tmp_path, NAMED + slow)
    assert parity.problems(data, tests) == []
    assert [str(test) for test in tests["TW-01"]] == [
        "`tests/test_one.py::test_tw_01_a_file`",
        "`tests/test_one.py::test_other` (slow)",
    ]
    answers = {name: parity.answer(name, data, tests) for name in data.features}
    assert answers == {"file": "yes", "class": "yes", "class-weights": "not yet", "tpu": "no"}
    page = parity.render(data, tests)
    assert "| a file | yes | yes | yes | no | partly | TW-01 |" in page
    assert "- **TW-02** A class. Proof: not yet" in page
    assert "- TPUs: no. There is none." in page


def test_a_feature_needs_all_of_its_lines(tmp_path: Path) -> None:
    data, tests = house(tmp_path, NAMED)
    assert parity.answer("class", data, tests) == "not yet"


def test_a_marker_on_one_case_of_a_test_counts(tmp_path: Path) -> None:
    cases = "@pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.parity('TW-01'))])\n"
    _, tests = house(tmp_path, cases + "def test_other(x) -> None: ...\n")
    assert list(tests) == ["TW-01"]


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        ("", "TW-01 has no test"),
        (f"@pytest.mark.skip\n{NAMED}", "TW-01 has no test"),
        (f"@pytest.mark.xfail(reason='x')\n{NAMED}", "TW-01 has no test"),
        (f"{NAMED}def test_tw_02_it() -> None: ...\n", "TW-02 has a test, `tests/test_one.py::test_tw_02_it`"),
        (f"{NAMED}def test_tw_77_it() -> None: ...\n", "bench/parity.toml has no TW-77, which"),
    ],
    ids=["lost", "skipped", "expected to fail", "listed still", "unknown"],
)
def test_what_is_wrong_is_said(tmp_path: Path, tests: str, said: str) -> None:
    assert [one for one in parity.problems(*house(tmp_path, tests)) if one.startswith(said)] != []


def test_the_command_takes_off_what_has_a_test_and_never_puts_back_what_lost_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, data, tests = tmp_path / "parity.md", tmp_path / "parity.toml", tmp_path / "tests"
    house(tmp_path, f"{NAMED}def test_tw_02_it() -> None: ...\n")
    assert parity.main(page, data, tests) == 0
    assert parity.read_parity(data).not_yet == ["class-weights"]
    assert "- **TW-02** A class. Proof: `tests/test_one.py::test_tw_02_it`" in page.read_text(encoding="utf-8")
    (tests / "test_one.py").write_text(NAMED, encoding="utf-8")
    assert parity.main(page, data, tests) == 1
    assert "TW-02 has no test" in capsys.readouterr().err
