"""docs/results.md, and what the headers of the examples say of their scores, from the files of the runs."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from statistics import mean, median

from bench.rows import write_whole
from bench.worker import ROOT, Json

RESULTS, TEMPLATE = ROOT / "bench" / "results", Path(__file__).with_name("page.md")
TASKS: dict[str, tuple[str, list[str]]] = {
    "sst2": ("SST-2", ["accuracy"]),
    "cola": ("CoLA", ["mcc", "accuracy"]),
    "mrpc": ("MRPC", ["f1", "accuracy"]),
    "rte": ("RTE", ["accuracy"]),
    "stsb": ("STS-B", ["pearson", "spearman"]),
    "trec": ("TREC-6", ["accuracy"]),
    "banking77": ("banking77", ["accuracy"]),
    "goemotions": ("GoEmotions", ["f1_micro", "f1_macro"]),
    "wnli": ("WNLI", ["accuracy"]),
}
"""Task to its title and the metrics shown, the main one first."""
HARDWARE = "one core of an AMD EPYC (Zen 4, bf16), shared with other work"
BACKBONES = {"minilm": "MiniLM-L6", "smollm2": "SmolLM2"}
WAYS = {"full": "everything", "lora": "LoRA", "qlora": "LoRA, nf4"}
"""Ways to train the backbones on SST-2; `sst2/BACKBONE-WAY.toml` is the config of one."""
OF_SMOLLM2 = """
SmolLM2's weights came from a file of 4-bit blocks and were read as floats: its scores are not those of the published
weights. Its learning rates were not tried out: a usual one, and ten times as much for adapters."""
COLUMNS = """\
## Columns before the text

Film reviews of IMDB and Rotten Tomatoes, positive or negative, with the site before each text
([metadata](metadata.md#a-prefix-for-classifiers), dropout 0.1) and without, by the configs in `bench/scores/reviews/`:
one epoch, {rows}, all-MiniLM-L6-v2.
Each entry is the mean over the seeds, with the single seeds in brackets. The lift is what the accuracy of one model
loses where the column is left out of the rows that it is evaluated on, with its 95 % interval: where that includes 0,
these rows do not show that the column is worth anything.

{table}

Where and when: seeds {seeds}, {where}.

"""
Runs = dict[int, Json]
"""Results of one system and task by seed."""


def page() -> str:
    """The whole of docs/results.md."""
    runs = {task: {system: _read(system, task) for system in ("textune", "trainer", "static")} for task in TASKS}
    runs = {task: found for task, found in runs.items() if found["textune"]}
    parts = {"scores": _scores(runs), "worth": _worth(runs), "machines": _machines(runs), "hardware": HARDWARE}
    parts |= {"few": _few_numbers(), "rates": _rates(), "columns": _columns()}
    return TEMPLATE.read_text(encoding="utf-8").format(**parts)


def update_headers() -> None:
    """State hardware, time and score of our runs in the headers of the examples."""
    for task, (_, metrics) in TASKS.items():
        if not (runs := _read("textune", task)):
            continue
        minutes, date = median(run["seconds"] for run in runs.values()) / 60, next(iter(runs.values()))["date"]
        facts = {
            "# hardware:": HARDWARE,
            "# time:": f"{minutes:.1f} minutes of training and evaluation ({date})",
            "# score:": f"{metrics[0]} {_cell(runs, metrics[0])} after the last epoch, "
            f"seeds {', '.join(map(str, runs))}",
        }
        path = ROOT / "examples" / f"{task}.toml"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        stated = [
            next((k.ljust(12) + v + "\n" for k, v in facts.items() if line.startswith(k)), line) for line in lines
        ]
        write_whole(path, "".join(stated))


def _read(system: str, task: str) -> Runs:
    found = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted((RESULTS / system).glob(f"{task}-*.json"))
    ]
    return {int(run["seed"]): run for run in found}


def _cell(runs: Runs, metric: str) -> str:
    """Mean and single values of the last epoch."""
    values = [run["last"][metric] for run in runs.values()]
    single = f" ({', '.join(f'{value:.3f}' for value in values)})" if len(values) > 1 else ""
    return f"{mean(values):.3f}{single}" if values else "-"


def _difference(ours: Runs, theirs: Runs, metric: str) -> str:
    """The difference of the means beside the larger spread of the seeds (largest minus smallest)."""
    seeds = sorted(set(ours) & set(theirs))
    both = [[runs[seed]["last"][metric] for seed in seeds] for runs in (ours, theirs)]
    spread = f" (spread {max(max(v) - min(v) for v in both):.3f})" if len(seeds) > 1 else ""
    return f"{mean(both[0]) - mean(both[1]):+.3f}{spread}" if seeds else "-"


def _scores(runs: dict[str, dict[str, Runs]]) -> str:
    lines = [
        "| task | metric | textune | Trainer | difference | no encoder |",
        "|---|---|---|---|---|---|",
    ]
    for task, found in runs.items():
        ours, theirs, floor = found.values()
        for metric in TASKS[task][1]:
            cells = [
                _cell(ours, metric),
                _cell(theirs, metric),
                _difference(ours, theirs, metric),
                _cell(floor, metric),
            ]
            lines.append(f"| {' | '.join([TASKS[task][0], metric, *cells])} |")
    return "\n".join(lines)


def _few_numbers() -> str:
    """Training everything beside training few numbers, a line for each backbone and way that has a run."""
    columns = ["backbone", "trained", "numbers", "rows, batch", "rate", "accuracy", "beside everything", "MiB"]
    lines, origins = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)], set[str]()
    for backbone, title in BACKBONES.items():
        everything = _read("textune", f"{backbone}-full")
        for way, words in WAYS.items():
            if not (runs := _read("textune", f"{backbone}-{way}")):
                continue
            run = runs[min(runs)]
            train, rows = run["example"]["train"], run["rows"]["train"]
            cells = [title, words, f"{run['parameters_trained']:,}", f"{rows:,}, {train['batch_size']}"]
            cells += [f"{train['optimizer']['lr']:g}", _cell(runs, "accuracy")]
            cells += ["-" if way == "full" else _difference(runs, everything, "accuracy")]
            peak = max(other["peak_memory_mb"] for other in runs.values())
            lines.append(f"| {' | '.join([*cells, f'{peak:,.0f}'])} |")
            origins |= {
                f"{other['date']}, {other['machine']}, threads: {other['threads']}, {other['precision']}, torch"
                f" {other['versions']['torch']}, transformers {other['versions']['transformers']}"
                for other in runs.values()
            }
    notes = [OF_SMOLLM2] if any(BACKBONES["smollm2"] in line for line in lines) else []
    where = textwrap.fill(f"Where and when: {'; '.join(sorted(origins))}.", 119, break_on_hyphens=False)
    return "\n".join([*lines, "", where, *notes])


def _columns() -> str:
    """The section on columns before each text, beside the same rows without them; empty without runs."""
    plain, source = (_read("textune", f"reviews-{way}") for way in ("plain", "source"))
    if not (plain and source):
        return ""
    lines = ["| before each text | accuracy | beside none | lift of `source` |", "|---|---|---|---|"]
    lines.append(f"| nothing | {_cell(plain, 'accuracy')} | - | - |")
    lifts = [lift for run in source.values() for lift in run["reports"]["validation"]["lifts"]]
    single = (f"{one['lift']:+.3f} in {one['interval'][0]:+.3f} to {one['interval'][1]:+.3f}" for one in lifts)
    shown = f"{mean(one['lift'] for one in lifts):+.3f}"
    difference = _difference(source, plain, "accuracy")
    lines.append(f"| `source` | {_cell(source, 'accuracy')} | {difference} | {shown} |")
    lines += ["", f"The lift of each seed: {', '.join(single)}."]
    run = source[min(source)]
    rows = f"{run['rows']['train']:,} training and {run['rows']['validation']:,} validation rows"
    where = f"{run['date']}, {run['machine']}, threads: {run['threads']}, {run['precision']}"
    seeds = ", ".join(map(str, sorted(source)))
    return COLUMNS.format(rows=rows, table="\n".join(lines), seeds=seeds, where=where)


def _rates() -> str:
    """The learning rates that were tried, with the scores that chose among them."""
    lines = ["| backbone | trained | learning rate: accuracy on the rows set aside |", "|---|---|---|"]
    for backbone, title in BACKBONES.items():
        for way, words in WAYS.items():
            path = RESULTS / "rates" / f"{backbone}-{way}.json"
            if path.exists():
                found = json.loads(path.read_text(encoding="utf-8"))
                tried = ", ".join(f"{rate}: {score:.3f}" for rate, score in found["scores"].items())
                lines.append(f"| {title} | {words} | {tried} ({found['held_out']:,} rows) |")
    return "\n".join(lines)


def _worth(runs: dict[str, dict[str, Runs]]) -> str:
    """What one gets without a model."""
    columns = "task | rows | main metric | 95 % interval (seed 0) | baseline: always the commonest answer, or the mean"
    lines, methods = [f"| {columns} |", "|---|---|---|---|---|"], dict[str, list[str]]()
    for task, found in runs.items():
        report = next(iter(found["textune"].values()))["reports"]["validation"]
        main, baseline = report["main"], report["baseline"]
        low, high = main["interval_95"] or (float("nan"), float("nan"))
        # reports written before intervals named their method hold percentiles of the bootstrap
        value = f"{main['metric']} {main['value']:.3f} | {low:.3f} to {high:.3f}"
        methods.setdefault(main.get("interval_method", "percentile bootstrap"), []).append(TASKS[task][0])
        name, beaten = baseline["compared"], "" if baseline["beaten"] else ", **not beaten**"
        base = f"{name} {baseline['metrics'][name]:.3f}{beaten} ({report['metrics'][name]:.3f} by the model)"
        lines.append(f"| {TASKS[task][0]} | {report['rows']:,} | {value} | {base} |")
    how = "; ".join(f"{method} of {', '.join(names)}" for method, names in methods.items())
    return "\n".join([*lines, "", textwrap.fill(f"Method of the intervals: {how}.", 119)])


def _machines(runs: dict[str, dict[str, Runs]]) -> str:
    """When and with what the runs were made."""
    lines = set()
    for system, run in (
        (system, run) for found in runs.values() for system, part in found.items() for run in part.values()
    ):
        packages, date = run["versions"], run["date"][:10]
        versions = f"torch {packages['torch']}, transformers {packages['transformers']}"
        trained = f"- {system}: {date}, threads: {run.get('threads')}, bf16, {versions}"
        lines.add(f"- no encoder: {date}, scikit-learn {packages['scikit-learn']}" if system == "static" else trained)
    return "\n".join(sorted(lines))
