"""Several processes of one training job on one machine: started, watched and ended together.

accelerate's own launcher also starts processes (`accelerate launch`, torchrun; both work with train_generator.py).
This one, which the workflow uses, ends as every job here does: one clear line, exit code 143 once the state is saved,
and no process left behind, whichever of them is stopped or killed.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from synthgain.runtime.command import EXIT_TERMINATED, StopSignal, Terminated
from synthgain.runtime.errors import SynthGainError

RENDEZVOUS = "SYNTHGAIN_RENDEZVOUS"  # a file by which the processes find each other: no open port
LOOK_SECONDS = 0.2  # between looks at the stop signal
GRACE_SECONDS = 15.0  # from the first process that failed to the end of the others, which may still be saving
ERROR, STOPPED = "error: ", "stopped: "  # how `run_script` begins its last line
KILLED, SAID, LOST, SILENT = range(4)  # kinds of reasons, the likelier cause first
LOST_ANOTHER = ("gloo", "nccl", "connection closed by peer")  # in the error of a process that waited for another
STOPPED_CODES = {EXIT_TERMINATED, -signal.SIGTERM}  # the latter before Python handles signals


def is_one_of_several() -> bool:
    """True in a process that a launcher started: ours, accelerate's or torchrun."""
    return "WORLD_SIZE" in os.environ


def launch(command: list[str], count: int, threads: int) -> None:
    """Run `command` as `count` processes with `threads` CPU threads in all, and return when all are done.

    SIGTERM and SIGINT reach all of them. Raises Terminated when they stopped with the state saved, and SynthGainError
    with the first error when one of them failed or was killed; the others are ended then.
    """
    stop = StopSignal()
    with tempfile.TemporaryDirectory(prefix="synthgain-") as folder:
        watch = _Watch(count)
        try:
            for rank in range(count):
                watch.start(rank, command, _environment(rank, count, threads, Path(folder) / "rendezvous"))
            watch.until_all_ended(stop)
        finally:
            watch.kill()
    if STOPPED_CODES & set(watch.codes.values()) and (stop.requested or watch.failure is None):
        raise Terminated(watch.note)
    if watch.failure is not None:
        raise SynthGainError(watch.failure)


def leave_with_launcher() -> None:
    """End this process at once when the launcher is gone, so that a retried job never overlaps the previous attempt."""
    if RENDEZVOUS in os.environ:
        threading.Thread(target=_wait_for_the_end_of_input, daemon=True).start()


def _wait_for_the_end_of_input() -> None:
    sys.stdin.buffer.read()  # the launcher holds the other end and never writes
    os._exit(EXIT_TERMINATED)


def _environment(rank: int, count: int, threads: int, rendezvous: Path) -> dict[str, str]:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    own = {name: str(number) for name, number in numbers.items()}
    own |= {"OMP_NUM_THREADS": str(max(1, threads // count)), RENDEZVOUS: str(rendezvous)}
    if sys.platform == "linux":  # gloo otherwise listens on the machine's network
        own["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    return {**os.environ, **own}


@dataclass
class _Watch:
    """The processes, what they say and how they end. events: (rank, line of stderr, or exit code)."""

    count: int
    children: list[subprocess.Popen[str]] = field(default_factory=list)
    events: SimpleQueue[tuple[int, str | int]] = field(default_factory=SimpleQueue)
    codes: dict[int, int] = field(default_factory=dict)
    reasons: list[tuple[int, str]] = field(default_factory=list)  # (rank of its kind, words), as they came
    ended_by_us: bool = False
    note: str = ""

    @property
    def failure(self) -> str | None:
        """What went wrong first: a process that was killed, else an error, else that a process lost another."""
        return min(self.reasons, key=lambda reason: reason[0])[1] if self.reasons else None

    def start(self, rank: int, command: list[str], environment: dict[str, str]) -> None:
        child = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        self.children.append(child)
        threading.Thread(target=self._listen, args=(rank, child), daemon=True).start()

    def _listen(self, rank: int, child: subprocess.Popen[str]) -> None:
        assert child.stderr is not None
        for line in child.stderr:
            self.events.put((rank, line.rstrip("\n")))
        self.events.put((rank, child.wait()))

    def until_all_ended(self, stop: StopSignal) -> None:
        """Pass on what the first process says and every signal; after a failure give the others GRACE_SECONDS."""
        told, deadline = False, float("inf")
        while len(self.codes) < self.count:
            if stop.requested and not told:
                told = True
                self.ask_to_stop()
            if time.monotonic() > deadline:
                self.kill()
            try:
                rank, event = self.events.get(timeout=LOOK_SECONDS)
            except Empty:
                continue
            if isinstance(event, str):
                self.hear(rank, event)
                continue
            self.codes[rank] = event
            if event and deadline == float("inf"):
                deadline = time.monotonic() + GRACE_SECONDS
                self.ask_to_stop()
            if event not in {0, *STOPPED_CODES} and not (event < 0 and self.ended_by_us):
                words = f"process {rank + 1} of {self.count} {_ending(event)}"
                self.reasons.append((KILLED if event < 0 else SILENT, words))

    def hear(self, rank: int, line: str) -> None:
        """Keep the first error and the note of the state saved; show other lines of the first process."""
        if line.startswith(ERROR):
            lost = any(word in line.lower() for word in LOST_ANOTHER)
            self.reasons.append((LOST if lost else SAID, line.removeprefix(ERROR)))
        elif line.startswith(STOPPED):
            self.note = self.note or line.removeprefix(STOPPED).partition(";")[0]
        elif rank == 0 and not self.reasons:
            print(line, file=sys.stderr, flush=True)

    def ask_to_stop(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.terminate()

    def kill(self) -> None:
        self.ended_by_us = True
        for child in self.children:
            if child.poll() is None:
                child.kill()
                child.wait()


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}; see the job's log"
    name = signal.Signals(-code).name
    return f"was killed by {name} (memory ran out?); run snakemake again to go on from the state saved"
