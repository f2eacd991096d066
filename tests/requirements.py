"""What a test does where something that it needs is missing."""

import os
from typing import NoReturn

import pytest


def unavailable(reason: str) -> NoReturn:
    """Skip a test that cannot run here; where everything must be tested (ABRUPT_REQUIRE_ALL=1), fail instead."""
    if os.environ.get("ABRUPT_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
