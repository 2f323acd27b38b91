"""A run begins: who it is is written down, what a killed one left is ended, and from here on a person sees it."""

import os

from synthgain.runtime.calls import VARIABLE, Others, enter, this_call
from synthgain.runtime.command import TERMINAL
from synthgain.study.session import Session
from synthgain.study.stages.table import STAGES
from synthgain.terminal.handler import RunHandler
from synthgain.terminal.stopping import stop_well
from synthgain.terminal.view import Facts, View


def facts_of(session: Session, cores: int, sends: bool, quiet: bool) -> Facts:
    """Return what a view needs of a study."""
    runs = [session.results / run for run in session.planners]
    return Facts(
        study=session.study.study,
        titles={name: stage.title for name, stage in STAGES.items()},
        forecasts=[run / STAGES["forecast_cost"].output for run in runs],
        cores=cores,
        sends=sends,
        audits=[run / "audit" / "audit.html" for run in runs],
        at_the_end=session.told_at_the_end,
        quiet=quiet,
    )


def start_run(handler: RunHandler, facts: Facts) -> None:
    """Prepare a run, which starts once Snakemake says so: nothing is done for a call that only looks."""
    others = Others()

    def start() -> View:
        nonlocal others
        call = this_call(facts.sends)
        os.environ[VARIABLE] = call.name
        if handler.own:
            os.environ[TERMINAL] = "warnings"  # how far a job is, the view says
        stop_well(call)
        others = enter(call, handler.write)
        if others.unlocked:
            handler.write("the lock of a call that was killed is gone")
        return View(facts, handler.write)

    def who_locks() -> str:
        if not others.live:
            return ""
        who = "; ".join(call.words for call in others.live)
        return (
            f"another snakemake works in this folder ({who}): wait for its end or end it. If it runs no more, and its "
            "machine cannot be asked from here: snakemake --unlock"
        )

    handler.start, handler.who_locks = start, who_locks
