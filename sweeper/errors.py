"""Errors that are the user's to mend, as opposed to faults of the program."""


class UserError(ValueError):
    """Bad input, said in one line that names the key, the value and what is allowed.

    The command line prints the message alone and exits with code 2.
    """


class StoreError(UserError):
    """The store cannot be read or written now: no fault of what was to be kept there."""


def lines_of(error: BaseException) -> list[str]:
    """What an error says, without blank lines; its type where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines or [type(error).__name__]


def first_line(error: BaseException) -> str:
    """The gist of a message that goes on with details, as those of Arrow, DuckDB and YAML do."""
    return lines_of(error)[0]
