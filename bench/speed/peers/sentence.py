"""Worker: `SentenceTransformer.encode`, which sorts by length itself; embeddings instead of labels, from the same backbone."""

from __future__ import annotations

import time

import torch

from bench.speed.peers.precision import device_memory, resolve, wait_for
from bench.speed.protocol import Channel, Skip


def main() -> None:
    """Encode the texts of each command."""
    with Channel() as channel:
        spec = channel.receive()
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise Skip("sentence-transformers is not installed: pip install sentence-transformers") from None
        precision = resolve("best", spec["device"])
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        model = SentenceTransformer(spec["backbone"], device=spec["device"], model_kwargs={"dtype": dtype})
        model.max_seq_length = spec["max_length"]
        channel.reply(threads=torch.get_num_threads(), precision=precision)
        for command in channel:
            started = time.perf_counter()
            model.encode(command["texts"], batch_size=command["batch_size"], show_progress_bar=False, convert_to_tensor=True)
            wait_for(spec["device"])
            channel.reply(seconds=time.perf_counter() - started)
        channel.extra = device_memory(spec["device"])


if __name__ == "__main__":
    main()
