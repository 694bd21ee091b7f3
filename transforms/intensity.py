"""Brightness, contrast, gamma, noise, blur and low resolution; images (C, *S) whose values lie in 0 .. 1, about.

Each random transform draws its parameter up to `strength` and calls the fixed one above it.
"""

import albumentations
import numpy as np
import torch
from monai import transforms as monai_transforms

from transforms.warp import Floats


def brighten(image: Floats, shift: float) -> Floats:
    """The image plus a shift."""
    return image + np.float32(shift)


def random_brightness(image: Floats, random: np.random.Generator, strength: float) -> Floats:
    """Shifted by up to the strength either way."""
    return brighten(image, random.uniform(-strength, strength))


def stretch(image: Floats, factor: float) -> Floats:
    """Contrast: each channel stretched about its own mean."""
    mean = image.reshape(len(image), -1).mean(axis=1).reshape(-1, *[1] * (image.ndim - 1))
    stretched = image * np.float32(factor)
    stretched += mean * np.float32(1 - factor)
    return stretched


def random_contrast(image: Floats, random: np.random.Generator, strength: float) -> Floats:
    """Stretched by 1 less to 1 more the strength."""
    return stretch(image, random.uniform(1 - strength, 1 + strength))


def gamma(image: Floats, exponent: float) -> Floats:
    """The image to a power; values below 0 count as 0."""
    raised = np.maximum(image, np.float32(0))
    raised **= np.float32(exponent)
    return raised


def random_gamma(image: Floats, random: np.random.Generator, strength: float) -> Floats:
    """To a power of 1 less to 1 more the strength."""
    return gamma(image, random.uniform(1 - strength, 1 + strength))


def add_noise(image: Floats, deviation: float, seed: int) -> Floats:
    """Gaussian noise in every pixel; torch draws it three times as fast as NumPy."""
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed)).numpy()
    noise *= np.float32(deviation)
    noise += image
    return np.asarray(noise, np.float32)


def random_noise(image: Floats, random: np.random.Generator, strength: float) -> Floats:
    """Noise of a deviation up to the strength."""
    return add_noise(image, random.uniform(0, strength), int(random.integers(2**31)))


def blur(image: Floats, deviation_px: float) -> Floats:
    """Smoothed by a Gaussian; in 2D by Albumentations, which clips to 0 .. 1, in 3D by MONAI."""
    if image.ndim == 4:
        return np.asarray(monai_transforms.GaussianSmooth(deviation_px)(image), np.float32)
    smooth = albumentations.GaussianBlur(sigma_limit=(deviation_px, deviation_px), p=1)
    blurred = smooth(image=np.ascontiguousarray(np.moveaxis(image, 0, -1)))["image"]  # (H, W, C)
    return np.ascontiguousarray(np.moveaxis(blurred, -1, 0), np.float32)  # (C, H, W)


def random_blur(image: Floats, random: np.random.Generator, strength: float) -> Floats:
    """Smoothed by a Gaussian of up to the strength in pixels."""
    return blur(image, random.uniform(0, strength))


def low_resolution(image: Floats, share: float) -> Floats:
    """Thinned to a share of the pixels along each axis and interpolated back (MONAI; nnU-Net's simulation)."""
    upsample = "bilinear" if image.ndim == 3 else "trilinear"
    simulate = monai_transforms.RandSimulateLowResolution(prob=1, upsample_mode=upsample, zoom_range=(share, share))
    return np.asarray(simulate(image), np.float32)


def random_low_resolution(image: Floats, random: np.random.Generator, strength: float) -> Floats:
    """Loses up to the strength's share of the resolution."""
    return low_resolution(image, random.uniform(1 - strength, 1))
