"""From attenuation to a film: Beer-Lambert, scatter, detector noise, tone, collimation, marker."""

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from synthgain.datasets.options import Style

_GLYPHS = {
    "L": ("1000", "1000", "1000", "1000", "1000", "1111"),
    "R": ("1110", "1001", "1001", "1110", "1010", "1001"),
}
_MARKER_SHARE = 0.065  # height of the lead letter over the film side
_MARKER_GREY = 0.97
_MARKER_FINE = 4  # samples per pixel side
_WINDOW_LOW, _WINDOW_HIGH = 6.0, 95.0  # percentiles of the exposed body that become dark and bright
_WINDOW_GREYS = (0.2, 0.84)  # the grey levels they become
_LARGE_SCALE = 0.12  # sigma of "large-scale contrast" over the film side


def block_mean(array: np.ndarray, factor: int) -> np.ndarray:
    """Average (H·f, W·f) over f × f blocks: (H, W)."""
    if factor == 1:
        return array
    height, width = array.shape
    return np.asarray(array.reshape(height // factor, factor, width // factor, factor).mean(axis=(1, 3)))


def develop(
    attenuation: np.ndarray, factor: int, pixel_cm: float, style: Style, rng: np.random.Generator
) -> np.ndarray:
    """Return the film (S, S) uint8 of line integrals (S·factor, S·factor), dimensionless.

    Intensities, not attenuations, are averaged over a detector pixel: I = mean exp(-∫ mu dz) + scatter.
    `pixel_cm` is the final pixel's side; noise falls with its area as photon counts grow.
    """
    primary = block_mean(np.exp(-attenuation), factor)
    size = primary.shape[0]
    behind_body = primary < 0.8  # unattenuated air is not part of the window
    mean = float(primary[behind_body].mean()) if behind_body.any() else float(primary.mean())
    intensity = primary + style.scatter * mean
    relative = style.quantum_noise / pixel_cm * np.sqrt(mean / intensity)
    grain = rng.standard_normal(primary.shape, dtype=np.float32)
    intensity *= np.maximum(1.0 + relative * grain, 0.05)
    density = -np.log(intensity)
    centre = density[size // 8 : -size // 8, size // 8 : -size // 8]
    low, high = np.percentile(centre, (_WINDOW_LOW, _WINDOW_HIGH))
    shift, stretch = rng.normal(0.0, style.exposure_sd, 2)
    dark, bright = _WINDOW_GREYS
    grey = dark + (density - low) * ((bright - dark) / max(high - low, 1e-3)) * (1.0 + stretch)
    grey = np.clip(grey, -0.2, 1.2)
    if style.equalisation:
        grey -= style.equalisation * (_large_scale(grey) - 0.5)
    film = _tone(grey + shift + style.brightness, style.contrast)
    film[~behind_body] *= 0.3  # direct exposure saturates to black
    if style.marker:
        _burn_marker(film, style.marker, rng)
    _collimate(film, style, rng)
    return np.asarray(np.rint(film * 255.0), dtype=np.uint8)


def _tone(grey: np.ndarray, contrast: float) -> np.ndarray:
    """S-shaped curve through (0, 0), (½, ½), (1, 1) with slope set by `contrast`, as a film's H and D curve."""
    half = np.tanh(contrast)
    return np.asarray(0.5 + 0.5 * np.tanh(contrast * (2.0 * np.clip(grey, 0.0, 1.0) - 1.0)) / half)


def _large_scale(grey: np.ndarray) -> np.ndarray:
    """Gaussian blur of `_LARGE_SCALE` of the side, computed on a coarse grid of about 32 px for speed."""
    size = grey.shape[0]
    factor = next(f for f in range(max(1, size // 32), 0, -1) if size % f == 0)
    coarse = gaussian_filter(block_mean(grey, factor), _LARGE_SCALE * size / factor, mode="nearest", truncate=2.5)
    if factor == 1:
        return coarse
    axis = (np.arange(size) + 0.5) / factor - 0.5
    rows, columns = np.meshgrid(axis, axis, indexing="ij")
    return np.asarray(map_coordinates(coarse, [rows, columns], order=1, mode="nearest"))


def _burn_marker(film: np.ndarray, letter: str, rng: np.random.Generator) -> None:
    """Draw the lead letter: "L" at the viewer's right (the patient's left), "R" at the viewer's left."""
    size = film.shape[0]
    glyph = np.array([[float(cell) for cell in row] for row in _GLYPHS[letter]])
    height = _MARKER_SHARE * size
    width = height * 0.7
    top = (0.06 + 0.05 * rng.random()) * size
    left = (0.08 + 0.04 * rng.random()) * size
    if letter == "L":
        left = size - left - width
    band, across = slice(int(top), int(top + height) + 2), slice(int(left), int(left + width) + 2)
    # Pad by one empty cell so that samples outside the letter read 0.
    cells = np.pad(glyph, 1)[
        np.ix_(_cells(band, top, height, glyph.shape[0]), _cells(across, left, width, glyph.shape[1]))
    ]
    film[band, across] += block_mean(cells, _MARKER_FINE) * (_MARKER_GREY - film[band, across])


def _cells(pixels: slice, start: float, length: float, count: int) -> np.ndarray:
    """Return the padded glyph row or column that each fine sample along `pixels` falls in."""
    samples = pixels.start + (np.arange((pixels.stop - pixels.start) * _MARKER_FINE) + 0.5) / _MARKER_FINE
    return np.clip(np.floor((samples - start) / length * count).astype(int), -1, count) + 1


def _collimate(film: np.ndarray, style: Style, rng: np.random.Generator) -> None:
    size = film.shape[0]
    widths = np.rint(rng.random(4) * style.collimation * size).astype(int)
    grey = style.border_grey / 255.0
    top, bottom, left, right = widths
    film[:top], film[size - bottom :], film[:, :left], film[:, size - right :] = grey, grey, grey, grey
