"""The one kind of error that a user is told in a line."""


class UserError(RuntimeError):
    """What went wrong, in words for the user; the program tells it and ends with exit code 1."""
