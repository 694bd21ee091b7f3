"""Errors survive the way from the engine's process to the gateway's."""

import errno
import json

import pytest

from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from service.engine.errors import Cancelled, EngineFailed, ModelGone, OutOfMemory, decode_error, encode_error


class OddTiff(BrokenImage):
    """A more special error than the table has."""


@pytest.mark.parametrize("kind", [DataError, BrokenImage, UnsuitableImage, UnsupportedFormat])
def test_an_error_of_an_image_keeps_its_class_code_and_message(kind: type[DataError]) -> None:
    error = decode_error(json.loads(json.dumps(encode_error(kind("image_odd", "the image is odd")))))
    assert (type(error), error.args) == (kind, ("image_odd", "the image is odd"))


def test_an_image_that_is_too_large_keeps_the_limit() -> None:
    error = decode_error(encode_error(ImageTooLarge("image_too_large", "too large", 10)))
    assert isinstance(error, ImageTooLarge)
    assert (error.code, error.message, error.limit) == ("image_too_large", "too large", 10)


def test_a_class_that_the_table_lacks_travels_as_the_one_it_derives_from() -> None:
    assert type(decode_error(encode_error(OddTiff("image_odd", "odd")))) is BrokenImage


@pytest.mark.parametrize(
    ("error", "kind"),
    [(Cancelled(), Cancelled), (ModelGone(), ModelGone), (MemoryError(), OutOfMemory), (ValueError("/secret"), EngineFailed)],
)
def test_an_error_of_the_engine_has_no_text(error: Exception, kind: type[Exception]) -> None:
    message = encode_error(error)
    assert message == {"kind": kind.__name__}
    assert type(decode_error(message)) is kind


def test_an_error_of_the_system_keeps_its_number_alone() -> None:
    error = decode_error(encode_error(OSError(errno.ENOSPC, "no space", "/secret")))
    assert isinstance(error, OSError)
    assert (error.errno, error.filename) == (errno.ENOSPC, None)


@pytest.mark.parametrize("kind", ["Path", "SystemExit", ""])
def test_no_other_class_is_made(kind: str) -> None:
    assert type(decode_error({"kind": kind})) is EngineFailed
