"""Ctrl-C, `kill -INT` of Snakemake alone, and a closed terminal: the jobs save and leave, and so does the call."""

import signal
import threading
from types import FrameType

from synthgain.runtime.calls import Call, end_own_jobs

GRACE_SECONDS = 1.0  # in which jobs that the same Ctrl-C has reached leave by themselves


def stop_well(call: Call) -> None:
    """Have SIGINT, and on one machine SIGHUP, end the call with its jobs.

    Snakemake alone waits until its jobs on this machine are done, and leaves its lock at a closed terminal. Jobs of a
    cluster outlive a closed terminal: the next call takes care of them.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        if not call.sends:
            timer = threading.Timer(GRACE_SECONDS, end_own_jobs, [call])
            timer.daemon = True
            timer.start()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, stop)
    if not call.sends and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup has it ignored
        signal.signal(signal.SIGHUP, stop)
