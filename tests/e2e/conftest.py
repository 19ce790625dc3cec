"""A copy of this clone for these tests: see labs.py."""

from labs import pytest_configure  # noqa: F401 - pytest finds it here
