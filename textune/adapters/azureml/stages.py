"""The inputs of the stages around `text_classification_finetune`, as `inputs.py` has those of the component itself."""

from __future__ import annotations

from textune.adapters.azureml.inputs import SWITCH, Input

OUTPUT = Input("output_dir", "uri_folder", None, "The folder to write.", optional=False)
"""What AzureML mounts for a stage to write into."""

_SETS = (("train", "Training rows"), ("validation", "Validation rows"), ("test", "Test rows"))
_DATA = (
    *(
        Input(f"{name}_file_path", "uri_file", None, f"{what}: a jsonl, json, csv, tsv or parquet file.")
        for name, what in _SETS
    ),
    *(
        Input(
            f"{name}_mltable_path", "mltable", None, f"{what}: a folder with a manifest MLTable; it wins over a file."
        )
        for name, what in _SETS
    ),
)
MODEL_IMPORT: dict[str, Input] = {
    one.name: one
    for one in (
        Input("huggingface_id", "string", None, "A model on the hub, or a folder of one."),
        Input("pytorch_model_path", "custom_model", None, "A pytorch_model_folder of an earlier fine-tuning."),
        Input("mlflow_model_path", "mlflow_model", None, "An MLflow model."),
        Input("validation_output", "uri_folder", None, "Output of the validation stage, which holds nothing to read."),
        OUTPUT,
    )
}
"""`text_classification_model_import`."""
PREPROCESS: dict[str, Input] = {
    one.name: one
    for one in (
        Input(
            "task_name",
            "string",
            "SingleLabelClassification",
            "The task.",
            ("SingleLabelClassification",),
            instead={"MultiLabelClassification": 'Set task.kind = "multilabel" in a textune config.'},
        ),
        Input("sentence1_key", "string", None, "Column of the text.", optional=False),
        Input("sentence2_key", "string", None, "Column of the second text of each pair."),
        Input("label_key", "string", None, "Column of the label.", optional=False),
        Input("batch_size", "integer", 1000, "Rows tokenised at once.", minimum=1),
        Input("pad_to_max_length", "string", "false", "Pad every row to max_seq_length.", SWITCH),
        Input("max_seq_length", "integer", -1, "Longest row in tokens; -1 is what the model takes.", minimum=-1),
        *_DATA,
        Input(
            "model_selector_output",
            "uri_folder",
            None,
            "Output of text_classification_model_import: its tokenizer is used.",
            optional=False,
        ),
        OUTPUT,
    )
}
"""`text_classification_preprocess`."""
CONVERT: dict[str, Input] = {
    one.name: one
    for one in (
        Input(
            "pytorch_model_folder",
            "uri_folder",
            None,
            "Output of text_classification_finetune: the model.",
            optional=False,
        ),
        Input("mlflow_model_folder", "mlflow_model", None, "The folder to write.", optional=False),
    )
}
"""`text_classification_convert`."""

_STAGES = ("model_import", "preprocess", "finetune", "model_evaluation")
PIPELINE: dict[str, Input] = {
    one.name: one
    for one in (
        *(Input(f"compute_{name}", "string", "serverless", f"Cluster that runs {name}.") for name in _STAGES),
        *(
            Input(f"instance_type_{name}", "string", machine, f"Machine that runs {name}.")
            for name, machine in zip(_STAGES, ["Standard_d12_v2"] * 2 + ["Standard_nc24rs_v3"] * 2, strict=True)
        ),
        Input("shm_size_finetune", "string", "5g", "Shared memory of the fine-tuning."),
        Input("num_nodes_finetune", "integer", 1, "Machines of the fine-tuning.", minimum=1),
        Input("number_of_gpu_to_use_finetuning", "integer", 1, "GPUs of each of them.", minimum=1),
    )
}
"""What only `text_classification_pipeline` takes: where its stages run."""
