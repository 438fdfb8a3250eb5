"""What a table of word vectors gives without any encoder: the mean of the backbone's token embeddings under a linear
model.

What Model2Vec and its like do. It takes seconds; an encoder that does not clearly beat it is not worth its training.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from bench.machine import versions
from bench.sides.textune import PACKAGES, opened
from bench.worker import Channel, Json
from textune.batches.rows import TokenRows
from textune.batches.store import TokenStore
from textune.data.labels.map import LABEL, problem_of
from textune.evaluation.metrics import compute_metrics
from textune.evaluation.reduction import scored_rows

STRENGTHS = (1.0, 0.1, 0.01)
"""Of the linear model: `C` of a logistic regression, 1 / `alpha` of a ridge regression."""
UNTOUCHED = ["train.compact_vocabulary=off", "model.compile=off", "train.precision=fp32"]


def counts(store: TokenStore, rows_N: np.ndarray, vocabulary: int, ignored: list[int], *, second: bool) -> csr_matrix:
    """[N, V] how often each token occurs in the rows; `second`: in the second text of a pair. Special tokens do not
    count."""
    places = [slice(store.offsets[row], store.offsets[row + 1]) for row in rows_N]
    tokens = np.concatenate([store.ids[place] for place in places])
    owners = np.repeat(np.arange(len(rows_N)), [place.stop - place.start for place in places])
    keep = ~np.isin(tokens, ignored)
    if store.types is None:
        keep &= not second
    else:
        keep &= np.concatenate([store.types[place] for place in places]) == int(second)
    return csr_matrix((np.ones(keep.sum()), (owners[keep], tokens[keep])), shape=(len(rows_N), vocabulary))


def means(counts_NV: csr_matrix, embedding_VH: np.ndarray) -> np.ndarray:
    """[N, H] the mean of each row's token embeddings; zeros for a row without tokens."""
    totals_N1 = np.asarray(counts_NV.sum(axis=1)).reshape(-1, 1)
    return np.asarray(counts_NV @ embedding_VH / np.maximum(totals_N1, 1))


def features(rows: TokenRows, embedding_VH: np.ndarray, ignored: list[int]) -> np.ndarray:
    """[N, H] of single texts; of pairs [N, 4 H]: both means, their distance and their product."""
    u_NH, v_NH = (
        means(counts(rows.store, rows.rows, len(embedding_VH), ignored, second=second), embedding_VH)
        for second in (False, True)
    )
    return np.hstack([u_NH, v_NH, abs(u_NH - v_NH), u_NH * v_NH]) if v_NH.any() else u_NH


def predicted(problem: str, train_NF: np.ndarray, targets: np.ndarray, held_out_NF: np.ndarray) -> np.ndarray:
    """What a linear model gives the held-out rows: probabilities [N, C], or values [N] of a regression.

    How strongly it is regularised is chosen on a tenth of the training rows.
    """
    models: dict[str, tuple[Any, str, str | None]] = {
        "regression": (Ridge(), "alpha", None),
        "multilabel": (OneVsRestClassifier(LogisticRegression(max_iter=200)), "estimator__C", "f1_micro"),
    }
    model, key, scoring = models.get(problem, (LogisticRegression(max_iter=1000), "C", None))
    steps = Pipeline([("scale", StandardScaler()), ("linear", model)])
    strengths = [value**-1 if key == "alpha" else value for value in STRENGTHS]
    split = ShuffleSplit(n_splits=1, test_size=0.1, random_state=0)
    search = GridSearchCV(steps, {f"linear__{key}": strengths}, cv=split, scoring=scoring).fit(train_NF, targets)
    return np.asarray(search.predict(held_out_NF) if problem == "regression" else search.predict_proba(held_out_NF))


def scores(channel: Channel, spec: Json) -> None:
    """Fit and score one example; the first reply is the result."""
    parts = opened(spec["example"], [*spec["overrides"], *UNTOUCHED])
    started = time.perf_counter()
    embedding_VH = parts.model.hf.get_input_embeddings().weight.detach().float().numpy()
    ignored, problem = list(parts.tokenizer.all_special_ids), problem_of(parts.data.label_maps)
    made = {name: features(parts.rows[name], embedding_VH, ignored) for name in ("train", "validation")}
    targets = {name: parts.rows[name].targets[LABEL] for name in made}
    found = predicted(problem, made["train"], targets["train"], made["validation"])
    metrics = compute_metrics(scored_rows(parts.task.head, targets["validation"], found))
    channel.reply(
        seed=0,
        metric=parts.metric.name,
        last={name: value for name, value in metrics.items() if np.isfinite(value)},
        rows=len(made["train"]),
        features=made["train"].shape[1],
        seconds=round(time.perf_counter() - started, 1),
        versions=versions(PACKAGES),
    )
