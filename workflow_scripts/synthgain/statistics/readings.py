"""What the analysis calls what it reads off its tables, and the report explains: declarations alone."""

GAIN, GAIN_AND_SHIFT = "gain in ranking", "gain in ranking, and a shift"
LOSS, LOSS_AND_SHIFT = "loss in ranking", "loss in ranking, and a shift"
SHIFT, NEITHER, UNKNOWN = "shift of the operating point", "neither is shown", "not estimable"
RARE = 0.05  # a finding of fewer training patients than this share is called rare
UNBOUNDED = "without a bound: that more real patients raise the metric here is not shown"
