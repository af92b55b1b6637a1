"""Groups of commands, whose help is whole on any terminal."""

import click

LONGEST = 1000
"""Characters of a command's first sentence, of which none is cut off."""


class Group(click.Group):
    """A group whose summaries wrap where a terminal is narrow; click's own are cut off there."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Click's own way to ask for it."""
        rows = [(name, self.commands[name].get_short_help_str(LONGEST)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
