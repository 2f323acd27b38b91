"""A downstream training job's own memory does not grow with the pool: images stay in the memory map."""

import subprocess
import time
from pathlib import Path

import pytest
from downstream_jobs import command_of, train_job, write_dataset, write_pool

SIZE, ROWS = 128, 600  # 360 training films of 16 KB: 6 MB a replica
REPLICAS = 40


def peak_anonymous_bytes(command: list[str]) -> int:
    """Run a command and return the largest RssAnon seen (mapped pages do not count)."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            peak = max([peak, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))])
        except (FileNotFoundError, ProcessLookupError):
            break
        time.sleep(0.01)
    assert process.wait() == 0, process.stderr.read() if process.stderr else ""
    return peak


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_anonymous_memory_does_not_follow_the_pool(tmp_path: Path) -> None:
    peaks = {}
    for replicas in (1, REPLICAS):
        run = tmp_path / str(replicas)
        inputs = write_dataset(run, "a", ROWS, size=SIZE)
        pool = write_pool(run, "drawn", "a", replicas)
        arm = {"name": "supplemented", "real": "a", "synthetic": "drawn"}
        job = train_job(run, inputs, arm, ratio=100 * replicas, pool_inputs=pool)
        peaks[replicas] = peak_anonymous_bytes(command_of("train_downstream", job))
    pool_bytes = (REPLICAS - 1) * (ROWS * 3 // 5) * SIZE * SIZE
    grown = peaks[REPLICAS] - peaks[1]
    assert grown < pool_bytes / 4, f"{grown / 2**20:.0f} MB more for a pool larger by {pool_bytes / 2**20:.0f} MB"
