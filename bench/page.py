"""`python -m bench.page`: the tables and plots of docs/performance.md, the table of README.md, and docs/results.md.

Of the first two only the blocks between the markers are written; the rest is written by hand. Levels stand side by
side: no figure of one of them can be taken for a figure of all.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.machine import GPU, title
from bench.plots import draw_all
from bench.questions import TABLE
from bench.rows import Row, read_rows, show_goal, show_number, show_ratio, write_whole
from bench.scores import table as scores
from bench.worker import ROOT

PAGE, README, RESULTS = ROOT / "docs" / "performance.md", ROOT / "README.md", ROOT / "bench" / "results"
BEGIN, END = "<!-- measurements: begin (make docs writes this part) -->", "<!-- measurements: end -->"

NO_BREAK = "\0"
"""Stands for a space where a line may not be broken."""

Levels = Mapping[str, Sequence[Row]]
"""Level to its rows."""

SHOWN = ("avx2", "avx512", "avx512bf16")
"""Levels that have their columns even where nothing was measured yet."""


def main(page: Path = PAGE, readme: Path = README, results: Path = RESULTS) -> int:
    """Rewrite the pages; 1 where matplotlib is missing."""
    levels, gpu = read_levels(results), read_rows(results / "gpu.json")
    try:
        plots = draw_all(levels, page.parent / "plots") if any(levels.values()) else {}
    except ImportError:
        print('the plots need matplotlib: pip install "textune[bench]"', file=sys.stderr)
        return 1
    for path, block in ((page, render(levels, plots, page=page, gpu=gpu)), (readme, render_readme(levels))):
        write_whole(path, replace_block(path.read_text(encoding="utf-8"), block))
    return 0


def read_levels(results: Path) -> dict[str, list[Row]]:
    """Level to rows, from every file of a CPU; those that are always shown come first."""
    files = {path.stem.removeprefix("cpu-"): read_rows(path) for path in sorted(results.glob("cpu-*.json"))}
    return {level: files.pop(level, []) for level in SHOWN} | files


def render(levels: Levels, plots: Mapping[str, Path], *, page: Path, gpu: Sequence[Row] = ()) -> str:
    """The generated block of docs/performance.md, without its markers."""
    if not any(levels.values()) and not gpu:
        return "Nothing has been measured yet: `make bench`.\n"
    images = {name: path.relative_to(page.parent).as_posix() for name, path in plots.items()}
    parts = [f"![Times as fast as each peer]({images['ratios']})"] if "ratios" in images else []
    for name, prefixes in TABLE["sections"].items():
        shown = {GPU: gpu} if name == "On a GPU" else levels
        parts += [_floors(levels)] if name == "On a GPU" and _floors(levels) else []
        chosen = {level: [row for row in rows if row.id.startswith(tuple(prefixes))] for level, rows in shown.items()}
        parts += _section(name, chosen, images)
    parts.append(f"### Where and when\n\n{_origins({**levels, GPU: gpu})}")
    return "\n\n".join(parts) + "\n"


def render_readme(levels: Levels) -> str:
    """The table of README.md: how many times as fast, by level; two digits."""
    shown = {level: {row.id: row.ratio for row in levels.get(level, ())} for level in SHOWN}

    def cell(ratio: float | None) -> str:
        return "to be measured" if ratio is None else f"{ratio:.2g}" if ratio < 100 else f"{ratio:.0f}"

    lines = [
        [*words, *(cell(ratios.get(name)) for ratios in shown.values())] for name, words in TABLE["readme"].items()
    ]
    machines = {level: dict.fromkeys(f"{row.machine}, {row.date}" for row in levels.get(level, ())) for level in SHOWN}
    origins = [f"- {title(level)}: {'; '.join(found)}" for level, found in machines.items() if found]
    return "\n".join([_table(["work", "compared with", *map(title, shown)], lines), "", *origins]) + "\n"


def replace_block(text: str, block: str) -> str:
    """The page with a new generated block; ValueError where a marker is missing."""
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"the page needs the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{block}\n{END}{after}"


# --- tables ----------------------------------------------------------------------------------------------------------


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join([*head, *(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)])


def _section(name: str, levels: Levels, images: Mapping[str, str]) -> Iterator[str]:
    """Heading and table of the rows, plots and remarks below; nothing where no level has a row."""
    # Every row's id, in the order of the fullest level.
    names = list(dict.fromkeys(row.id for rows in sorted(levels.values(), key=len, reverse=True) for row in rows))
    if not names:
        return
    found = {key: {level: row for level, rows in levels.items() for row in rows if row.id == key} for key in names}
    yield f"### {name}\n\n{_questions(found)}"
    for level, rows in levels.items():
        if lines := [[row.id, *_cells(row)] for row in rows]:
            yield f"{title(level)}:\n\n{_table(['row', 'ours, peer', 'ratio (its pairs)', 'goal, met'], lines)}"
    yield from (f"![{_word(rows, 'question')}]({images[key]})" for key, rows in found.items() if key in images)
    yield from _memory(found)
    head = "Milliseconds of the kernel / batched products / scaled_dot_product_attention:"
    yield from _remark(head, ["dropout", "tokens of a row"], _attention(levels), levels)
    head = "Share of the predicted texts with the right label (a model of 60 steps):"
    yield from _remark(head, ["system"], _accuracy(levels), levels)
    yield from filter(None, (_dev_metrics(levels), _left_out(levels)))


def _questions(found: Mapping[str, Mapping[str, Row]]) -> str:
    """What each row asks, and of whom."""
    return "\n".join(
        _item(f"**{key}**: {_word(rows, 'question')}. Peer: {_word(rows, 'peer_name')}") for key, rows in found.items()
    )


def _filled(text: str) -> str:
    return textwrap.fill(text, 119, break_long_words=False, break_on_hyphens=False)


def _item(text: str) -> str:
    """Of a list, wrapped."""
    return textwrap.fill(f"- {text}", 119, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _memory(found: Mapping[str, Mapping[str, Row]]) -> Iterator[str]:
    """Peaks of each row at each level; nothing where none has any."""
    lines = []
    for key, rows in found.items():
        peaks = {level: _peaks(row) for level, row in rows.items()}
        shown = "; ".join(f"{title(level)}: {words}" for level, words in peaks.items() if words != "-")
        lines += [_item(f"{key}: {shown}")] if shown else []
    if lines:
        yield "\n".join(["Peak memory in MiB, libraries and weights included:", "", *lines])


def _remark(head: str, columns: Sequence[str], lines: Sequence[Sequence[str]], levels: Levels) -> Iterator[str]:
    """A table with a column for each level; nothing where no line has a figure."""
    if shown := [line for line in lines if set(line[len(columns) :]) != {"-"}]:
        yield f"{head}\n\n{_table([*columns, *map(title, levels)], shown)}"


def _word(rows: Mapping[str, Row], read: str) -> str:
    """A word of the row at every level; once where they agree."""
    words = {level: str(getattr(row, read)) for level, row in rows.items()}
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return "; ".join(f"{title(level)}: {word}" for level, word in words.items())


def _cells(row: Row) -> list[str]:
    return [f"{show_number(row.ours)}, {show_number(row.peer)} {row.unit}", show_ratio(row), show_goal(row)]


# --- what stands below a table ---------------------------------------------------------------------------------------


def _peaks(row: Row | None) -> str:
    peaks = row.details.get("memory_mb", {}) if row else {}
    if not peaks or (row and row.id.startswith("predict-") and row.id != "predict-pipeline"):
        return "-"
    words = []
    for name, peak in peaks.items():
        # prediction has a number for each system
        named = peak if isinstance(peak, dict) else {"peak_memory_mb": peak}
        gpu = f" (GPU: {named['gpu_peak_memory_mb']:,})" if "gpu_peak_memory_mb" in named else ""
        words.append(f"{name} {named['peak_memory_mb']:,}{gpu}")
    return ", ".join(words)


def _attention(levels: Levels) -> list[list[str]]:
    """Milliseconds of each way by length."""
    times: dict[tuple[str, str], dict[str, str]] = {}
    for level, rows in levels.items():
        for point in (point for row in rows if row.id.startswith("attention") for point in row.details["points"]):
            ways = " / ".join(show_number(point[way]) for way in ("kernel", "products", "sdpa"))
            times.setdefault((f"{point['dropout']:g}", str(point["length"])), {})[level] = ways
    return [[*key, *(cell.get(level, "-") for level in levels)] for key, cell in times.items()]


def floor(rows: Sequence[Row], name: str) -> tuple[float, float, float] | None:
    """Milliseconds of a batch: ours, the peer's, and what its products alone take at the machine's rate.

    None where the row, or the rate of its level, was not measured. Training takes six operations for each parameter
    and token, prediction two.
    """
    by_id = {row.id: row for row in rows}
    row, limit = by_id.get(name), by_id.get(TABLE["floors"].get(name))
    lengths = by_id.get("train-best") if name.startswith("predict-") else row
    if row is None or limit is None or lengths is None or "encoder_parameters" not in row.details:
        return None
    batch = row.details["batch_size"]
    operations = (2 if name.startswith("predict-") else 6) * row.details["encoder_parameters"]
    tokens = batch * lengths.details["tokens_per_row"]
    return 1e3 * batch / row.ours, 1e3 * batch / row.peer, 1e3 * operations * tokens / (limit.peer * 1e12)


def _floors(levels: Levels) -> str:
    """What the products alone allow, for every row with a known number of parameters."""
    parts = []
    for level, rows in levels.items():
        lines = []
        for name in TABLE["floors"]:
            if times := floor(rows, name):
                lines.append([name, " / ".join(map(show_number, times)), show_number(times[1] / times[2])])
        columns = ["row", "ours / peer / products alone, ms a batch", "ratio if nothing but products took time"]
        parts += [f"{title(level)}:\n\n{_table(columns, lines)}"] if lines else []
    return "\n\n".join(["### The floor", *parts]) if parts else ""


def _accuracy(levels: Levels) -> list[list[str]]:
    """Share of right labels of each system that predicts."""
    rows = {level: row for level in levels for row in levels[level] if row.id == "predict-pipeline"}
    shares = {
        level: {name: f"{share:.4f}" for name, share in row.details.get("accuracy", {}).items()}
        for level, row in rows.items()
    }
    names = dict.fromkeys(name for found in shares.values() for name in found)
    return [[name, *(shares.get(level, {}).get(name, "-") for level in levels)] for name in names]


def _dev_metrics(levels: Levels) -> str:
    for row in (row for rows in levels.values() for row in rows):
        found: dict[str, Any] = dict(row.details.get("dev_metric") or {})
        source, systems = found.pop("source", ""), []
        for system, score in found.items():
            values = ", ".join(f"{key} {value}" for key, value in score.items() if key != "date")
            systems.append(f"{system} {values} ({score['date']})")
        if systems:
            return _filled(f"Scores of whole runs beside the speed: {'; '.join(systems)}. Source: {source}.")
    return ""


def _left_out(levels: Levels) -> str:
    """Who could not take part, and who could not be held to the level."""
    lines: dict[str, None] = {}
    for level, details in ((level, row.details) for level, rows in levels.items() for row in rows):
        found = [f"{name} left out: {reason}." for name, reason in details.get("left_out", {}).items()]
        found += [f"{name} {reason}." for name, reason in details.get("not_held", {}).items()]
        lines |= dict.fromkeys(_item(f"{title(level)}: {line}") for line in found)
    return "\n".join(lines)


# --- where and when --------------------------------------------------------------------------------------------------


def _origins(levels: Levels) -> str:
    """Machine, versions and data of each row; rows that share them in one line."""
    grouped: dict[str, list[str]] = {}
    facts = []
    for level, row in ((level, row) for level, rows in levels.items() for row in rows):
        packages = ", ".join(f"{name} {number}" for name, number in row.versions.items())
        origin = f"- {title(level)}: {row.date}, {row.machine}, {row.threads} threads; {packages}"
        grouped.setdefault(origin, []).append(row.id)
        facts.append(_facts(row))
    lines = [
        textwrap.fill(f"{origin}: {', '.join(names)}", 119, subsequent_indent="  ", break_on_hyphens=False)
        for origin, names in grouped.items()
    ]
    how = "Row and level: data; segments; seconds in all; how busy others kept the machine before; the command."
    return "\n".join([*lines, "", how, "", *facts])


def _facts(row: Row) -> str:
    segment, busy, spent = (row.details.get(key) for key in ("segment", "busy_before", "question_seconds"))
    rows_each = f" of {segment['rows']:,} rows" if segment and "rows" in segment else ""
    known = [
        str(row.details.get("data", "")),
        f"{segment['segments']}{rows_each}" if segment else "",
        "" if spent is None else f"{spent:.0f} s",
        "" if busy is None else f"{show_number(100 * busy)} % busy",
        f"`{row.command}`".replace(" ", NO_BREAK),
    ]
    return _item(f"**{row.id}**, {title(row.level)}: {'; '.join(filter(None, known))}").replace(NO_BREAK, " ")


if __name__ == "__main__":
    write_whole(ROOT / "docs" / "results.md", scores.page())
    scores.update_headers()
    sys.exit(main())
