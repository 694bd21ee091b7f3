"""Fuzz Overtile's readers, and compare them with nibabel, tifffile and pydicom on files with odd headers.

    PYTHONPATH=. .venv/bin/python benchmarks/reader_parity.py [--fuzz 10000] [--odd 500]

Fuzzing: files with random changes are opened and read as uploads are, each in a process of its own. The command ends with 1
if a batch's process dies, or a file leads to an exception other than `DataError` or to a code that docs/accepted.md doesn't
name. Odd files: headers that are legal or that the reference reader tolerates. The command ends with 1 if pixels differ, or
if a file is refused that the reference reads and no rule of docs/accepted.md explains it.
"""

import argparse
import logging
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import odd_dicom
import odd_nifti
import odd_tiff
from file_mutations import mutation
from odd_files import DIFFERENT, Format, Pixels, are_equal

from imaging.errors import DataError
from imaging.guards import LOCAL, UPLOAD, Guards
from imaging.open import open_image
from imaging.remarks import REMARKS

FORMATS: dict[str, Format] = {"NIfTI": odd_nifti.FORMAT, "TIFF": odd_tiff.FORMAT, "DICOM": odd_dicom.FORMAT}
BATCH = 500
SOUND_FILES = 60  # from which the mutations are made
PAGE = Path("docs/accepted.md")


def main() -> None:
    """Print the tables of both parts; exit with 1 if something is unexplained."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fuzz", type=int, default=10_000, help="mutated files of each format")
    parser.add_argument("--odd", type=int, default=500, help="odd files of each format that the reference reads")
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=list(FORMATS))
    arguments = parser.parse_args()
    logging.disable()  # nibabel and tifffile log what they repair
    problems: list[str] = []
    if arguments.odd:
        problems += [problem for name in arguments.formats for problem in compare(name, arguments.odd)]
    if arguments.fuzz:
        problems += [problem for name in arguments.formats for problem in fuzz(name, arguments.fuzz)]
    print("\n".join(problems) if problems else "nothing unexplained")
    sys.exit(bool(problems))


def fuzz(name: str, count: int) -> list[str]:
    """Print what the mutated files of one format come to, and return the problems."""
    start = time.monotonic()
    batches = [range(first, min(first + BATCH, count)) for first in range(0, count, BATCH)]
    with tempfile.TemporaryDirectory() as folder:
        contents = _sound_contents(FORMATS[name], Path(folder))
        with ProcessPoolExecutor(2, get_context("spawn")) as processes:  # a death breaks the pool
            results = list(processes.map(partial(_read_mutations, Path(folder), contents), batches))
    outcomes = sum((codes for codes, _ in results), Counter[str]())
    problems = [problem for _, batch in results for problem in batch]
    problems += [f"{name}: the code {code} is not in {PAGE}" for code in outcomes if code != "read" and code not in _codes()]
    print(
        f"\n{name}: {outcomes.total()} mutated files in {time.monotonic() - start:.0f} s\n\n| outcome | files |\n| --- | ---: |"
    )
    for code, files in outcomes.most_common():
        print(f"| {code if code == 'read' else f'`{code}`'} | {files} |")
    return problems


def compare(name: str, count: int) -> list[str]:
    """Print how Overtile reads the odd files of one format that the reference reads, and return the problems."""
    form = FORMATS[name]
    outcomes, remarks, problems = Counter[str](), Counter[str](), []
    explained: Counter[tuple[str, str]] = Counter()
    seed = generated = 0
    with tempfile.TemporaryDirectory() as folder:
        while outcomes.total() < count:
            file = form.write(Path(folder), seed)
            seed, generated = seed + 1, generated + 1
            reference = _reference_pixels(form, file.path)
            if reference is None:
                continue
            try:
                pixels, codes = _overtile_pixels(file.path, LOCAL)
            except DataError as error:
                outcomes[error.code] += 1
                causes = [oddity for oddity, refusals in file.oddities.items() if error.code in refusals]
                explained.update((error.code, cause) for cause in causes[:1])
                if not causes:
                    problems.append(f"{name} {file.path.name}: {error.code} is not explained by {file.oddities}")
                continue
            remarks.update(codes)
            causes = [oddity for oddity, refusals in file.oddities.items() if DIFFERENT in refusals]
            if are_equal(pixels, reference):
                outcomes["equal"] += 1
            else:
                outcomes["different"] += 1
                explained.update((DIFFERENT, cause) for cause in causes[:1])
                if not causes:
                    problems.append(f"{name} {file.path.name}: {_difference(pixels, reference)}, {list(file.oddities)}")
            problems += [f"{name} {file.path.name}: the remark {code} is unknown" for code in codes if code not in REMARKS]
    print(f"\n{name}: {count} files that {form.reference} reads, of {generated} generated; with remarks: {_listed(remarks)}\n")
    print(f"| outcome | files |\n| --- | ---: |\n| equal pixels | {outcomes['equal']} |")
    for (code, cause), files in sorted(explained.items()):
        print(f"| {'different pixels' if code == DIFFERENT else f'refused, `{code}`'}: {cause} | {files} |")
    codes_on_page = _codes() | {DIFFERENT}
    problems += sorted({f"{name}: the code {code} is not in {PAGE}" for code, _ in explained if code not in codes_on_page})
    return problems


def _sound_contents(form: Format, folder: Path) -> list[bytes]:
    """Return the bytes of files that Overtile reads."""
    contents: list[bytes] = []
    seed = 0
    while len(contents) < SOUND_FILES:
        file = form.write(folder, seed)
        seed += 1
        try:
            _overtile_pixels(file.path, LOCAL)
        except DataError:
            continue
        contents.append(file.path.read_bytes())
    return contents


def _read_mutations(folder: Path, contents: list[bytes], seeds: range) -> tuple[Counter[str], list[str]]:
    """Return how many mutations of these seeds were read or refused, by code, and the problems."""
    outcomes, problems = Counter[str](), []
    path = folder / f"batch{seeds.start}"
    for seed in seeds:
        path.unlink(missing_ok=True)  # writing over a file waits for the disk
        path.write_bytes(mutation(contents, seed))
        try:
            pixels, _ = _overtile_pixels(path, UPLOAD)
            outcomes["read"] += 1
            if not np.isfinite(pixels).all():
                problems.append(f"mutation {seed} gives pixels that aren't finite")
        except DataError as error:
            outcomes[error.code] += 1
        except Exception as error:  # noqa: BLE001  (reported)
            problems.append(f"mutation {seed} raises {type(error).__name__}")
    return outcomes, problems


def _overtile_pixels(path: Path, guards: Guards) -> tuple[Pixels, tuple[str, ...]]:
    with open_image(path, guards=guards) as source:
        pixels = np.concatenate(list(source.blocks()), axis=1)  # (C, *S)
        return pixels, source.file_warnings


def _reference_pixels(form: Format, path: Path) -> Pixels | None:
    """Return the reference's pixels; None where it raises an error."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return form.read(path)
        except Exception:  # noqa: BLE001  (such files are not compared)
            return None


def _difference(pixels: Pixels, reference: Pixels) -> str:
    sides = (f"{side.shape} {side.dtype} {side.ravel()[:4]}" for side in (pixels, reference))
    return " against ".join(sides)


def _codes() -> set[str]:
    """Return the codes that the page names."""
    return set(re.findall(r"`([a-z0-9_]+)`", PAGE.read_text()))


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"`{code}` {files}" for code, files in counts.most_common()) or "none"


if __name__ == "__main__":
    main()
