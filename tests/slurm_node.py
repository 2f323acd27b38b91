"""A real Slurm cluster of one node on loopback, for tests: no systemd, no cgroups, no accounting database.

Its GPUs are pretended (character devices that nobody opens) but scheduled for real: a job gets its own
CUDA_VISIBLE_DEVICES and waits where none is free. The daemons are children of this process and end with it.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PACKAGES = ("munge", "slurm-client", "slurmctld", "slurmd")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "srun")
CLIENTS = ("sacct", "sacctmgr", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
DEVICES = ("/dev/null", "/dev/zero", "/dev/full")  # one character device stands for each pretended GPU
CPUS, MEMORY_MB = 16, 120_000  # what the node claims to have, whatever the machine has
PATIENCE_SECONDS = 60.0
LONGEST_SOCKET_PATH = 80  # a unix socket's path holds about 100 characters
PR_SET_PDEATHSIG = 1  # prctl(2): signal for the child when its parent dies
POLICY = Path("/usr/sbin/policy-rc.d")

SLURM_CONF = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
{listen}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits for the credentials of its first run to expire: by default two minutes.
AuthInfo=socket={folder}/munge.sock,cred_expire=10
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
# A job over its memory is killed; looked at every 2 s.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
# How long squeue still knows a job that has ended.
MinJobAge=300
KillWait=10
InactiveLimit=0
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobcomp.txt
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=node1 NodeAddr=127.0.0.1 CPUs={cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 \
RealMemory={memory} Gres=gpu:fake:{gpus} State=UNKNOWN
PartitionName=all Nodes=node1 Default=YES MaxTime=1-0 DefaultTime=10 State=UP
"""
GRES_CONF = """\
AutoDetect=off
NodeName=node1 Name=gpu Type=fake File={devices} Flags=nvidia_gpu_env
"""


class SlurmMissing(Exception):
    """Slurm cannot be had here; the message says why."""


class SlurmNode:
    """One node with three pretended GPUs; `start` and `stop`, or a `with` block."""

    def __init__(self, folder: Path) -> None:
        if len(str(folder)) > LONGEST_SOCKET_PATH:
            raise SlurmMissing(f"the folder's path is too long for a unix socket: {folder}")
        self.folder = folder
        self.daemons: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment with the cluster's clients first on PATH."""
        path = os.pathsep.join([str(self.folder / "bin"), os.environ.get("PATH", ""), SYSTEM_PATH])
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        return {**kept, "PATH": path}

    def __enter__(self) -> "SlurmNode":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Install what is missing, configure, start, and wait until the node is idle."""
        install()
        self._configure()
        conf, munge = str(self.folder / "slurm.conf"), str(self.folder / "munge.sock")
        try:
            self._spawn(
                "munged", "--foreground", "--num-threads=2", f"--key-file={self.folder}/munge.key",
                f"--socket={munge}", f"--pid-file={self.folder}/munged.pid", f"--seed-file={self.folder}/munge.seed",
            )  # fmt: skip
            wait_for("munged", lambda: self._alive() and self._answers("munge", "-S", munge, "-n"))
            self._spawn("slurmctld", "-D", "-i", "-f", conf)
            wait_for("slurmctld", lambda: self._alive() and self._answers("scontrol", "ping"))
            self._spawn("slurmd", "-D", "-N", "node1", "-f", conf)
            wait_for("an idle node", lambda: self._alive() and self.ask("sinfo", "-h", "-o", "%T").strip() == "idle")
        except BaseException:
            logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.out"))
            self.stop()
            print(logs)
            raise

    def stop(self) -> None:
        """Cancel all jobs, wait for their ends, and stop the daemons, youngest first."""
        if len(self.daemons) > 1 and self._answers("scancel", "--full", "--user", str(os.getuid())):
            deadline = time.monotonic() + PATIENCE_SECONDS
            while self.ask("squeue", "-h", "-t", "R,CG,PD").strip() and time.monotonic() < deadline:
                time.sleep(0.1)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.daemons = []

    def ask(self, *command: str) -> str:
        """Run a client and return what it prints; nothing where it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else ""

    def finished(self) -> list[dict[str, str]]:
        """Return one {JobId, JobState, StartTime, EndTime, Tres, …} for each job run that has ended, in order."""
        path = self.folder / "jobcomp.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [dict(item.split("=", 1) for item in line.split() if "=" in item) for line in lines]

    def _alive(self) -> bool:
        """True; AssertionError once a daemon has ended by itself."""
        ended = [daemon.args for daemon in self.daemons if daemon.poll() is not None]
        assert not ended, f"ended by itself: {ended}"
        return True

    def _answers(self, *command: str) -> bool:
        return subprocess.run(command, env=self.environment, capture_output=True).returncode == 0

    def _spawn(self, *command: str) -> None:
        output = (self.folder / f"{command[0]}.out").open("ab")
        environment = {**self.environment, "SLURM_CONF": str(self.folder / "slurm.conf")}
        with output:
            daemon = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        self.daemons.append(daemon)

    def _configure(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)  # munged refuses a socket that not everyone can reach
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        host = socket.gethostname().split(".")[0]
        try:
            local = socket.gethostbyname(host).startswith("127.")
        except OSError as error:
            raise SlurmMissing(f"this machine's name, {host}, does not resolve") from error
        text = SLURM_CONF.format(
            host=host, ports=free_ports(2), folder=self.folder, cpus=CPUS, memory=MEMORY_MB, gpus=len(DEVICES),
            user=os.environ.get("USER") or subprocess.check_output(["id", "-un"], text=True).strip(),
            # Daemons listen on the address of the machine's own name: on loopback alone where that is it.
            listen="CommunicationParameters=NoCtldInAddrAny,NoInAddrAny" if local else "",
        )  # fmt: skip
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "gres.conf").write_text(GRES_CONF.format(devices=",".join(DEVICES)))
        # Snakemake's plugin drops SLURM_CONF inside a job, so each client on PATH brings its own.
        for name in CLIENTS:
            client = self.folder / "bin" / name
            client.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec /usr/bin/{name} "$@"\n')
            client.chmod(0o755)


def install() -> None:
    """Install Debian's Slurm if it is missing. Raises SlurmMissing where that is not possible."""
    if all(shutil.which(name, path=SYSTEM_PATH) for name in PROGRAMS):
        return
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        raise SlurmMissing(f"Slurm is not installed; as root: apt-get install {' '.join(PACKAGES)}")
    held_back = not POLICY.exists()
    if held_back:  # the packages' own services must not start
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
            subprocess.run(["apt-get", "-qq", *command], env=environment, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise SlurmMissing(f"apt-get could not install {' '.join(PACKAGES)}: {error.stderr[-300:]}") from error
    finally:
        if held_back:
            POLICY.unlink()


def wait_for(what: str, happened: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until `happened()` is true; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"gave up waiting for {what}"
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Return free TCP ports on loopback."""
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def _end_with_parent() -> None:
    """Ask the kernel to end this child when the tests' process dies, however it dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
