"""The segmented images of HyperKvasir as published: `segmented-images/images` and `masks` of equal names.

They are the 1,000 polyps of Kvasir-SEG: the two are one data set, not two hospitals.
"""

from synthgain.datasets.layouts import kvasir_seg

LICENCE = "CC BY 4.0; competitions and commercial use need prior written permission (Simula)"
CITATION = (
    "Borgli H et al. HyperKvasir, a comprehensive multi-class image and video dataset for gastrointestinal endoscopy. "
    "Sci Data 2020;7:283"
)
GET = (
    "get https://datasets.simula.no/downloads/hyper-kvasir/hyper-kvasir-segmented-images.zip and unpack it there, so "
    "that it holds images/ and masks/"
)
READING = kvasir_seg.READING
rows = kvasir_seg.rows
