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
    report,
    statistics,
)

_FILES = (protocol, forecast, data, generators, pools, downstream, evaluation, statistics, report, calibration)
STAGES = {stage.name: stage for file in _FILES for stage in file.STAGES}
