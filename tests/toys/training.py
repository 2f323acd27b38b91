"""The toy family's training: every family's loop, and its step."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn, stack, zeros

from synthgain.data.pixels import to_signed
from synthgain.generators.condition_encoder import ConditionEncoder, column_specs
from synthgain.generators.options import GeneratorTraining
from synthgain.generators.run import Run, common_parts, training_options
from synthgain.runtime.command import Job


@dataclass
class MeanRun(Run):
    """The image and the encoder of its conditions."""

    module: nn.ParameterDict
    condition_encoder: ConditionEncoder

    @property
    def encoder(self) -> ConditionEncoder:
        return self.condition_encoder

    @property
    def stateful(self) -> dict[str, Any]:
        return {"module": self.module}

    def start(self) -> None:
        """There is nothing to place."""

    def take_step(self, rows: Tensor, own: Tensor) -> Tensor:
        mean, seen = self.module["mean"], to_signed(self.data.images[rows]).mean(dim=0)
        mean.data += self.learning_rate_at(self.step) * (seen - mean.data)
        return stack([(seen - mean.data).square().mean()])

    def save_parts(self, folder: Path) -> None:
        (folder / "network").mkdir(parents=True)
        save_file({"mean": self.module["mean"].data}, folder / "network" / "mean.safetensors")
        self.encoder.save_pretrained(folder / "condition_encoder")

    def facts(self) -> dict[str, Any]:
        return {"parameters": self.module["mean"].numel()}


def prepare_run(job: Job) -> MeanRun:
    options = training_options(GeneratorTraining, job)
    data, accelerator, keys = common_parts(job, options)
    encoder = ConditionEncoder(column_specs(job.slice["condition_on"], data.columns, data.table[data.labelled]), 8)
    module = nn.ParameterDict({"mean": zeros(data.images.shape[1:])})
    return MeanRun(options, data, accelerator, keys, module, encoder)
