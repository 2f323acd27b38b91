"""Prompts: what text pools were drawn for, and which labels their images keep."""

from collections.abc import Mapping

import pandas as pd

from synthgain.data.options import Prompt
from synthgain.report.blocks import Block, Column, Text, make_table
from synthgain.report.facts import PoolFacts
from synthgain.study.roles import prompt_of
from synthgain.study.schema import Study

LEVELS = {"1": "positive", "0": "negative", "unknown": "unknown"}
FINDINGS = {"all": "all", "one": "one, by turns", "none": "none"}


def prompts_blocks(study: Study, pools: Mapping[str, PoolFacts]) -> list[Block]:
    """Return which prompt each pool was drawn for, and the marginals of the labels; nothing without a text.

    pools: {pool/index/replica: manifest}; the first replica of a pool is shown.
    """
    drawn = {name: said for name, pool in study.pools.items() if (said := prompt_of(study, pool)) is not None}
    if not drawn:
        return []
    rules, shares = [], []
    for name, chosen in drawn.items():
        prompt = study.prompts[chosen]
        rules.append({"pool": name, "prompt": chosen, "text": _text(prompt), **_named(prompt)})
        facts = next((found for place, found in pools.items() if place.split("/")[0] == name), None)
        shares += [] if facts is None else _shares(name, prompt, facts)
    columns = [
        Column("pool", "Pool"),
        Column("prompt", "Prompt"),
        Column("text", "Text"),
        Column("findings", "Findings named"),
        Column("others", "Labels not named become"),
    ]
    blocks: list[Block] = [make_table("Texts that pools were drawn for", pd.DataFrame(rules), columns, "prompts.csv")]
    if shares:
        blocks.append(Text("Labels of a pool's images: what a text did not name is unknown or absent there."))
        marginals = [
            Column("pool", "Pool"),
            Column("label", "Label"),
            Column("positive", "Positive", "percent", 1),
            Column("negative", "Negative", "percent", 1),
            Column("unknown", "Unknown", "percent", 1),
        ]
        blocks.append(make_table("Labels after prompting", pd.DataFrame(shares), marginals, "prompt_labels.csv"))
    return blocks


def _text(prompt: Prompt) -> str:
    return prompt.template if prompt.template is not None else f"column {prompt.column}"


def _named(prompt: Prompt) -> dict[str, str]:
    if prompt.template is None:
        return {"findings": "as the text has them", "others": "–"}
    return {"findings": FINDINGS[prompt.findings], "others": "–" if prompt.findings == "all" else prompt.others}


def _shares(pool: str, prompt: Prompt, facts: PoolFacts) -> list[dict[str, object]]:
    """Return a row per binary label, of those that count as findings where they are listed."""
    rows: list[dict[str, object]] = []
    for label, levels in facts.counts.items():
        total = sum(levels.values())
        if not set(levels) <= set(LEVELS) or (prompt.of is not None and label not in prompt.of) or not total:
            continue
        counted = dict.fromkeys(LEVELS, 0.0) | levels
        rows.append({"pool": pool, "label": label, **{LEVELS[name]: count / total for name, count in counted.items()}})
    return rows
