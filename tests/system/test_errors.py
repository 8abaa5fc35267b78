import pytest

from draw_jax.system.errors import in_a_line


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("two\nlines  and\ttabs"), "two lines and tabs"),
        (EOFError(), "EOFError"),
        (OSError(" \n"), "OSError"),
        (ValueError("x" * 300), "x" * 200),
    ],
)
def test_an_error_is_one_line_that_says_something(error, told):
    assert in_a_line(error) == told


def test_of_as_many_characters_as_asked_for():
    assert in_a_line(ValueError("abcdef"), 3) == "abc"
