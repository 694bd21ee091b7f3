"""Ten thousand TIFFs with wrong bytes: nothing but known errors, from processes that end as they should."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus.tiff_bytes import APERIO, ome, page, pyramid, tiff
from tests.corpus.tiff_files import ROWS

MUTATIONS = 2000  # a batch
CODES = {row.code for row in ROWS} | {"slide_broken", None}
SEEDS = {
    "strips": lambda: tiff([page(tile=None)]),
    "tiles": lambda: tiff([page()], order=">"),
    "pyramid": pyramid,
    "aperio": lambda: pyramid(vendor=APERIO),
    "ome": lambda: tiff([page(t_270=("s", ome()))], big=True),
}


def mutated(seed, whole):
    """A sound file, some of its bytes changed: half of the time near its start, where the first directory lies."""
    luck = random.Random(seed)
    content = bytearray(whole)
    for _ in range(luck.choice((1, 1, 2, 4, 16))):
        place = luck.randrange(min(len(content), 400) if luck.random() < 0.5 else len(content))
        content[place] = luck.choice((0, 1, 255, luck.randrange(256), content[place] ^ (1 << luck.randrange(8))))
    if luck.random() < 0.05:
        del content[luck.randrange(len(content)) :]
    return bytes(content)


def read_batch(folder, name, start):
    """What a batch comes to, code by code; runs in a process of its own."""
    from imaging.errors import DataError
    from imaging.guards import Guards
    from imaging.open import open_image

    found = {}
    whole = SEEDS[name]()
    for seed in range(start, start + MUTATIONS):
        path = Path(folder) / "mutated"
        path.write_bytes(mutated(seed, whole))
        try:
            with open_image(path, guards=Guards(isolated=False, max_pixels=10**6)) as source:
                source.read(tuple(slice(0, min(size, 64)) for size in source.shape))
            code = None
        except DataError as error:
            code = error.code
        found[str(code)] = found.get(str(code), 0) + 1
    sys.stdout.write(json.dumps(found))


@pytest.mark.parametrize("name", SEEDS)
def test_mutations_are_read_or_refused_with_a_known_code(tmp_path, name):
    batch = str(tmp_path), name, list(SEEDS).index(name) * MUTATIONS
    call = f"from tests.imaging.tiff.test_fuzz_tiff import read_batch; read_batch{batch}"
    root = Path(__file__).parents[3]
    run = subprocess.run([sys.executable, "-c", call], cwd=root, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout)
    assert sum(found.values()) == MUTATIONS
    assert set(found) <= {str(code) for code in CODES}
    assert len(found) > 5  # the mutations meet many checks
