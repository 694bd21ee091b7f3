"""Ten thousand NIfTI files that were changed at random: each is read, or refused with a code that is known."""

import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.corpus.nifti_mutations import outcomes, prepare_process

COUNT, BATCH = 10_000, 500
CODES = {
    "affine_invalid", "affine_sheared", "bad_scaling", "decompressed_too_large", "dimension_not_supported",
    "dtype_not_supported", "empty_file", "gzip_corrupt", "gzip_trailing_data", "nifti_bad_dims", "nifti_bad_extension",
    "nifti_bad_offset", "nifti_header_inconsistent", "nifti_size_mismatch", "nifti_truncated_header", "non_finite_voxels",
    "unsupported_format", "value_range", "volume_too_large",
}  # fmt: skip


def test_no_mutation_ends_a_process_or_says_what_isnt_known(tmp_path):
    batches = [range(start, start + BATCH) for start in range(0, COUNT, BATCH)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, initializer=prepare_process) as processes:  # a death breaks the pool, and the test
        found = sum(processes.map(partial(outcomes, tmp_path), batches), Counter())
    assert found.total() == COUNT
    assert set(found) <= CODES | {"read"}
    assert found["read"] > COUNT / 20
    assert len(found) > len(CODES) - 4  # the mutations reach nearly all of them
