"""Masks from image files: the label values that the file stores, not the grey that a viewer would show.

Grey of 2 or 4 bits is stored as 0, 1, 2 … and shown as 0, 17, 34 …; palettes store indices; alpha may hold the mask.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from synthgain.datasets.pixels import BYTE_RANGE, UnreadableImage
from synthgain.datasets.reading import alpha_of, converted, open_image, stored_top

_LOSSY_NOISE = 16  # grey levels between the channels of a grey JPEG that was saved in colour
_LARGEST_LABEL = 65535
_FEW = (5, 95)  # percentiles of even areas: fewer than a twentieth of them are no label
_FAR = 48  # grey levels between two labels
WHAT = "mask "


@dataclass(frozen=True)
class LabelMap:
    """A decoded mask.

    values: (H, W) as stored: bool for 1-bit files, else uint8, uint16 or int32. top: the largest value that its depth
    holds. shown: (H, W) grey of 0 to 255 where the file says what its values look like (a palette of greys).
    """

    values: np.ndarray
    top: int
    shown: np.ndarray | None = None

    def present(self) -> list[int]:
        """Return the values that stand in it, sorted."""
        if self.values.dtype.kind == "i":
            return [int(value) for value in np.unique(self.values)]
        present = np.zeros((1 if self.values.dtype == bool else int(np.iinfo(self.values.dtype).max)) + 1, bool)
        present[self.values.astype(np.uint8) if self.values.dtype == bool else self.values] = True
        return [int(value) for value in np.flatnonzero(present)]

    def above_half(self) -> np.ndarray:
        """Return (H, W) bool: lighter than half of what the file can show.

        UnreadableImage for a file that holds something and nothing of it lighter: it may be a label map, or dim.
        """
        grey, top = (self.values, self.top) if self.shown is None else (self.shown, int(BYTE_RANGE[1]))
        white: np.ndarray = grey > top / 2
        if not white.any() and grey.any():
            others = [value for value in self.present() if value != 0]
            held = f"0 and {others[0]} alone" if len(others) == 1 else f"values up to {grey.max()}"
            raise UnreadableImage(f"mask holds {held}, none above half of {top}; declare `encoding: file` for it")
        return white


def read_label_map(source: Path | bytes) -> LabelMap:
    """Decode a mask file, or the bytes of one.

    Palettes give indices; JPEG, whose values lie around black and white, is cut at half to 0 and 255; a mask that lies
    in the alpha channel is that. Raises UnreadableImage as `read_pixels`, and for masks in colour, grey that counts
    from white, and depths that lose values on their way.
    """
    image, opened = open_image(source, WHAT)
    if opened.sixteen_bit_colour:
        raise UnreadableImage("mask in 16-bit colour: save it as a label map of one channel")
    alpha = alpha_of(image, WHAT) if image.mode not in ("P", "L", "1") else None
    if alpha is not None:
        return _with_alpha(image, alpha)
    if image.mode == "P":
        return _palette(image)
    if image.mode == "F":
        return _of_floats(np.asarray(image))
    values = _grey(image, opened.lossy)
    if opened.lossy:
        white: np.ndarray = values > BYTE_RANGE[1] / 2
        if values.any() and not white.any():
            raise UnreadableImage(f"mask of lossy compression has nothing above half (largest value {values.max()})")
        if _has_plateaus(values):
            raise UnreadableImage("mask of lossy compression holds several greys: save a label map without loss")
        return LabelMap(np.where(white, np.uint8(255), np.uint8(0)), 255)
    if opened.white_is_zero and set(np.unique(values).tolist()) - {0, 1, 255}:
        raise UnreadableImage("mask counts from white (WhiteIsZero): save it as a label map that counts from black")
    top = stored_top(opened, image.mode)
    if values.dtype == bool or top is None:
        return LabelMap(values, 1 if values.dtype == bool else int(np.iinfo(values.dtype).max))
    full = 255 if values.dtype == np.uint8 else 65535
    stored = np.rint(values.astype(np.float64) * (top / full)).astype(np.uint8 if top < 256 else np.uint16)
    return LabelMap(stored, top)


def structure_mask(labels: LabelMap, declared: list[int] | None) -> np.ndarray:
    """Return the (H, W) bool mask of the `declared` label values; without any, the file must hold 0 and one other.

    Raises UnreadableImage where a label map has more values and none are declared, and where no declared value can
    stand in a map of its depth.
    """
    if declared is not None:
        if min(declared) > labels.top:
            raise UnreadableImage(f"value {min(declared)} cannot stand in a mask of 0 to {labels.top}")
        return np.isin(labels.values, declared)
    others = [value for value in labels.present() if value != 0]
    if len(others) > 1:
        shown = ", ".join(str(value) for value in others[:5])
        raise UnreadableImage(f"mask is a label map (0, {shown} …): declare `value` for each structure")
    return np.asarray(labels.values != 0)


def _grey(image: Image.Image, lossy: bool) -> np.ndarray:
    """Return the one channel of a mask, (H, W); UnreadableImage for colour."""
    if image.mode in ("1", "L", "I;16", "I;16B", "I;16L", "I"):
        return np.asarray(image)
    channels = np.asarray(converted(image, "RGB", WHAT))
    if int(np.ptp(channels, axis=2).max()) > (_LOSSY_NOISE if lossy else 0):
        raise UnreadableImage("mask in colour: save it as a label map of one channel")
    return channels[:, :, 0]


def _has_plateaus(values: np.ndarray) -> bool:
    """Whether even areas of a (H, W) uint8 mask, without the black ones, have greys far apart: edges are not even."""
    grey = Image.fromarray(values)
    low, high = (
        np.asarray(grey.filter(each(3))).astype(int) for each in (ImageFilter.MinFilter, ImageFilter.MaxFilter)
    )
    even = values[(high - low <= _LOSSY_NOISE) & (values > 2 * _LOSSY_NOISE)]
    if not even.size:
        return False
    first, last = np.percentile(even, _FEW)
    return bool(last - first > _FAR)


def _palette(image: Image.Image) -> LabelMap:
    """Indices; of a palette of greys also the grey that is shown. Greys that fall as indices rise are doubtful."""
    values = np.asarray(image)
    used = np.unique(values)
    colours = np.array(image.getpalette("RGB") or [], np.int64).reshape(-1, 3)
    largest = int(used.max())
    if largest >= len(colours):
        raise UnreadableImage(f"mask holds the palette index {largest}, its palette {len(colours)} colours")
    colours = colours[: largest + 1]
    if np.ptp(colours[used], axis=1).max() > 0:
        if used[0] == 0 and colours[0].any() and not colours[used[1:]].any(axis=1).all():
            raise UnreadableImage("mask whose palette shows another index than 0 black: save it as grey")
        return LabelMap(values, 255)
    if (np.diff(colours[used, 0]) <= 0).any():
        raise UnreadableImage(
            "mask whose palette gets darker as its values rise: it cannot be told which counts; save it as grey"
        )
    return LabelMap(values, 255, colours[:, 0].astype(np.uint8)[values])


def _with_alpha(image: Image.Image, alpha: np.ndarray) -> LabelMap:
    """A mask with transparency: alpha where all colours are equal, the colours where both say the same."""
    colours = np.asarray(converted(image, "RGB", WHAT))
    if (colours == colours[:1, :1]).all():
        return LabelMap(alpha, 255)
    if np.ptp(colours, axis=2).max() == 0 and (
        np.array_equal(colours[:, :, 0] != 0, alpha != 0) or not colours[alpha == 0].any()
    ):
        return LabelMap(np.where(alpha != 0, colours[:, :, 0], 0).astype(np.uint8), 255)
    raise UnreadableImage("mask in both colours and transparency: save it as a label map of one channel")


def _of_floats(values: np.ndarray) -> LabelMap:
    whole = np.rint(values)
    if not np.isfinite(values).all() or (values != whole).any() or values.min() < 0 or values.max() > _LARGEST_LABEL:
        raise UnreadableImage("mask of fractions: save it as a label map of whole numbers")
    return LabelMap(whole.astype(np.uint16), _LARGEST_LABEL)
