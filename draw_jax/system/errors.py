"""Errors as a user sees them: in one line."""


class UserError(RuntimeError):
    """What went wrong, in words for the user; the program tells it and ends with exit code 1."""


def in_a_line(error: BaseException, most: int = 200) -> str:
    """Returns what an error of a library says, in one line; its kind where it says nothing.

    Args:
        error: of any kind.
        most: characters.
    """
    return " ".join(str(error).split())[:most] or type(error).__name__
