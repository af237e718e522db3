"""Colour, contrast, blur and noise: the transforms that leave the labels alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core.training.stains import restain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastsam_core.training.sources import Domain


_GRAY_SPREAD: Final = 8


def stretch_contrast(
    image: NDArray[np.uint8], low_percent: float = 0.5, high_percent: float = 99.8
) -> NDArray[np.uint8]:
    """Map two percentiles of the gray values to 0 and 255, as the program does with microscope images."""
    sparse = image[::4, ::4]
    low, high = np.percentile(sparse, (low_percent, high_percent))
    table = np.clip((np.arange(256) - low) * (255 / max(high - low, 8)), 0, 255).astype(np.uint8)
    return np.asarray(table[image], np.uint8)


def _curve(rng: np.random.Generator, strength: float) -> NDArray[np.float32]:
    """Draw a monotone tone curve over 0..255 from gamma, contrast and brightness."""
    ramp = np.linspace(0, 1, 256) ** np.exp(rng.normal(0, 0.35 * strength))
    gain, offset = np.exp(rng.normal(0, 0.2 * strength)), rng.normal(0, 0.08 * strength)
    return np.asarray(np.clip(((ramp - 0.5) * gain + 0.5 + offset) * 255, 0, 255), np.float32)


def jitter(image: NDArray[np.uint8], rng: np.random.Generator, domain: Domain) -> NDArray[np.uint8]:
    """Vary tone, colour, polarity, sharpness and noise.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB.
    rng : numpy.random.Generator
        Source of randomness.
    domain : {"photo", "micro"}
        Microscopy is inverted, stretched, made gray or false-coloured more often.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        New image.
    """
    import cv2

    micro = domain == "micro"
    if micro and rng.random() < 0.4 and is_coloured(image):
        image = restain(image, rng)
    if rng.random() < (0.6 if micro else 0.08):
        image = stretch_contrast(image, float(rng.uniform(0, 2)), float(rng.uniform(98.5, 100)))
    if rng.random() < (0.35 if micro else 0.14):
        image = _recolour(image, rng, false_colour=rng.random() < (0.5 if micro else 0.2))
    elif rng.random() < 0.35:
        image = _shift_hue(image, rng)
    common = _curve(rng, 1.0)
    table = np.empty((256, 1, 3), np.uint8)
    for channel in range(3):
        tint = np.clip(common * np.exp(rng.normal(0, 0.08)) + rng.normal(0, 4), 0, 255)
        table[:, 0, channel] = tint.astype(np.uint8)
    image = np.asarray(cv2.LUT(image, table), np.uint8)
    if rng.random() < (0.22 if micro else 0.05):
        image = 255 - image
    if rng.random() < 0.08:
        image = np.ascontiguousarray(image[..., rng.permutation(3)])
    if rng.random() < 0.15:
        image = _illuminate(image, rng)
    if rng.random() < 0.18:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.8))), np.uint8)
    elif rng.random() < 0.08:
        soft = cv2.GaussianBlur(image, (0, 0), 1.5)
        image = np.asarray(cv2.addWeighted(image, 2.0, soft, -1.0, 0), np.uint8)
    if rng.random() < 0.2:
        sigma = float(rng.uniform(2, 18))
        shape = image.shape if rng.random() < 0.5 else (*image.shape[:2], 1)
        noise = rng.standard_normal(shape, dtype=np.float32) * sigma
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.1:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))]
        image = np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR), np.uint8)
    return image


def is_coloured(image: NDArray[np.uint8]) -> bool:
    """Tell a picture with any colour from a gray one stored as RGB."""
    return int(np.ptp(image[::4, ::4].astype(np.int16), axis=2).max()) > _GRAY_SPREAD


def _recolour(image: NDArray[np.uint8], rng: np.random.Generator, *, false_colour: bool) -> NDArray[np.uint8]:
    import cv2

    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if not false_colour:
        return np.repeat(gray[..., None], 3, axis=2)
    knots = rng.integers(0, 256, (3, 3))
    knots[:, 0] //= 4
    table = np.empty((256, 1, 3), np.uint8)
    for channel in range(3):
        table[:, 0, channel] = np.interp(np.arange(256), (0, 128, 255), knots[channel])
    contrast = float(np.abs(knots[:, 2] - knots[:, 0]).max())
    if contrast < 100:
        return np.repeat(gray[..., None], 3, axis=2)
    return np.asarray(cv2.LUT(np.repeat(gray[..., None], 3, axis=2), table), np.uint8)


def _shift_hue(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    import cv2

    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    turn = int(rng.integers(-20, 21)) if rng.random() < 0.7 else int(rng.integers(0, 180))
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + turn) % 180
    table = np.clip(np.arange(256) * rng.uniform(0.4, 1.6), 0, 255).astype(np.uint8)
    hsv[..., 1] = table[hsv[..., 1]]
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)


def _illuminate(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    import cv2

    coarse = rng.uniform(0.5, 1.3, (3, 3)).astype(np.float32)
    field = cv2.resize(coarse, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(image * field[..., None], 0, 255), np.uint8)
