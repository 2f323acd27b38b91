"""Steered generators: how their samples scored round by round, and what steering did that it should not."""

import pandas as pd

from synthgain.generators.steering_options import PROXY_NETWORKS, Reward
from synthgain.report.blocks import Block, Column, Text, make_table
from synthgain.report.facts import GeneratorFacts
from synthgain.study.schema import Study


def steering_blocks(study: Study, generators: dict[str, GeneratorFacts]) -> list[Block]:
    """Return a table of the rounds of each steered generator, and its alarms; nothing where none is steered."""
    steered = {name: facts.steering for name, facts in generators.items() if facts.steering is not None}
    if not steered:
        return []
    rows = [{"generator": name, **row.model_dump()} for name, facts in steered.items() for row in facts.rounds]
    columns = [
        Column("generator", "Generator / training"),
        Column("step", "Step", "count"),
        Column("score", "Score of its samples", "number", 3),
        Column("real_score", "Score of real images", "number", 3),
        Column("spread", "Spread within class", "number", 3),
        Column("real_spread", "Spread of real images", "number", 3),
        Column("recall", "Recall", "number", 2),
        Column("copies", "Near copies", "percent", 1),
    ]
    blocks: list[Block] = [make_table("Steering, round by round", pd.DataFrame(rows), columns, "steering.csv")]
    for name, facts in steered.items():
        blocks += [Text(f"{name}: {alarm}.", "warning") for alarm in facts.alarms]
        if facts.stopped_at is not None:
            blocks.append(Text(f"{name} was steered to step {facts.stopped_at}: its samples score as real images do."))
    used = {PROXY_NETWORKS[r.scores] for r in rewards(study) if r.scores in PROXY_NETWORKS}
    for name, model in study.models.items():
        if model.chosen.name in used:
            blocks.append(
                Text(
                    f"The proxies that steered and the model {name} that judges, and that may have filtered, are of "
                    f"one network ({model.chosen.name}); what one of them overlooks, all may. Believe the other "
                    "models.",
                    "warning",
                )
            )
    return blocks


def rewards(study: Study) -> list[Reward]:
    """Return what steers the generators of a study."""
    return [generator.steered_by for generator in study.generators.values() if generator.steered_by is not None]
