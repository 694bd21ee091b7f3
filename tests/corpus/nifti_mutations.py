"""Valid NIfTI files with random changes, and the results of reading them; batches run in separate processes."""

import gzip
import random
import resource
import struct
import warnings
from collections import Counter
from dataclasses import replace
from math import inf, nan
from pathlib import Path

import numpy as np

from imaging.errors import DataError
from imaging.guards import UPLOAD
from imaging.open import open_image
from tests.corpus.nifti_bytes import extension, nifti

_SOUND = [
    nifti(),
    nifti(order=">", datatype=16),
    nifti(version=2, datatype=64),
    nifti(version=2, order=">", datatype=512),
    nifti(datatype=1024, scl_slope=0.5, scl_inter=-3),
    nifti(sform_code=0, qform_code=1, quatern=(0, 0, 1), qoffset=(3, 4, 5)),
    nifti(extensions=b"\1\0\0\0" + extension(32) + extension(64)),
    nifti(dim=(4, 5, 6, 7, 1, 1, 1, 1), datatype=2),
]
_NUMBERS = [
    *(
        struct.pack(order + form, value)
        for order in "<>"
        for form in "hiq"
        for value in (0, 1, -1, 2, 255, 4096, -32768, 32767)
    ),
    *(struct.pack(order + form, value) for order in "<>" for form in "fd" for value in (0.0, -1.0, nan, inf, 1e-30, 1e30)),
]
_HEADER_BYTES = 560


def prepare_process() -> None:
    """Limit the memory as in a reader's process, and turn warnings into errors."""
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_AS, (UPLOAD.process_memory_bytes, UPLOAD.process_memory_bytes))


def outcomes(folder: Path, seeds: range) -> Counter[str]:
    """Return how many mutations of these seeds were read or refused, by code; errors other than DataError are raised."""
    found: Counter[str] = Counter()
    path = folder / f"{seeds.start}"
    for seed in seeds:
        path.unlink(missing_ok=True)  # writing over a file waits for the disk
        path.write_bytes(mutation(seed))
        try:
            with open_image(path, guards=replace(UPLOAD, isolated=False)) as source:
                for block in source.blocks():
                    if not np.isfinite(block).all():
                        raise ValueError(f"seed {seed} gives voxels that aren't finite")
            found["read"] += 1
        except DataError as error:
            found[error.code] += 1
    return found


def mutation(seed: int) -> bytes:
    """Return a valid file, compressed or not, with one to four changes before or after compression."""
    chance = random.Random(seed)
    content = chance.choice(_SOUND)
    packed = chance.choice(["not", "before", "after", "after"])
    if packed == "before":
        content = gzip.compress(content, 1)
    for _ in range(chance.randint(1, 4)):
        content = _changed(content, chance)
    return gzip.compress(content, 1) if packed == "after" else content


def _changed(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(min(len(content), _HEADER_BYTES) if chance.random() < 0.8 else len(content)) if content else 0
    length = chance.choice([1, 2, 4, 8, 16, 100])
    before, here, after = content[:place], content[place : place + length], content[place + length :]
    match chance.choice(["bit", "number", "number", "number", "noise", "cut", "insert", "end", "double"]):
        case "bit":
            return before + bytes([here[0] ^ (1 << chance.randrange(8))]) + here[1:] + after if here else content
        case "number":
            number = chance.choice(_NUMBERS)
            place -= place % 4
            return content[:place] + number + content[place + len(number) :]
        case "noise":
            return before + chance.randbytes(len(here)) + after
        case "cut":
            return before + after
        case "insert":
            return before + chance.randbytes(length) + here + after
        case "end":
            return before
    return before + here + here + after
