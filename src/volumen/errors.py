"""The exceptions for mistakes the user can mend.

A `UserError` is printed without a traceback and ends the command with exit code 2. Its text says what is wrong, where,
what was expected and found, and how to fix it. Everything else is a failure of ours or of the machine: exit code 1.
"""

EXIT_FAILURE = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 75  # sysexits' EX_TEMPFAIL: state was saved, running again with --resume goes on


class UserError(Exception):
    """A mistake in input, configuration or command that the user can mend; the message says how."""


class DamagedError(UserError):
    """A record is not what was written; the message names the file and the way out."""
