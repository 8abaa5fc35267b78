import os
from unittest import mock

import pytest


@pytest.fixture(autouse=True)
def environment():
    """Gives back the variables that campaigns set for the programs that they begin."""
    with mock.patch.dict(os.environ):
        yield
