"""nnU-Net's predictor with a network of ours, in nnU-Net's environment; benchmarks/inference_speed.py starts it.

    PYTHON benchmarks/nnunet_predictor.py NETWORK PIXELS SIDE OVERLAP

NETWORK is TorchScript, PIXELS an .npy file of (C, *S) float32, SIDE that of a tile, and OVERLAP a share of it. For each line on
standard input the image is segmented once, without mirroring; the mask is written beside the pixels, the seconds are printed.
"""

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


def main() -> None:
    """Segment the image for each line of standard input."""
    network, pixels, side, overlap = sys.argv[1:]
    image = torch.from_numpy(np.load(pixels))
    flat = image.ndim == 3
    image = image[:, None] if flat else image  # in nnU-Net 2D images have one slice
    predictor = nnUNetPredictor(
        tile_step_size=1 - float(overlap),
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.network = torch.jit.load(network)
    with torch.inference_mode():
        outputs = predictor.network(torch.zeros(1, len(image), *[int(side)] * (2 if flat else 3))).shape[1]
    predictor.configuration_manager = SimpleNamespace(patch_size=[int(side)] * (2 if flat else 3))
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=outputs)
    predictor.allowed_mirroring_axes = None
    for _ in sys.stdin:
        start_s = time.perf_counter()
        with torch.inference_mode():
            mask = predictor.predict_sliding_window_return_logits(image).argmax(0).numpy().astype(np.uint8)
        seconds = time.perf_counter() - start_s
        np.save(Path(pixels).with_suffix(".mask.npy"), mask[0] if flat else mask)
        print(seconds, flush=True)


if __name__ == "__main__":
    main()
