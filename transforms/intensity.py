"""Brightness, contrast, gamma, noise, blur and low resolution of images (C, *S) with values of about 0 to 1.

Each random transform draws its parameter up to `strength` and calls the fixed transform above it.
"""

import albumentations
import numpy as np
import torch
from monai import transforms as monai_transforms

from transforms.warp import Floats


def brighten(image: Floats, shift: float) -> Floats:
    """Add a constant to the image."""
    return image + np.float32(shift)


def random_brightness(image: Floats, random: np.random.Generator, strength: float) -> Floats:
    """Add a constant from -strength to strength."""
    return brighten(image, random.uniform(-strength, strength))


def stretch(image: Floats, factor: float) -> Floats:
    """Scale the contrast of each channel about its own mean."""
    mean = image.reshape(len(image), -1).mean(axis=1).reshape(-1, *[1] * (image.ndim - 1))
    stretched = image * np.float32(factor)
    stretched += mean * np.float32(1 - factor)
    return stretched


def random_contrast(image: Floats, random: np.random.Generator, strength: float) -> Floats:
    """Scale the contrast by a factor from 1 - strength to 1 + strength."""
    return stretch(image, random.uniform(1 - strength, 1 + strength))


def gamma(image: Floats, exponent: float) -> Floats:
    """Raise the image to a power. Negative values become 0."""
    raised = np.maximum(image, np.float32(0))
    raised **= np.float32(exponent)
    return raised


def random_gamma(image: Floats, random: np.random.Generator, strength: float) -> Floats:
    """Raise the image to a power from 1 - strength to 1 + strength."""
    return gamma(image, random.uniform(1 - strength, 1 + strength))


def add_noise(image: Floats, deviation: float, seed: int) -> Floats:
    """Add Gaussian noise to every pixel. torch draws it three times as fast as NumPy."""
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed)).numpy()
    noise *= np.float32(deviation)
    noise += image
    return np.asarray(noise, np.float32)


def random_noise(image: Floats, random: np.random.Generator, strength: float) -> Floats:
    """Add noise of a standard deviation from 0 to strength."""
    return add_noise(image, random.uniform(0, strength), int(random.integers(2**31)))


def blur(image: Floats, deviation_px: float) -> Floats:
    """Smooth the image by a Gaussian, in 2D by Albumentations, which clips to 0 .. 1, and in 3D by MONAI."""
    if image.ndim == 4:
        return np.asarray(monai_transforms.GaussianSmooth(deviation_px)(image), np.float32)
    smooth = albumentations.GaussianBlur(sigma_limit=(deviation_px, deviation_px), p=1)
    blurred = smooth(image=np.ascontiguousarray(np.moveaxis(image, 0, -1)))["image"]  # (H, W, C)
    return np.ascontiguousarray(np.moveaxis(blurred, -1, 0), np.float32)  # (C, H, W)


def random_blur(image: Floats, random: np.random.Generator, strength: float) -> Floats:
    """Smooth the image by a Gaussian of a deviation from 0 to strength, in pixels."""
    return blur(image, random.uniform(0, strength))


def low_resolution(image: Floats, share: float) -> Floats:
    """Downsample to a share of the pixels along each axis and interpolate back (MONAI; nnU-Net's simulation)."""
    upsample = "bilinear" if image.ndim == 3 else "trilinear"
    simulate = monai_transforms.RandSimulateLowResolution(prob=1, upsample_mode=upsample, zoom_range=(share, share))
    return np.asarray(simulate(image), np.float32)


def random_low_resolution(image: Floats, random: np.random.Generator, strength: float) -> Floats:
    """Downsample to a share of the pixels from 1 - strength to 1, and interpolate back."""
    return low_resolution(image, random.uniform(1 - strength, 1))
