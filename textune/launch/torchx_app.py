"""The application of torchrecipes for TorchX: `torchx run -s local_cwd textune/launch/torchx_app.py:torchx_app ...`.

It has the signature of the `torchx_app.py` that users of torchrecipes write: every word after it is one of Hydra's.
TorchX parses the source of this file, so its annotations are not postponed.
"""

import os
import sys

from torchx import specs

DOC_CLASSIFICATION = ("--config-name", "train_app", "--config-path", "torchrecipes/text/doc_classification/conf")


def torchx_app(image: str = "", *job_args: str) -> specs.AppDef:
    """Fine-tune XLM-R on SST-2 as torchrecipes does, with textune.

    Args:
        image: container image, if the scheduler runs containers
        job_args: Hydra's words, such as trainer=multi_gpu trainer.gpus=2 +tb_save_dir=/tmp/
    """
    return specs.AppDef(
        name="textune",
        roles=[
            specs.Role(
                name="textune",
                image=image or os.getcwd(),
                entrypoint="python" if image else sys.executable,
                args=["-m", "textune", *DOC_CLASSIFICATION, *job_args],
                env={"CONFIG_MODULE": "torchrecipes.text.doc_classification.conf", "MODE": "prod"},
            )
        ],
    )
