"""The commands of training-wizard: the one that trains, and those beside it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from textune.cli.options import json_option
from textune.cli.output import print_json
from textune.cli.systems.shared import (
    Training,
    converting,
    print_converted,
    processes_option,
    train_foreign,
    training,
)
from textune.cli.verbs import Examples
from textune.errors import ConfigError
from textune.imports import importing


@click.command(
    "training-wizard",
    cls=Examples,
    short_help="training-wizard's TOML or JSON file.",
    examples="textune convert training-wizard examples/sequence_classification/config.toml --out config.toml",
)
@click.argument("file", metavar="FILE")
@processes_option
@converting
def convert_training_wizard(file: str, processes: int | None, out: str | None, as_json: bool) -> None:
    """Turn a file of training-wizard's specs into a config of textune, every line with what it was made of."""
    from textune.adapters import convert_training_wizard as convert_file

    print_converted(convert_file(Path(file), processes=processes), out=out, as_json=as_json)


@click.command(
    "training-wizard",
    cls=Examples,
    hidden=True,
    examples="textune training-wizard examples/sequence_classification/config.toml\n"
    "accelerate launch -m textune training_wizard examples/sequence_classification/config.toml",
)
@click.argument("file", metavar="FILE")
@processes_option
@training
@click.pass_context
def train_as_training_wizard(
    context: click.Context,
    /,
    file: str,
    processes: int | None,
    how: Training,
) -> None:
    """Train what training-wizard trains with this file; output_dir becomes the run folder.

    The folder holds final_checkpoint, reproducibility and run.log as there, and the config of textune, in which every
    value has the key that it comes from. A run that was stopped resumes with --resume.
    """
    from textune.adapters import convert_training_wizard as convert_file

    foreign = convert_file(Path(file), processes=how.num_processes(processes))
    train_foreign(foreign, context, how)


@click.command(
    "generator",
    cls=Examples,
    hidden=True,
    examples="textune generator grid.toml",
)
@click.argument("file", metavar="FILE")
@json_option
def generator(file: str, as_json: bool) -> None:
    """Write a file of specs for each experiment and stage of a grid, and print the command that trains them all."""
    from textune.adapters import read_grid
    from textune.pipeline import write_grid

    grid = read_grid(Path(file))
    write_grid(grid)
    if as_json:
        print_json({"files": [str(path) for path in grid.files], "command": grid.command})
    else:
        click.echo(grid.command)


@click.command(
    "count-parameters",
    cls=Examples,
    hidden=True,
    examples="textune count-parameters google-bert/bert-base-uncased -H",
)
@click.argument("model")
@click.option("-H", "--human-readable", is_flag=True, help="Such as 110M.")
def count_parameters(model: str, human_readable: bool) -> None:
    """Print how many parameters a backbone has, without a head; no weights are read."""
    with importing(for_good=True):
        from textune.pipeline import num_parameters
    number = num_parameters(model)
    click.echo(_short(number) if human_readable else number)


def _short(number: int) -> str:
    """With k, M, B or T; below ten of these with one digit behind the point."""
    power, letter = next(
        ((power, letter) for power, letter in ((12, "T"), (9, "B"), (6, "M"), (3, "k")) if number > 10**power), (0, "")
    )
    value = number / 10**power
    return (f"{value:.0f}" if value > 10 else f"{value:.1f}".removesuffix(".0")) + letter


@click.command(
    "lora-info",
    cls=Examples,
    hidden=True,
    examples="textune lora-info google-bert/bert-base-uncased --target_modules query value",
)
@click.argument("model")
@click.option(
    "--type",
    "kind",
    type=click.Choice(["sequence-classification", "causal", "seq2seq"]),
    help="The head that the model has meanwhile; by default none.",
)
@click.option(
    "--target_modules", multiple=True, metavar="NAME", help="Targets: last parts of names, by default all of them."
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def lora_info(
    model: str, kind: str | None, target_modules: tuple[str, ...], names: tuple[str, ...], as_json: bool
) -> None:
    """Print which linear layers a model has, and how much of it adapters stand beside; no weights are read."""
    with importing(for_good=True):
        from textune.pipeline import linear_layers
    found = linear_layers(model, (*target_modules, *names), kind=kind or "")
    if as_json:
        print_json(
            {
                "possible": list(found.possible),
                "targets": list(found.targets),
                "parameters": found.parameters,
                "in_targets": found.in_targets,
                "share": found.share,
                "share_of_possible": found.share_of_possible,
                "shapes": [{"shape": list(shape), "count": number} for shape, number in found.shapes],
            }
        )
        return
    click.echo(f"All possible target modules: {', '.join(found.possible)}")
    click.echo(f"Current target modules: {', '.join(found.targets)}")
    click.echo(f"Number of parameters in all modules: {found.parameters:,}")
    click.echo(f"Number of parameters in target modules: {found.in_targets:,}")
    click.echo(f"Percentage to all model parameters: {found.share:.2%}")
    click.echo(f"Percentage to all adaptable parameters: {found.share_of_possible:.2%}")
    click.echo("Shapes of matrices in target modules:")
    for (outputs, inputs), number in found.shapes:
        click.echo(f"  {outputs} x {inputs}: {number}")


@click.command("find-all-linear-names", cls=Examples, hidden=True, examples="textune find-all-linear-names gpt2")
@click.argument("model")
@click.option(
    "--auto_type", type=click.Choice(["simple", "causal", "seq2seq"]), default="simple", help="The head, if any."
)
@click.option("--load_4bit", hidden=True, help="Not used: no weights are read.")
def find_all_linear_names(model: str, auto_type: str, load_4bit: str | None) -> None:
    """Print the last parts of the names of a model's linear layers, as a list."""
    with importing(for_good=True):
        from textune.pipeline import linear_layers
    found = linear_layers(model, kind="" if auto_type == "simple" else auto_type)
    click.echo("Linear Names:")
    click.echo(json.dumps(list(found.possible), allow_nan=False))


@click.command(
    "merge-adapter-main-models",
    cls=Examples,
    hidden=True,
    examples="textune merge-adapter-main-models runs/lora/final_checkpoint google-bert/bert-base-uncased -m merged",
)
@click.argument("adapter")
@click.argument("base")
@click.option("-m", "--merged_model_path", metavar="FOLDER", help="By default ADAPTER_merged.")
def merge_adapter_main_models(adapter: str, base: str, merged_model_path: str | None) -> None:
    """Write the model that adapters and the model beneath make together, as a plain Hugging Face folder in fp32."""
    with importing(for_good=True):
        from textune.exports import merge_adapters
    click.echo(f"Wrote {merge_adapters(adapter, base, merged_model_path)}.")


@click.command("train-tokenizer", cls=Examples, hidden=True, examples="textune train-tokenizer tokenizer.toml")
@click.argument("file", metavar="FILE")
def train_tokenizer(file: str) -> None:
    """Refuse, and say what to do instead: a tokenizer belongs to its pretrained model."""
    raise ConfigError(
        f"train-tokenizer {file}: textune trains no tokenizers; it takes the one that is saved beside a model.",
        hint="Train it with training-wizard or the tokenizers library, save it beside the model, and name that folder"
        " in pretrained_name.",
        key="train-tokenizer",
        value=file,
    )
