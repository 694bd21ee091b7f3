"""Errors come whole through a process's pipe."""

import pickle

import pytest

from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage


@pytest.mark.parametrize(
    "error",
    [DataError("a", "what to do"), BrokenImage("b", "x"), UnsuitableImage("c", "y"), ImageTooLarge("d", "z", 7)],
    ids=lambda error: type(error).__name__,
)
def test_survives_pickle(error: DataError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is type(error)
    assert (copy.code, copy.message, str(copy)) == (error.code, error.message, error.message)
    assert getattr(copy, "limit", None) == getattr(error, "limit", None)
