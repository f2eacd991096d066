"""Errors that a person can mend: one line that says what is wrong, where, and what to do."""


class InputError(Exception):
    """Bad input: a config value, a file of another run, a full disk, a diverging loss."""


class DamagedFileError(InputError):
    """A file that is truncated or not of the expected kind."""
