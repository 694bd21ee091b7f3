"""Random changes of files' bytes, most of them in the header."""

import random
import struct
from math import inf, nan

_HEADER_BYTES = 1500
_NUMBERS = [
    *(
        struct.pack(order + form, value)
        for order in "<>"
        for form in "hiq"
        for value in (0, 1, -1, 2, 255, 4096, -32768, 32767)
    ),
    *(struct.pack(order + form, value) for order in "<>" for form in "fd" for value in (0.0, -1.0, nan, inf, 1e-30, 1e30)),
]


def mutation(contents: list[bytes], seed: int) -> bytes:
    """Return one of the contents with one to four changes."""
    chance = random.Random(seed)  # noqa: S311
    content = chance.choice(contents)
    for _ in range(chance.randint(1, 4)):
        content = _changed(content, chance)
    return content


def _changed(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(min(len(content), _HEADER_BYTES) if chance.random() < 0.8 else len(content)) if content else 0
    length = chance.choice([1, 2, 4, 8, 16, 100])
    before, here, after = content[:start], content[start : start + length], content[start + length :]
    match chance.choice(["bit", "bit", "number", "number", "number", "noise", "cut", "insert", "end", "double"]):
        case "bit":
            return before + bytes([here[0] ^ (1 << chance.randrange(8))]) + here[1:] + after if here else content
        case "number":
            number = chance.choice(_NUMBERS)
            start -= start % 2
            return content[:start] + number + content[start + len(number) :]
        case "noise":
            return before + chance.randbytes(len(here)) + after
        case "cut":
            return before + after
        case "insert":
            return before + chance.randbytes(length) + here + after
        case "end":
            return before
    return before + here + here + after
