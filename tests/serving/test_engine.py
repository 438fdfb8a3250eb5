"""The engine: who waits for whom, what is refused, and that nobody gets another's answer."""

import asyncio
import itertools
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.serving import some_texts

from textune.batches.store import TokenStore
from textune.errors import ModelError
from textune.prediction import Predictor, load
from textune.serving.engine import Engine
from textune.serving.refusals import Refusal
from textune.serving.waiting import Job, Scored, Waiting


@pytest.fixture(scope="module")
def predictor(folders: dict[str, Path]) -> Predictor:
    return load(folders["topic"], device="cpu")


def job(*lengths: int) -> Job:
    """Only what decides when its texts are taken."""
    store = TokenStore({}, np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64))
    return Job(store, np.array(lengths), Scored({}, np.zeros((len(lengths), 0)), np.array(lengths)))


def taken(waiting: Waiting, max_tokens: int) -> list[tuple[int, list[int]]]:
    return [(len(share.job.lengths), share.positions.tolist()) for share in waiting.take(max_tokens)]


def test_a_large_request_delays_a_small_one_by_one_batch() -> None:
    waiting = Waiting()
    large, small = job(*[10] * 100), job(10)
    waiting.put(large)
    assert taken(waiting, 40) == [(100, [0, 1, 2, 3])], "alone, it has the whole batch"
    waiting.put(small)
    first = taken(waiting, 40)
    assert [num for num, _ in first] == [100, 1, 100], "half of it, and what the other leaves"
    assert sum(len(positions) for _, positions in first) == 4


def test_every_text_is_taken_once_and_no_batch_is_too_large() -> None:
    generator = np.random.default_rng(0)
    waiting = Waiting()
    jobs = [job(*generator.integers(1, 60, generator.integers(1, 30)).tolist()) for _ in range(20)]
    for one in jobs:
        waiting.put(one)
    waiting.close()
    found: dict[int, list[int]] = {id(one): [] for one in jobs}
    while shares := waiting.take(50):
        total = sum(int(share.job.lengths[share.positions].sum()) for share in shares)
        assert total <= 50 or len(shares) == 1 == len(shares[0].positions)
        for share in shares:
            found[id(share.job)] += share.positions.tolist()
    assert all(sorted(found[id(one)]) == list(range(len(one.lengths))) for one in jobs)


def test_what_nobody_waits_for_is_left_out() -> None:
    waiting = Waiting()
    gone, other = job(5), job(5, 5)
    gone.is_gone = True
    for one in (gone, other):
        waiting.put(one)
    assert taken(waiting, 40) == [(2, [0, 1])]


def run(predictor: Predictor, work: Any, **options: Any) -> Any:
    """What `work(engine)` gives, an engine of its own behind it."""

    async def all_of_it() -> Any:
        engine = Engine("topic", predictor, **{"max_queue_tokens": 100_000, "timeout": 60.0} | options)
        try:
            return await work(engine)
        finally:
            await engine.close()

    return asyncio.run(all_of_it())


def test_many_requests_at_once_get_their_own_answers(predictor: Predictor) -> None:
    """Of mixed sizes, in small batches, so that texts of several requests are computed together."""
    texts = some_texts(300)
    alone = predictor.score(texts)
    bounds = [0, *np.cumsum([1, 40, 1, 2, 90, 1, 1, 7, 1, 100, 3, 53]).tolist()]
    parts = list(itertools.pairwise(bounds))

    async def work(engine: Engine) -> list[Scored]:
        return await asyncio.gather(*(engine.score(texts[start:stop]) for start, stop in parts))

    for (start, stop), scored in zip(parts, run(predictor, work, batch_tokens=120), strict=True):
        np.testing.assert_allclose(scored.scores["label"], alone[start:stop], atol=1e-5)
        assert scored.num_tokens.max() <= 24


def test_a_request_that_is_alone_has_the_bits_of_predict(predictor: Predictor) -> None:
    texts = some_texts(25)
    scored = run(predictor, lambda engine: engine.score(texts))
    assert np.array_equal(scored.scores["label"], predictor.score(texts))


class Blocked:
    """Computing waits until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, predictor: Predictor) -> None:
        self.go = threading.Event()
        self.begun = threading.Event()
        real = type(predictor.scorer).score_batches

        def wait(scorer: Any, *arguments: Any, **options: Any) -> Any:
            self.begun.set()
            assert self.go.wait(60)
            return real(scorer, *arguments, **options)

        monkeypatch.setattr(type(predictor.scorer), "score_batches", wait)


def test_a_full_queue_refuses_and_takes_again(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = Blocked(monkeypatch, predictor)
    texts = some_texts(20)
    total = len(predictor.encode(texts).ids)

    async def work(engine: Engine) -> None:
        first = asyncio.create_task(engine.score(texts))
        await asyncio.to_thread(blocked.begun.wait, 60)
        assert engine.held_tokens == total
        with pytest.raises(Refusal, match="queue is full") as refused:
            await engine.score(texts)
        assert refused.value.status == 429 and int(refused.value.headers["retry-after"]) >= 1
        blocked.go.set()
        assert np.array_equal((await first).scores["label"], predictor.score(texts))
        assert engine.held_tokens == 0
        await engine.score(texts)
        with pytest.raises(Refusal, match="fewer texts") as refused:
            await engine.score(texts * 2)
        assert refused.value.status == 413

    run(predictor, work, max_queue_tokens=total + 5)


def test_a_request_that_waits_too_long_is_told_so(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = Blocked(monkeypatch, predictor)

    async def work(engine: Engine) -> None:
        with pytest.raises(Refusal, match=r"within 0\.2 seconds") as refused:
            await engine.score(some_texts(3))
        assert refused.value.status == 503 and refused.value.retry_after
        blocked.go.set()
        assert engine.held_tokens == 0

    run(predictor, work, timeout=0.2)


def test_what_one_request_has_does_not_fail_the_others(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose scores of one text are no numbers."""
    real = type(predictor.scorer).score_batches
    poison = predictor.encode(["film " * 9]).ids

    def score(scorer: Any, store: TokenStore, chosen: np.ndarray, **options: Any) -> Any:
        rows = [store.ids[store.offsets[row] : store.offsets[row + 1]] for row in chosen]
        if any(np.array_equal(row, poison) for row in rows):
            raise ModelError("the model's scores are not numbers.")
        return real(scorer, store, chosen, **options)

    monkeypatch.setattr(type(predictor.scorer), "score_batches", score)
    texts = some_texts(6)

    async def work(engine: Engine) -> list[Any]:
        asked: list[Coroutine[Any, Any, Scored]] = [engine.score([text]) for text in (*texts, "film " * 9)]
        return await asyncio.gather(*asked, return_exceptions=True)

    *good, bad = run(predictor, work)
    assert isinstance(bad, Refusal) and bad.status == 424
    assert np.allclose([one.scores["label"][0] for one in good], predictor_scores(real, predictor, texts), atol=1e-6)


def predictor_scores(real: Any, predictor: Predictor, texts: list[str]) -> np.ndarray:
    found = [batch.scores["label"] for text in texts for batch in real(predictor.scorer, predictor.encode([text]))]
    return np.concatenate(found)


def test_watchers_are_told_of_answers_without_texts(predictor: Predictor) -> None:
    class Told:
        def __init__(self) -> None:
            self.lines: list[Any] = []

        def answered(self, model: str, predictor: Predictor, num_tokens: np.ndarray, scores: Any) -> None:
            self.lines.append((model, len(num_tokens), scores["label"].shape))

        def computed(self, model: str, num_tokens: int, seconds: float) -> None:
            assert num_tokens > 0 and seconds > 0

        def refused(self, reason: str) -> None:
            raise AssertionError(reason)

    told = Told()
    run(predictor, lambda engine: engine.score(some_texts(2)), watchers=[told])
    assert told.lines == [("topic", 2, (2, 3))]


def test_small_batches_do_not_make_a_queue_look_long(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """One text at a time takes nearly as long as many at once: what waits is not reckoned by it."""
    real = type(predictor.scorer).score_batches

    def slowly(scorer: Any, *arguments: Any, **options: Any) -> Any:
        time.sleep(0.1)
        return real(scorer, *arguments, **options)

    monkeypatch.setattr(type(predictor.scorer), "score_batches", slowly)

    async def work(engine: Engine) -> None:
        for text in some_texts(4):
            await engine.score([text])
        answers = await asyncio.gather(*(engine.score(some_texts(100)) for _ in range(4)))
        assert len(answers) == 4

    run(predictor, work, timeout=5.0)


def test_a_very_long_text_takes_its_place_before_it_is_cut(predictor: Predictor) -> None:
    async def work(engine: Engine) -> None:
        long = "film " * 50_000
        first = asyncio.create_task(engine.score([long]))
        await asyncio.sleep(0)
        assert engine.held_tokens == 2000
        with pytest.raises(Refusal, match="queue is full"):
            await engine.score(["film"])
        [num_tokens] = (await first).num_tokens
        assert num_tokens == predictor.card.max_length and engine.held_tokens == 0
        await engine.score(["film"])

    run(predictor, work, max_queue_tokens=2000)


def test_an_engine_that_has_ended_refuses_at_once(predictor: Predictor) -> None:
    async def work(engine: Engine) -> None:
        await engine.close()
        with pytest.raises(Refusal, match="not at work") as refused:
            await engine.score(["film"])
        assert refused.value.status == 503

    run(predictor, work)


def test_a_future_is_never_cancelled_from_outside() -> None:
    """A request that is given up must not break the thread that computes it."""
    done: Future[Scored] = job(3).done
    assert not done.cancel()
