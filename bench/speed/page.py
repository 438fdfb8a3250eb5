"""`python -m bench.speed.page`: the tables and plots of docs/performance.md, from the JSON rows.

Only the block between the two markers is written; the rest of the page is written by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.speed.plots import draw_all
from bench.speed.rows import Row, cells, read_rows, show_number
from bench.speed.workers import ROOT

PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "bench" / "results"
BEGIN, END = "<!-- measurements: begin (make docs writes this part) -->", "<!-- measurements: end -->"

SECTIONS = (
    ("Training", ("train-", "bert-", "xlmr-")),
    ("Share of the limit", ("limit-",)),
    ("Prediction", ("predict-",)),
    ("Whole processes and the loop", ("epoch", "loop", "startup-")),
    ("textune's own switches", ("switch-",)),
    ("Scaling", ("scaling-",)),
    ("On a GPU", ("gpu-",)),
)
COLUMNS = ("question", "ours", "peer", "unit", "ratio (smallest to largest pair)", "goal", "met", "peer is")


def render(rows: Sequence[Row], plots: dict[str, Path], *, page: Path) -> str:
    """The generated block, without its markers."""
    if not rows:
        return "Nothing has been measured yet: `make bench`.\n"
    parts = []
    if "ratios" in plots:
        parts.append(_image(plots["ratios"], "Times as fast as each peer", page))
    for title, prefixes in SECTIONS:
        chosen = [row for row in rows if row.id.startswith(prefixes)]
        if not chosen:
            continue
        parts.append(f"### {title}\n\n{_table(COLUMNS, [cells(row) for row in chosen])}")
        parts += [_image(plots[row.id], row.question, page) for row in chosen if row.id in plots]
        parts += [text for text in (_memory(chosen), _dev_metrics(chosen), _left_out(chosen)) if text]
    parts.append(f"### Where and when\n\n{_origins(rows)}")
    return "\n\n".join(parts) + "\n"


def replace_block(text: str, block: str) -> str:
    """The page with a new generated block; ValueError where a marker is missing."""
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"the page needs the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{block}\n{END}{after}"


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join([*head, *(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)])


def _image(path: Path, title: str, page: Path) -> str:
    return f"![{title}]({path.relative_to(page.parent).as_posix()})"


def _memory(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        peaks = row.details.get("memory_mb", {})
        if all(isinstance(peak, dict) for peak in peaks.values()):  # prediction has a number for each system
            lines += [[row.id, ", ".join(f"{name} {_peak(peak)}" for name, peak in peaks.items())]] if peaks else []
    return f"Peak memory in MiB, libraries and weights included:\n\n{_table(['row', 'each system'], lines)}" if lines else ""


def _peak(peak: dict[str, int]) -> str:
    on_gpu = peak.get("gpu_peak_memory_mb")
    return f"{peak['peak_memory_mb']:,}" + ("" if on_gpu is None else f" (GPU: {on_gpu:,})")


def _dev_metrics(rows: Sequence[Row]) -> str:
    for row in rows:
        found = dict(row.details.get("dev_metric") or {})
        source = found.pop("source", "")
        if found:
            scores = "; ".join(
                f"{system} {', '.join(f'{key} {value}' for key, value in score.items() if key != 'date')} ({score['date']})"
                for system, score in found.items()
            )
            return f"Scores of whole runs beside the speed: {scores}. Source: {source}."
    return ""


def _left_out(rows: Sequence[Row]) -> str:
    reasons = {name: reason for row in rows for name, reason in row.details.get("left_out", {}).items()}
    return "\n".join(f"Left out: {name}: {reason}." for name, reason in reasons.items())


def _origins(rows: Sequence[Row]) -> str:
    """Machine, versions and data of each row; rows that share them in one line."""
    grouped: dict[tuple[str, str, str, int], list[Row]] = {}
    for row in rows:
        packages = ", ".join(f"{name} {number}" for name, number in row.versions.items())
        grouped.setdefault((row.date, row.machine, packages, row.threads), []).append(row)
    lines = []
    for (date, machine, packages, threads), group in grouped.items():
        lines.append(f"- {date}, {machine}, {threads} threads; {packages}: {', '.join(row.id for row in group)}")
    lines += [
        "",
        _table(["row", "data", "segments", "machine in use by others before", "command"], [_facts(row) for row in rows]),
    ]
    return "\n".join(lines)


def _facts(row: Row) -> list[str]:
    segment = row.details.get("segment")
    busy = row.details.get("busy_before")
    rows_each = f" of {segment['rows']:,} rows" if segment and "rows" in segment else ""
    return [
        row.id,
        str(row.details.get("data", "-")),
        f"{segment['segments']}{rows_each}" if segment else "-",
        "-" if busy is None else f"{show_number(100 * busy)} %",
        f"`{row.command}`",
    ]


def main(page: Path = PAGE, results: Path = RESULTS) -> int:
    """Rewrite the block; 1 where matplotlib is missing."""
    rows = [*read_rows(results / "cpu.json"), *read_rows(results / "gpu.json")]
    try:
        plots = draw_all(rows, page.parent / "plots") if rows else {}
    except ImportError:
        print('the plots need matplotlib: pip install "textune[bench]"', file=sys.stderr)
        return 1
    text = replace_block(page.read_text(encoding="utf-8"), render(rows, plots, page=page))
    aside = page.with_suffix(".writing")
    aside.write_text(text, encoding="utf-8")
    aside.replace(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
