"""Errors that a person can mend: one line that says what is wrong, where, and what to do."""


class InputError(Exception):
    """Bad input: a config value, a file of another run, a full disk, a diverging loss."""


class DamagedFileError(InputError):
    """A file that is truncated or not of the expected kind."""


class UnreadableFileError(InputError):
    """A file that is there and cannot be opened now: for want of permission, of a free handle, of a server, or since
    another program locks it. Nothing is known against its content."""
