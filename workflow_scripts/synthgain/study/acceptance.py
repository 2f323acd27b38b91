"""`snakemake accept`: which results of older code can be taken as current, and which cannot, said why."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from synthgain.entry import nearest
from synthgain.runtime.accepted import Accepted
from synthgain.runtime.errors import SynthGainError
from synthgain.study.records import Recorded, record_of, what_changed
from synthgain.study.stage import Acceptance, Made, PlannedJob
from synthgain.study.stages.table import STAGES


def from_file(entries: Mapping[str, Accepted]) -> Acceptance:
    """Plan the results in accepted.json under their recorded digest, while code and all else are as accepted."""

    def code(made: Made) -> str:
        entry = entries.get(made.output)
        same = entry is not None and entry.taken_as == made.code and entry.basis == made.basis()
        return entry.recorded if entry is not None and same else made.code

    return code


class FromRecords:
    """Plans every result whose code alone differs under its recorded digest, and gathers them in `found`.

    folder: that of the run, as Snakemake writes it; rules: those to be accepted, None for all; before: what was
    accepted already, which stays so for other rules.
    """

    def __init__(
        self, folder: str, recorded: Recorded, rules: frozenset[str] | None, before: Mapping[str, Accepted]
    ) -> None:
        self.folder, self.recorded, self.rules = folder, recorded, rules
        self.found: dict[str, Accepted] = {}
        self._before, self._as_before = before, from_file(before)

    def __call__(self, made: Made) -> str:
        if self.rules is not None and made.rule not in self.rules:
            code = self._as_before(made)
            if code != made.code:
                self.found[made.output] = self._before[made.output]
            return code
        record = record_of(self.recorded(f"{self.folder}/{made.output}"))
        if record is None or record.code == made.code or made.identity(record.code) != record.identity:
            return made.code
        date = datetime.now(UTC).isoformat(timespec="seconds")
        old = self._before.get(made.output)
        entry = Accepted(made.output, record.code, made.code, made.basis(), record.identity, date)
        if old is not None and (old.recorded, old.taken_as, old.basis) == (entry.recorded, entry.taken_as, entry.basis):
            entry = old  # accepted before: with its date
        self.found[made.output] = entry
        return record.code

    def refusal(self, job: PlannedJob) -> str:
        """Return why the result of `job`, as planned with this acceptance, is not current; "" where it is."""
        record = record_of(self.recorded(f"{self.folder}/{job.output}"))
        if record is None:
            return "no record of how it was made (.snakemake/metadata)"
        if (record.identity, record.code) == (job.identity, job.code):
            return ""
        changed = what_changed(record, job, lambda before, now: [])
        if self.rules is not None and job.rule not in self.rules and changed == ["code"]:
            return "not among the rules to accept"
        if not changed or changed == ["code"]:
            return "rests on a result that is not accepted"
        return "; ".join(changed)


def chosen_rules(text: object) -> frozenset[str] | None:
    """Return the rules of `--config accept=rule,rule`; None for all. SynthGainError for a name that is none."""
    if text is None:
        return None
    names = frozenset(name.strip() for name in str(text).split(",") if name.strip())
    for name in sorted(names - STAGES.keys()):
        raise SynthGainError(f"accept: no rule {name!r}; {nearest(name, STAGES)}")
    return names


def described(acceptance: FromRecords, jobs: Iterable[PlannedJob]) -> dict[str, object]:
    """Return what accept_results.py needs of a run: the results taken as current, and why others are not."""
    jobs = list(jobs)
    there = [job for job in jobs if Path(acceptance.folder, job.output).exists()]
    refused = {job.output: {"rule": job.rule, "reason": acceptance.refusal(job)} for job in there}
    return {
        "accepted": {
            job.output: {"entry": asdict(acceptance.found[job.output]), "rule": job.rule, "inputs": sorted(job.inputs)}
            for job in jobs
            if job.output in acceptance.found
        },
        "refused": {output: facts for output, facts in refused.items() if facts["reason"]},
    }
