"""All stages of the workflow, in the order in which data flow."""

from synthgain.study.stages import (
    calibration,
    data,
    downstream,
    evaluation,
    forecast,
    generators,
    pools,
    protocol,
    readers,
    report,
    statistics,
    weights,
)

_FILES = (
    *(protocol, forecast, data, weights, generators, pools, downstream, evaluation, statistics, readers, report),
    calibration,
)
STAGES = {stage.name: stage for file in _FILES for stage in file.STAGES}
