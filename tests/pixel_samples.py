"""What a toy generator of pixels has in common with one of latents."""

import torch


class PixelSamples:
    """Its samples are its images."""

    image_shape: tuple[int, int, int]

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        return self.image_shape

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        return samples
