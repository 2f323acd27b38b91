"""A toy adapter: striped images of two kinds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthgain.datasets.source import Prepared
from synthgain.seeds import random_generator


def prepare(options: Mapping[str, Any], image: Mapping[str, Any], seed: int, root: Path | None) -> Prepared:
    count, size = options["patients"], image["size"]
    upright = np.arange(count) % 2 == 0
    random = random_generator(study=seed, step="stripes")
    shades = random.integers(0, 256, (count, size), dtype=np.uint8)
    level = np.repeat(shades[:, :, None], size, axis=2)
    images = np.where(upright[:, None, None], level.transpose(0, 2, 1), level)[..., None]
    ids = [f"stripes-{number}" for number in range(count)]
    table = pd.DataFrame({"image_id": ids, "patient_id": ids, "site": "s", "origin": "real"})
    table["upright"] = upright.astype(np.float32)
    columns: Any = {"upright": {"role": "target", "kind": "binary"}}
    return Prepared(np.repeat(images, image["channels"], axis=3), table, columns)
