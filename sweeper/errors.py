"""Errors that are the user's to mend, as opposed to faults of the program."""


class UserError(ValueError):
    """Bad input, said in one line that names the key, the value and what is allowed.

    The command line prints the message alone and exits with code 2.
    """


class StoreError(UserError):
    """The store cannot be read or written now: no fault of what was to be kept there."""
