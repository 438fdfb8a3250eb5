"""docs/results.md, and what the headers of the examples say of their scores, from the files of the runs."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

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


def page() -> str:
    """The whole of docs/results.md."""
    parts = {"scores": _scores(), "worth": _worth(), "machines": _machines(), "hardware": HARDWARE}
    return TEMPLATE.read_text(encoding="utf-8").format(**parts)


def update_headers() -> None:
    """State hardware, time and score of our runs in the headers of the examples."""
    for task, (_, metrics) in TASKS.items():
        results = _read("textune", task)
        if not results:
            continue
        minutes = statistics.median(result["seconds"] for result in results.values()) / 60
        facts = {
            "# hardware:": HARDWARE,
            "# time:": f"{minutes:.1f} minutes of training and evaluation ({next(iter(results.values()))['date']})",
            "# score:": f"{metrics[0]} {_cell(results, metrics[0])} after the last epoch, seeds {', '.join(map(str, results))}",
        }
        path = ROOT / "examples" / f"{task}.toml"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        stated = [next((k.ljust(12) + v + "\n" for k, v in facts.items() if line.startswith(k)), line) for line in lines]
        write_whole(path, "".join(stated))


def _read(system: str, task: str) -> dict[int, Json]:
    """Results of one system and task by seed."""
    paths = sorted((RESULTS / system).glob(f"{task}-*.json"))
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return {int(result["seed"]): result for result in found}


def _cell(results: dict[int, Json], metric: str) -> str:
    """Mean and single values of the last epoch."""
    values = [result["last"][metric] for result in results.values()]
    if not values:
        return "-"
    single = f" ({', '.join(f'{value:.3f}' for value in values)})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{single}"


def _difference(ours: dict[int, Json], theirs: dict[int, Json], metric: str) -> str:
    """The difference of the means beside the larger seed spread (largest minus smallest)."""
    seeds = sorted(set(ours) & set(theirs))
    if not seeds:
        return "-"
    both = [[results[seed]["last"][metric] for seed in seeds] for results in (ours, theirs)]
    spread = f" (seed spread {max(max(v) - min(v) for v in both):.3f})" if len(seeds) > 1 else ""
    return f"{statistics.mean(both[0]) - statistics.mean(both[1]):+.3f}{spread}"


def _scores() -> str:
    """All tasks with a result of ours."""
    lines = ["| task | metric | textune | Trainer | difference | no encoder | seeds |", "|---|---|---|---|---|---|---|"]
    for task, (title, metrics) in TASKS.items():
        ours, theirs, floor = (_read(system, task) for system in ("textune", "trainer", "static"))
        for metric in metrics if ours else []:
            cells = [_cell(ours, metric), _cell(theirs, metric), _difference(ours, theirs, metric), _cell(floor, metric)]
            lines.append(f"| {' | '.join([title, metric, *cells, ', '.join(map(str, sorted(ours)))])} |")
    return "\n".join(lines)


def _worth() -> str:
    """What one gets without a model."""
    lines = [
        "| task | rows | main metric | 95 % interval (seed 0) | method | baseline: always the commonest answer, or the mean |",
        "|---|---|---|---|---|---|",
    ]
    for task, (title, _) in TASKS.items():
        for result in list(_read("textune", task).values())[:1]:
            report = result["reports"]["validation"]
            main, baseline = report["main"], report["baseline"]
            low, high = main["interval_95"] or (float("nan"), float("nan"))
            # reports written before intervals named their method hold percentiles of the bootstrap
            method = main.get("interval_method", "percentile bootstrap")
            name = baseline["compared"]
            beaten = "" if baseline["beaten"] else ", **not beaten**"
            base = f"{name} {baseline['metrics'][name]:.3f}{beaten} ({report['metrics'][name]:.3f} by the model)"
            value = f"{main['metric']} {main['value']:.3f} | {low:.3f} to {high:.3f} | {method}"
            lines.append(f"| {title} | {report['rows']:,} | {value} | {base} |")
    return "\n".join(lines)


def _machines() -> str:
    """When and with what the runs were made."""
    lines = set()
    for system in ("textune", "trainer", "static"):
        for result in (result for task in TASKS for result in _read(system, task).values()):
            packages, date = result["versions"], result["date"][:10]
            versions = f"torch {packages['torch']}, transformers {packages.get('transformers')}"
            trained = f"- {system}: {date}, threads: {result.get('threads')}, bf16, {versions}"
            lines.add(f"- no encoder: {date}, scikit-learn {packages['scikit-learn']}" if system == "static" else trained)
    return "\n".join(sorted(lines))
