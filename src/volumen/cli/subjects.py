"""Commands of the form [SUBJECT] WHAT, where options may stand anywhere, before the subject as well."""

from typing import Any, ClassVar

from typer.core import TyperGroup


class Subjects(TyperGroup):
    """A group in which one subject is meant where none is named."""

    usual: ClassVar[str] = ""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the subject first, the usual one where none is named."""
        if args and args != ["--help"]:
            options = [
                one for command in self.commands.values() for one in command.params if one.param_type_name == "option"
            ]
            valued = {name for one in options if not getattr(one, "is_flag", False) for name in one.opts}
            words = (
                at for at, word in enumerate(args) if not word.startswith("-") and args[max(at - 1, 0)] not in valued
            )
            at = next(words, None)
            subject = self.usual
            if at is not None and args[at] in self.commands:
                subject, args = args[at], args[:at] + args[at + 1 :]
            args = [subject, *args]
        return super().parse_args(ctx, args)
