"""From what `evaluate.metric` says to a metric: names, the names of other libraries, lists; after `mainmetric.py`.

Another library's name is taken only where it means the same number. A name that means different numbers in different
libraries is refused, and the message names those to choose from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING

from textune.errors import ConfigError, Setting, Words
from textune.evaluation.mainmetric import MainMetric
from textune.evaluation.metrics import AND, MEAN_OF, METRICS, Metric, mean_of, metrics_for, own_metrics
from textune.tasks import problems_measured_by
from textune.wording import closest, listing, repeated_names

if TYPE_CHECKING:
    from textune.tasks import Answers, Head

MAX_TASKS = 6
"""Tasks that one message names."""
_OF_A_SET = ("eval_", "val_", "valid_", "validation_", "dev_", "test_")
"""What other libraries put before a metric to say which rows it is of; here `evaluate.best_by` says so."""

_OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "accuracy": ("acc", "accuracy_score"),
    "average_precision": ("ap", "average_precision_score"),
    "balanced_accuracy": ("balanced_accuracy_score",),
    "bits_per_byte": ("bpb",),
    "bits_per_character": ("bpc",),
    "brier": ("brier_score", "brier_score_loss"),
    "f_half": ("f0.5", "f_0.5", "f05", "f0_5", "f_half_score"),
    "f1": ("f1_score",),
    "hamming_loss": ("hamming_distance",),
    "mae": ("mean_absolute_error",),
    "mape": ("mean_absolute_percentage_error",),
    "mcc": (
        "matthews",
        "matthews_corr",
        "matthews_corr_coef",
        "matthews_corrcoef",
        "matthews_correlation",
        "matthews_correlation_coefficient",
    ),
    "mse": ("mean_squared_error",),
    "pearson": ("pearson_corr_coef", "pearson_corrcoef", "pearson_correlation", "pearsonr"),
    "perplexity": ("ppl",),
    "precision": ("precision_score",),
    "r2": ("r2_score", "r_squared"),
    "recall": ("recall_score",),
    "rmse": ("root_mean_squared_error",),
    "roc_auc": ("auc", "auc_macro", "auroc", "roc_auc_ovr", "roc_auc_score"),
    "spearman": ("spearman_corr_coef", "spearman_corrcoef", "spearman_correlation", "spearmanr"),
    "subset_accuracy": ("exact_match", "exact_match_ratio"),
}
"""The names of metrics in transformers and evaluate, scikit-learn, torchmetrics, Keras and Azure ML, where they mean
the same number."""

_SEVERAL_MEANINGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("auc_weighted", "auc_micro", "roc_auc_ovo"), ("roc_auc",)),
    **dict.fromkeys(("auprc", "aucpr", "pr_auc", "prauc", "map", "mean_average_precision"), ("average_precision",)),
    **dict.fromkeys(("bce", "ce", "binary_crossentropy", "categorical_crossentropy"), ("loss", "log_loss")),
    **dict.fromkeys(("cross_entropy", "crossentropy", "nll", "nll_loss", "perplexity"), ("loss", "log_loss")),
    **dict.fromkeys(("corr", "correlation"), ("mcc", "pearson", "spearman")),
    **dict.fromkeys(("f_beta", "f_beta_score", "fbeta", "fbeta_score", "f"), ("f1", "f_half")),
    **dict.fromkeys(("combined", "combined_score"), ()),
    "error": ("mae", "mse", "rmse"),
    "neg_brier_score": ("brier",),
    "neg_log_loss": ("log_loss",),
    "neg_mean_absolute_error": ("mae",),
    "neg_mean_absolute_percentage_error": ("mape",),
    "neg_mean_squared_error": ("mse",),
    "neg_root_mean_squared_error": ("rmse",),
}
"""Names that mean another number elsewhere, or several; and what may have been meant."""

_AVERAGED = ("f1", "f_half", "precision", "recall")
_AVERAGES = ("macro", "micro", "weighted", "samples")


def _by_other_name() -> Iterator[tuple[str, str]]:
    for name, others in _OTHER_NAMES.items():
        yield from ((other, name) for other in others)
    for kind, average in product(_AVERAGED, _AVERAGES):
        if (name := f"{kind}_{average}") in METRICS:
            yield (f"{average}_{kind}", name)
            for word in _OTHER_NAMES[kind]:
                yield from ((other, name) for other in (f"{word}_{average}", f"{average}_{word}"))


BY_OTHER_NAME: dict[str, str] = dict(_by_other_name())
"""Every name of another library that is taken, to the metric that it means."""


def resolve_metric(wanted: str | Sequence[str], heads: Sequence[Head]) -> MainMetric:
    """The metric of that name (`auto`: the main one), or the mean of those in a list; of several heads the mean over
    them, or that of one head (`tone/accuracy`).

    ConfigError if the heads have no such metric, or if a list has no mean.
    """
    if isinstance(wanted, str):
        wanted = _parts(wanted, heads)
    elif not isinstance(wanted, Sequence) or not all(isinstance(name, str) for name in wanted):
        raise _refused(wanted, "this is neither the name of a metric nor a list of names.")
    found = [_resolve_one(name, heads) for name in wanted]
    if not found:
        raise _refused(list(wanted), "the list names no metric.", hint="Leave it out, or name one.")
    _require_mean(list(wanted), found)
    metrics: dict[str, list[Metric]] = {}
    for one in found:
        for head, metric in one.by_head.items():
            metrics.setdefault(head, []).append(metric)
    if len({len(of_head) for of_head in metrics.values()}) > 1:
        raise _refused(
            list(wanted),
            "it names more metrics of one task than of another, and the mean counts every task alike.",
            hint="Name as many of each, or leave the tasks out.",
        )
    by_head = {head: of_head[0] if len(of_head) == 1 else mean_of(of_head) for head, of_head in metrics.items()}
    return MainMetric(found[0].name if len(found) == 1 else MEAN_OF + AND.join(one.name for one in found), by_head)


def _require_mean(wanted: list[str], found: Sequence[MainMetric]) -> None:
    """ConfigError where a metric is named twice, or where more of one is better and less of another."""
    if repeated := repeated_names(one.name for one in found):
        raise _refused(wanted, f"it names {repeated[0]} twice.", hint="Name each metric once.")
    up, down = ([one.name for one in found if one.higher_is_better is better] for better in (True, False))
    if up and down:
        reason = f"of {_join(up, 'and')} more is better, of {_join(down, 'and')} less: their mean says nothing."
        raise _refused(wanted, reason, hint="Name metrics of one direction.")


def _parts(name: str, heads: Sequence[Head]) -> list[str]:
    """The metrics that the name of a mean consists of; any other name alone."""
    if not name.startswith(MEAN_OF):
        return [name]
    parts: list[str] = []
    pending = ""
    for word in name.removeprefix(MEAN_OF).split(AND):  # which may also stand in the name of a task
        pending = f"{pending}{AND}{word}" if pending else word
        task, slash, _ = pending.rpartition("/")
        if any(task == head.name for head in heads) if slash else len(heads) == 1 or pending in METRICS:
            parts, pending = [*parts, pending], ""
    return [*parts, pending] if pending else parts


def _resolve_one(name: str, heads: Sequence[Head]) -> MainMetric:
    if len(heads) == 1:
        metric = _metric_of(name, name, heads[0].answers)
        return MainMetric(metric.name, {heads[0].name: metric})
    task, slash, rest = name.rpartition("/")
    for head in heads:
        if slash and head.name == task:
            metric = _metric_of(rest, name, head.answers)
            return MainMetric(f"{task}/{metric.name}", {task: metric})
    found = {head.name: _find(name, head.answers) for head in heads}
    having = {head: metric for head, metric in found.items() if metric is not None}
    names = {metric.name for metric in having.values()}
    if len(having) == len(heads) and len(names) == 1:
        return MainMetric(names.pop(), having)
    if having:
        of_one = [f'"{head}/{metric.name}"' for head, metric in having.items()]
        reason = "the tasks have no such metric in common."
        raise _refused(name, reason, hint=f"Write {_join(of_one[:MAX_TASKS], 'or')}.")
    if slash:
        known = listing((head.name for head in heads), MAX_TASKS)
        raise _refused(name, f"there is no task {task!r}.", hint=f"The tasks are {known}.")
    raise _unknown(name, name, heads[0].answers)


def _metric_of(name: str, said: str, answers: Answers) -> Metric:
    """The metric of one head; `said`: what the user wrote."""
    found = _find(name, answers)
    if found is None:
        raise _unknown(name, said, answers)
    return found


def _find(name: str, answers: Answers) -> Metric | None:
    """The metric of answers of this kind; None where they have none of this name."""
    plain, own = _plain(name), {metric.name: metric for metric in own_metrics(answers.measures)}
    plain = answers.measures.main if plain == "auto" else plain
    if name in own or plain in own:
        return own.get(name) or own[plain]
    found = BY_OTHER_NAME.get(plain, plain)
    return METRICS[found] if found in answers.measures.names or found == "loss" else None


def _unknown(name: str, said: str, answers: Answers) -> ConfigError:
    """What to say of a name that is no metric of these answers."""
    plain = _plain(name)
    found, problem = BY_OTHER_NAME.get(plain, plain), answers.label_map.problem
    if plain in _SEVERAL_MEANINGS:
        reason = "this means another number elsewhere, or several."
    elif found in METRICS:
        others = _join(problems_measured_by(found), "and")
        reason = f"this is a metric for {others} problems, but these labels make a {problem} problem."
    else:
        reason = "there is no such metric."
    valid = [*(metric.name for metric in metrics_for(answers)), "loss"]
    nearest = _nearest(plain, found, valid)
    suggestion = f"Did you mean {_join(nearest, 'or')}? " if nearest else ""
    if plain.startswith("combined") or "," in plain:
        mean = f"{MEAN_OF}{valid[0]}{AND}{valid[1]}"
        suggestion = f'The mean of several is a list, such as ["{valid[0]}", "{valid[1]}"], or {mean}. '
    return _refused(said, reason, hint=f"{suggestion}Metrics for {problem}: auto, {', '.join(valid)}.")


def _plain(name: str) -> str:
    """The name as this module writes names, without what says of which rows it is."""
    plain = name.strip().lower().replace("-", "_").replace(" ", "_").replace("/", "_")
    prefix = next((prefix for prefix in _OF_A_SET if plain.startswith(prefix)), "")
    return plain.removeprefix(prefix)


def _nearest(plain: str, found: str, valid: Sequence[str]) -> list[str]:
    meant = [name for name in _SEVERAL_MEANINGS.get(plain, ()) if name in valid]
    if meant:
        return meant
    for stem in (found, found.rpartition("_")[0], *_SEVERAL_MEANINGS.get(plain, ())):
        if longer := [other for other in valid if stem and other.startswith(f"{stem}_")]:
            return longer
    return closest(found, valid, cutoff=0.5)


def _join(words: Sequence[str], last: str) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def _refused(value: object, reason: str, *, hint: str = "") -> ConfigError:
    message = Words(Setting("evaluate.metric", value), f": {reason}")
    return ConfigError(message, hint=hint, key="evaluate.metric", value=value, reason=reason)
