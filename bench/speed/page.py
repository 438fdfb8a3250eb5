"""`python -m bench.speed.page`: the tables and plots of docs/performance.md and the table of README.md, from the JSON rows.

Only the blocks between the markers are written; the rest of both pages is written by hand. Levels stand side by side: no figure
of one of them can be taken for a figure of all.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.speed.level import GPU, title
from bench.speed.plots import draw_all
from bench.speed.rows import Row, read_rows, show_goal, show_met, show_number
from bench.speed.workers import ROOT

PAGE = ROOT / "docs" / "performance.md"
README = ROOT / "README.md"
RESULTS = ROOT / "bench" / "results"
BEGIN, END = "<!-- measurements: begin (make docs writes this part) -->", "<!-- measurements: end -->"

Levels = Mapping[str, Sequence[Row]]
"""Level to its rows."""

SHOWN = ("avx2", "avx512", "avx512bf16")
"""Levels that have their columns even where nothing was measured yet."""
SECTIONS = (
    ("Training", ("train-", "bert-", "xlmr-", "modernbert-", "deberta-")),
    ("Share of the limit", ("limit-",)),
    ("Attention", ("attention",)),
    ("Prediction", ("predict-",)),
    ("Whole processes and the loop", ("epoch", "loop", "startup-")),
    ("textune's own switches", ("switch-",)),
    ("Scaling", ("scaling-",)),
)
FLOORS = (
    "train-best",
    "train-best-long",
    "bert-base",
    "xlmr-base",
    "modernbert-base",
    "deberta-small",
    "predict-pipeline",
    "predict-onnx-runtime",
)
"""Rows whose products alone are a floor."""
RATE_OF = {"train-best-long": "limit-long"}
"""Which row has the machine's rate for another; `limit-short` for all others."""
GPU_SECTION = ("On a GPU", ("gpu-",))
README_ROWS = (
    ("train-best", "training MiniLM-L6, short texts", "`Trainer` at its best"),
    ("train-best-long", "training MiniLM-L6, whole reviews", "`Trainer` at its best"),
    ("bert-base", "training, BERT-base shape", "`Trainer` at its best"),
    ("modernbert-base", "training, ModernBERT-base shape", "`Trainer` at its best"),
    ("deberta-small", "training, DeBERTa-v3-small shape", "`Trainer` at its best"),
    ("xlmr-base", "training, XLM-R-base shape", "`Trainer` at its best"),
    ("xlmr-base-memory", "its peak memory, as a share", "`Trainer` at its best"),
    ("train-padded-fp32", "training MiniLM-L6, short texts", "`Trainer` as run_glue.py configures it: padded to 128, fp32"),
    ("predict-pipeline", "prediction, MiniLM-L6, short texts", "`transformers.pipeline`, texts sorted by hand"),
    ("predict-onnx-runtime", "prediction, MiniLM-L6, short texts", "ONNX Runtime, fp32, texts sorted by hand"),
    ("predict-int8", "the same in int8", "textune in its best float type"),
)
"""Id of a row, what was done, beside what."""


def read_levels(results: Path) -> dict[str, list[Row]]:
    """Level to rows, from every file of a CPU; those that are always shown come first."""
    files = {path.stem.removeprefix("cpu-"): read_rows(path) for path in sorted(results.glob("cpu-*.json"))}
    return {level: files.pop(level, []) for level in SHOWN} | files


def render(levels: Levels, plots: Mapping[str, Path], *, page: Path, gpu: Sequence[Row] = ()) -> str:
    """The generated block of docs/performance.md, without its markers."""
    if not any(levels.values()) and not gpu:
        return "Nothing has been measured yet: `make bench`.\n"
    parts = [_image(plots["ratios"], "Times as fast as each peer", page)] if "ratios" in plots else []
    for name, prefixes in SECTIONS:
        parts += _section(name, _chosen(levels, prefixes), plots, page)
    parts += [text for text in [_floors(levels)] if text]
    parts += _section(GPU_SECTION[0], _chosen({GPU: gpu}, GPU_SECTION[1]), plots, page)
    parts.append(f"### Where and when\n\n{_origins({**levels, GPU: gpu})}")
    return "\n\n".join(parts) + "\n"


def render_readme(levels: Levels) -> str:
    """The table of README.md: how many times as fast, by level."""
    shown = {level: {row.id: row for row in levels.get(level, ())} for level in SHOWN}
    columns = ["work", "compared with", *(title(level) for level in shown)]
    lines = [
        [work, peer, *(_times(rows[name]) if name in rows else "to be measured" for rows in shown.values())]
        for name, work, peer in README_ROWS
    ]
    origins = [f"- {title(level)}: {'; '.join(_machines(levels.get(level, ())))}" for level in SHOWN if levels.get(level)]
    return "\n".join([_table(columns, lines), "", *origins]) + "\n"


def replace_block(text: str, block: str) -> str:
    """The page with a new generated block; ValueError where a marker is missing."""
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"the page needs the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{block}\n{END}{after}"


# --- tables -----------------------------------------------------------------------------------------------------------


def _section(name: str, levels: Levels, plots: Mapping[str, Path], page: Path) -> Iterator[str]:
    """Heading and table of the rows, plots and remarks below; nothing where no level has a row."""
    names = _names(levels)
    if not names:
        return
    columns = ["question"]
    for level in levels:
        columns += [f"{title(level)}: ours, peer", "ratio (smallest to largest pair)", "goal, met"]
    lines = [[_question(levels, key), *_cells(levels, key), _peer(levels, key)] for key in names]
    yield f"### {name}\n\n{_table([*columns, 'peer is'], lines)}"
    for key in names:
        if key in plots:
            yield _image(plots[key], _question(levels, key), page)
    remarks = (_memory(levels), _attention(levels), _accuracy(levels), _dev_metrics(levels), _left_out(levels))
    yield from (text for text in remarks if text)


def _chosen(levels: Levels, prefixes: tuple[str, ...]) -> Levels:
    """The rows of a section."""
    return {level: [row for row in rows if row.id.startswith(prefixes)] for level, rows in levels.items()}


def _names(levels: Levels) -> list[str]:
    """Every row's id, in the order of the fullest level."""
    ordered = sorted(levels.values(), key=len, reverse=True)
    return list(dict.fromkeys(row.id for rows in ordered for row in rows))


def _row(levels: Levels, level: str, name: str) -> Row | None:
    return next((row for row in levels[level] if row.id == name), None)


def _different(levels: Levels, name: str, read: str) -> str:
    """A word of the row at every level; once where they agree."""
    found = {level: getattr(row, read) for level in levels if (row := _row(levels, level, name))}
    if len(set(found.values())) == 1:
        return str(next(iter(found.values())))
    return "; ".join(f"{title(level)}: {word}" for level, word in found.items())


def _question(levels: Levels, name: str) -> str:
    return _different(levels, name, "question")


def _peer(levels: Levels, name: str) -> str:
    return _different(levels, name, "peer_name")


def _cells(levels: Levels, name: str) -> Iterator[str]:
    for level in levels:
        row = _row(levels, level, name)
        if row is None:
            yield from ("not measured", "-", "-")
            continue
        yield f"{show_number(row.ours)}, {show_number(row.peer)} {row.unit}"
        yield show_ratio(row)
        yield "-" if row.goal is None else f"{show_goal(row)}: {show_met(row)}"


def show_ratio(row: Row) -> str:
    """The median, and the smallest and largest of the pairs."""
    spread = row.details.get("ratio")
    span = f" ({show_number(spread['min'])} to {show_number(spread['max'])})" if spread else ""
    return show_number(row.ratio) + span


def _times(row: Row) -> str:
    """Two digits: `1.6`, `13`."""
    return f"{row.ratio:.2g}" if row.ratio < 100 else f"{row.ratio:.0f}"


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join([*head, *(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)])


def _image(path: Path, caption: str, page: Path) -> str:
    return f"![{caption}]({path.relative_to(page.parent).as_posix()})"


# --- what stands below a table ----------------------------------------------------------------------------------------


def _memory(levels: Levels) -> str:
    lines = []
    for name in _names(levels):
        cells = [_peaks(_row(levels, level, name)) for level in levels]
        lines += [[name, *cells]] if any(cell != "-" for cell in cells) else []
    columns = ["row", *(title(level) for level in levels)]
    return f"Peak memory in MiB, libraries and weights included:\n\n{_table(columns, lines)}" if lines else ""


def _peaks(row: Row | None) -> str:
    peaks = row.details.get("memory_mb", {}) if row else {}
    # prediction has a number for each system
    named = {name: peak if isinstance(peak, dict) else {"peak_memory_mb": peak} for name, peak in peaks.items()}
    if not named or (row and row.id.startswith("predict-") and row.id != "predict-pipeline"):
        return "-"
    return ", ".join(f"{name} {_peak(peak)}" for name, peak in named.items())


def _peak(peak: Mapping[str, int]) -> str:
    on_gpu = peak.get("gpu_peak_memory_mb")
    return f"{peak['peak_memory_mb']:,}" + ("" if on_gpu is None else f" (GPU: {on_gpu:,})")


def _attention(levels: Levels) -> str:
    """Milliseconds of each way by length."""
    times: dict[tuple[float, int], dict[str, str]] = {}
    for level, rows in levels.items():
        for point in (point for row in rows if row.id.startswith("attention") for point in row.details["points"]):
            ways = " / ".join(show_number(point[way]) for way in ("kernel", "products", "sdpa"))
            times.setdefault((point["dropout"], point["length"]), {})[level] = ways
    if not times:
        return ""
    columns = ["dropout", "tokens of a row", *(title(level) for level in levels)]
    lines = [
        [f"{dropout:g}", str(length), *(cell.get(level, "-") for level in levels)] for (dropout, length), cell in times.items()
    ]
    return f"Milliseconds of the kernel / batched products / scaled_dot_product_attention:\n\n{_table(columns, lines)}"


def floor(rows: Sequence[Row], name: str) -> tuple[float, float, float] | None:
    """Milliseconds of a batch: ours, the peer's, and what its products alone take at the machine's rate.

    None where the row, or the rate of its level, was not measured. Training takes six operations for each parameter and token,
    prediction two.
    """
    by_id = {row.id: row for row in rows}
    row, limit = by_id.get(name), by_id.get(RATE_OF.get(name, "limit-short"))
    lengths = by_id.get("train-best") if name.startswith("predict-") else row
    if row is None or limit is None or lengths is None or "encoder_parameters" not in row.details:
        return None
    batch = row.details["batch_size"]
    operations = (2 if name.startswith("predict-") else 6) * row.details["encoder_parameters"]
    tokens = batch * lengths.details["tokens_per_row"]
    return 1e3 * batch / row.ours, 1e3 * batch / row.peer, 1e3 * operations * tokens / (limit.peer * 1e12)


def _floors(levels: Levels) -> str:
    """What the products alone allow, for every row with a known number of parameters."""
    lines = []
    for name in dict.fromkeys(name for rows in levels.values() for name in FLOORS if any(row.id == name for row in rows)):
        cells = []
        for level in levels:
            found = floor(levels[level], name)
            if found is None:
                cells += ["-", "-"]
                continue
            _, peer, products = found
            cells += [" / ".join(show_number(value) for value in found), show_number(peer / products)]
        lines += [[name, *cells]] if set(cells) != {"-"} else []
    if not lines:
        return ""
    columns = ["row"]
    for level in levels:
        columns += [f"{title(level)}: ours / peer / products alone, ms a batch", "ratio if nothing but products took time"]
    return f"### The floor\n\n{_table(columns, lines)}"


def _accuracy(levels: Levels) -> str:
    """Share of right labels of each system that predicts."""
    found = {
        level: row.details.get("accuracy", {}) for level in levels for row in levels[level] if row.id == "predict-pipeline"
    }
    names = list(dict.fromkeys(name for scores in found.values() for name in scores))
    if not names:
        return ""
    lines = [[name, *(show_share(found.get(level, {}).get(name)) for level in levels)] for name in names]
    columns = ["system", *(title(level) for level in levels)]
    return f"Share of the predicted texts with the right label (a model of 60 steps):\n\n{_table(columns, lines)}"


def show_share(value: float | None) -> str:
    """Four places, or a dash."""
    return "-" if value is None else f"{value:.4f}"


def _dev_metrics(levels: Levels) -> str:
    for row in (row for rows in levels.values() for row in rows):
        found = dict(row.details.get("dev_metric") or {})
        source = found.pop("source", "")
        if found:
            scores = "; ".join(
                f"{system} {', '.join(f'{key} {value}' for key, value in score.items() if key != 'date')} ({score['date']})"
                for system, score in found.items()
            )
            return f"Scores of whole runs beside the speed: {scores}. Source: {source}."
    return ""


def _left_out(levels: Levels) -> str:
    """Who could not take part, and who could not be held to the level."""
    lines = {}
    for level, rows in levels.items():
        for row in rows:
            for name, reason in row.details.get("left_out", {}).items():
                lines[f"- {title(level)}: {name} left out: {reason}."] = None
            for name, reason in row.details.get("not_held", {}).items():
                lines[f"- {title(level)}: {name} {reason}."] = None
    return "\n".join(lines)


# --- where and when ---------------------------------------------------------------------------------------------------


def _machines(rows: Sequence[Row]) -> list[str]:
    """Machines and days of the rows, each once."""
    return list(dict.fromkeys(f"{row.machine}, {row.date}" for row in rows))


def _origins(levels: Levels) -> str:
    """Machine, versions and data of each row; rows that share them in one line."""
    grouped: dict[tuple[str, str, str, str, int], list[str]] = {}
    for level, rows in levels.items():
        for row in rows:
            packages = ", ".join(f"{name} {number}" for name, number in row.versions.items())
            grouped.setdefault((title(level), row.date, row.machine, packages, row.threads), []).append(row.id)
    lines = [
        f"- {level}: {date}, {machine}, {threads} threads; {packages}: {', '.join(names)}"
        for (level, date, machine, packages, threads), names in grouped.items()
    ]
    columns = ["row", "level", "data", "segments", "seconds in all", "machine in use by others before", "command"]
    return "\n".join([*lines, "", _table(columns, [_facts(row) for rows in levels.values() for row in rows])])


def _facts(row: Row) -> list[str]:
    segment = row.details.get("segment")
    busy, spent = row.details.get("busy_before"), row.details.get("question_seconds")
    rows_each = f" of {segment['rows']:,} rows" if segment and "rows" in segment else ""
    return [
        row.id,
        title(row.level),
        str(row.details.get("data", "-")),
        f"{segment['segments']}{rows_each}" if segment else "-",
        "-" if spent is None else f"{spent:.0f}",
        "-" if busy is None else f"{show_number(100 * busy)} %",
        f"`{row.command}`",
    ]


def main(page: Path = PAGE, readme: Path = README, results: Path = RESULTS) -> int:
    """Rewrite the blocks; 1 where matplotlib is missing."""
    levels, gpu = read_levels(results), read_rows(results / "gpu.json")
    try:
        plots = draw_all(levels, page.parent / "plots") if any(levels.values()) else {}
    except ImportError:
        print('the plots need matplotlib: pip install "textune[bench]"', file=sys.stderr)
        return 1
    _rewrite(page, render(levels, plots, page=page, gpu=gpu))
    _rewrite(readme, render_readme(levels))
    return 0


def _rewrite(page: Path, block: str) -> None:
    text = replace_block(page.read_text(encoding="utf-8"), block)
    aside = page.with_suffix(".writing")
    aside.write_text(text, encoding="utf-8")
    aside.replace(page)


if __name__ == "__main__":
    sys.exit(main())
