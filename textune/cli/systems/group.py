"""The verb `convert`: one command for each system that has one."""

from __future__ import annotations

import click

from textune.cli.systems.table import SYSTEMS
from textune.cli.verbs import GroupExamples


class _Systems(GroupExamples):
    """Knows the systems of the table, and imports the module of the one that is asked for."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        system = SYSTEMS.get(cmd_name)
        return system.command(system.convert) if system is not None and system.convert else None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, system in SYSTEMS.items() if system.convert]


@click.group(
    cls=_Systems,
    short_help="Turn another system's configuration into one of textune.",
    examples="textune convert bsmetadata --config v2.yaml --deepspeed v2.json --prefer deepspeed --out v2.toml",
)
def convert() -> None:
    """Turn another system's configuration into one of textune, every line with what it was made of."""
