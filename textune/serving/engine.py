"""One model at work: texts of many requests in, the scores of each out.

texts --threads: tokens--> queue, bounded in tokens --one thread: batches, one after the other--> scores

A batch is formed of what waits when the one before it is done, so nobody waits for a batch to fill. Texts are computed
by the scorer that `textune predict` uses; a request that is alone is computed exactly as there.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, Literal

import numpy as np
import pyarrow as pa

from textune.batches import RowTexts, TextEncoder, TokenStore, join_stores, make_row_store
from textune.config import Truncation
from textune.errors import DataError
from textune.prediction import Predictor, require_pairs
from textune.serving.refusals import Refusal, refusal_of
from textune.serving.waiting import Job, Scored, Share, Waiting
from textune.serving.watcher import Watcher

Cut = Literal["refuse", "head", "tail"]
"""What becomes of a text that is too long: refused, or which part of it is kept."""

BATCH_TOKENS = 1024
"""Tokens of a batch on a processor. 1,024 and 2,048 took the same processor time for a request (8.3 ms, MiniLM);
of the two the smaller one lets others wait less."""
TOKENISERS = 2
"""Threads that tokenise: a long text in one leaves the other to short ones."""
CHARACTERS_PER_TOKEN = 4
"""Taken for granted until a text is tokenised."""
CHARACTERS_CUT_OFF = 64
"""Of a very long text, of which most is cut off, so many characters count as a token until then: they are held, and a
thread is busy with them for about as long as it takes to compute one."""
MAX_RETRY = 60
"""The longest that a client is told to wait, in seconds."""


def _nth_text(index: int) -> str:
    """What to call a text of a request."""
    return f"text {index + 1:,}"


class Engine:
    """Answers requests with one model, several at once."""

    def __init__(
        self,
        name: str,
        predictor: Predictor,
        *,
        max_queue_tokens: int,
        timeout: float,
        batch_tokens: int | None = None,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        """`name`: what watchers are told. The other arguments as in `Settings`."""
        self.name: Final = name
        self.predictor: Final = predictor
        self.max_queue_tokens: Final = max_queue_tokens
        self.timeout: Final = timeout
        scorer = predictor.scorer
        usual = BATCH_TOKENS if scorer.device.torch.type == "cpu" else scorer.max_tokens
        self.batch_tokens: Final = batch_tokens or min(scorer.max_tokens, usual)
        self._watchers: Final = watchers
        self._budget = scorer.budget()
        self._encoders: dict[Cut | None, TextEncoder] = {None: predictor.encoder}
        self._held = 0
        self._num_requests = 0
        self._tokens_per_second = 0.0
        self._waiting = Waiting()
        self._tokenisers = ThreadPoolExecutor(TOKENISERS, f"textune-tokeniser-{name}")
        self._thread = threading.Thread(target=self._work, name=f"textune-engine-{name}", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it computes what it is given."""
        return self._thread.is_alive()

    @property
    def held_tokens(self) -> int:
        """Tokens that wait or are computed."""
        return self._held

    @property
    def num_requests(self) -> int:
        """Requests that wait or are computed."""
        return self._num_requests

    async def score(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        fields: tuple[pa.ChunkedArray, ...] = (),
        cut: Cut | None = None,
    ) -> Scored:
        """Score n texts, or pairs of texts, with these fields before them (large_string [n] of each column of
        `data.metadata`). `cut`: what becomes of a text that is too long; None: as the model was trained.

        Raises Refusal: `full`, `too_large` (a text that is too long, or more tokens than the queue holds), `unusable`,
        `late`, `failed`.
        """
        sizes = [len(text) for text in texts]
        if pairs is not None:
            sizes = [size + len(second) for size, second in zip(sizes, pairs, strict=True)]
        return await self.answer(partial(self._encode, texts, pairs, fields, cut), sizes)

    async def answer(self, encode: Callable[[], TokenStore], sizes: Iterable[int]) -> Scored:
        """Score the rows that `encode` makes, in a thread; `sizes`: about how many characters each has. Raises as
        `score`; a DataError of `encode` becomes `unusable`."""
        if not self.is_alive:
            raise Refusal("stopping", "The model is not at work.")
        limit = sys.maxsize if self.predictor.encoder.windows else self.predictor.card.max_length
        estimate = sum(max(min(2 + size // CHARACTERS_PER_TOKEN, limit), size // CHARACTERS_CUT_OFF) for size in sizes)
        estimate = min(estimate, self.max_queue_tokens)  # whether it is too large is known once it is tokenised
        self._admit(estimate)
        self._num_requests += 1
        held, job = estimate, None
        self._hold(held)
        try:
            async with asyncio.timeout(self.timeout):
                store = await asyncio.get_running_loop().run_in_executor(self._tokenisers, encode)
                lengths = store.example_lengths(np.arange(store.num_examples)).astype(np.int64)
                actual = int(lengths.sum())
                self._hold(actual - held)
                held = actual
                self._admit(0, own=held)
                job = Job(store, lengths, self._empty(lengths))
                self._waiting.put(job)
                scored = await asyncio.wrap_future(job.done)
        except TimeoutError:
            raise Refusal(
                "late", f"No answer within {self.timeout:g} seconds.", retry_after=self._seconds_to_go()
            ) from None
        except Refusal:
            raise
        except Exception as error:
            raise refusal_of(error) from error
        finally:
            if job is not None:
                job.is_gone = True
            self._hold(-held)
            self._num_requests -= 1
        for watcher in self._watchers:
            watcher.answered(self.name, self.predictor, scored.num_tokens, scored.scores)
        return scored

    async def close(self, within: float = math.inf) -> None:
        """Answer what is in flight, for so many seconds at most, and end the threads."""
        until = time.monotonic() + within
        while self._num_requests and time.monotonic() < until:
            await asyncio.sleep(0.01)
        self._waiting.close()
        self._tokenisers.shutdown(wait=False, cancel_futures=True)
        while self._thread.is_alive() and time.monotonic() < until:
            await asyncio.sleep(0.01)

    # --- how much waits ----------------------------------------------------------------------------------------------

    def _hold(self, more: int) -> None:
        self._held += more

    def _admit(self, num_tokens: int, *, own: int = 0) -> None:
        """Refusal where so many tokens more are too many; `own` are those of the request that are counted already."""
        size = num_tokens + own
        if size > self.max_queue_tokens:
            raise Refusal(
                "too_large",
                f"The request has about {size:,} tokens, and the queue holds {self.max_queue_tokens:,}: send fewer"
                " texts at once.",
            )
        others = self._held - own
        if others and others + size > self.max_queue_tokens:
            raise Refusal("full", "Model is overloaded: its queue is full.", retry_after=self._seconds_to_go())
        if num_tokens and self._tokens_per_second and others / self._tokens_per_second > self.timeout:
            raise Refusal(
                "full",
                f"Model is overloaded: it would not answer within {self.timeout:g} seconds.",
                retry_after=self._seconds_to_go(),
            )

    def _seconds_to_go(self) -> int:
        """About how long what waits takes."""
        seconds = self._held / self._tokens_per_second if self._tokens_per_second else 1
        return max(1, min(MAX_RETRY, math.ceil(seconds)))

    # --- threads -----------------------------------------------------------------------------------------------------

    def _encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        fields: tuple[pa.ChunkedArray, ...],
        cut: Cut | None,
    ) -> TokenStore:
        predictor = self.predictor
        require_pairs(
            predictor.card,
            pairs is not None,
            give="Send each as a pair: [text, second text].",
            leave_out="Send each text by itself.",
        )
        predictor.note_without(fields, len(texts))
        rows = RowTexts.given(texts, pairs, _nth_text, fields)
        try:
            return make_row_store(rows, self._encoder(cut)).whole()
        except DataError as error:
            if error.key != "tokens.max_length":
                raise
            raise Refusal(
                "too_large",
                f"`inputs` must have at most {predictor.card.max_length} tokens: {error.place}: {error.reason}. Send"
                " `truncate: true` to have it shortened.",
            ) from error

    def _encoder(self, cut: Cut | None) -> TextEncoder:
        predictor = self.predictor
        if predictor.encoder.windows:  # where a long text is read as a whole
            return predictor.encoder
        if cut not in self._encoders:
            truncate: Truncation = "error" if cut == "refuse" else cut or "head"
            section = predictor.card.tokens.model_copy(update={"truncate": truncate})
            self._encoders[cut] = TextEncoder(
                predictor.scorer.tokenizer, section, prefix=predictor.card.metadata, if_too_long=""
            )
        return self._encoders[cut]

    def _empty(self, lengths: np.ndarray) -> Scored:
        task, num = self.predictor.scorer.task, len(lengths)
        scores = {head.name: np.zeros(head.answers.score_shape(num)) for head in task.heads}
        return Scored(scores, np.zeros((num, task.num_outputs)), lengths)

    def _work(self) -> None:
        """Compute one batch after the other, until there will be no more."""
        while shares := self._waiting.take(self.batch_tokens):
            started = time.perf_counter()
            self._compute(shares)
            seconds = max(time.perf_counter() - started, 1e-6)
            num_tokens = sum(int(share.job.lengths[share.positions].sum()) for share in shares)
            for watcher in self._watchers:
                watcher.computed(self.name, num_tokens, seconds)
            if 2 * num_tokens < self.batch_tokens:
                continue  # a small batch, mostly what every batch costs, says little of how long a full queue takes
            now = num_tokens / seconds
            self._tokens_per_second = now if not self._tokens_per_second else 0.9 * self._tokens_per_second + 0.1 * now

    def _compute(self, shares: list[Share]) -> None:
        try:
            self._score(shares)
        except Exception as error:
            if len(shares) > 1:  # what one request has must not fail the others
                for share in shares:
                    self._compute([share])
                return
            [(job, _)] = shares
            if not job.is_gone:
                job.is_gone = True
                job.done.set_exception(error)

    def _score(self, shares: list[Share]) -> None:
        first = shares[0].job.store
        if len(shares) == 1:
            store, chosen = first, shares[0].positions
        else:
            store = join_stores([share.job.store for share in shares], names=tuple(first.columns))
            before = np.cumsum([0, *(share.job.store.num_examples for share in shares)])
            chosen = np.concatenate([share.positions + at for share, at in zip(shares, before[:-1], strict=True)])
        scores = self._empty(np.zeros(len(chosen), np.int64))
        scorer = self.predictor.scorer
        for batch in scorer.score_batches(store, chosen, budget=self._budget, place=_nth_text, outputs=True):
            for name, of_head in batch.scores.items():
                scores.scores[name][batch.positions] = of_head
            scores.outputs[batch.positions] = batch.outputs
        start = 0
        for job, positions in shares:
            part = slice(start, start + len(positions))
            start += len(positions)
            for name, of_head in job.result.scores.items():
                of_head[positions] = scores.scores[name][part]
            job.result.outputs[positions] = scores.outputs[part]
            job.num_left -= len(positions)
            if not job.num_left and not job.is_gone:
                job.done.set_result(job.result)
