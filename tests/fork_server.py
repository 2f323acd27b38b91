"""Starts the processes of test studies from one that has loaded the libraries: loading them is most of a small job.

A process that runs Snakemake, or a script of a job, is forked from one that holds third-party modules and nothing of
this project. Which code runs, with which arguments, folder and environment, is as if it had been started afresh.
`start()` is for tests; this file is also the program behind `python` in the jobs' PATH (`forward`), and the server.
"""

import array
import json
import os
import signal
import socket
import sys
import threading
import time

# Environment variables: the server's socket, the interpreter, and the `python` that jobs find in its place.
SOCKET, REAL, EXECUTABLE = "TEST_FORK_SOCKET", "TEST_FORK_REAL", "TEST_FORK_EXECUTABLE"
LIBRARIES = (
    "numpy", "pandas", "pyarrow.parquet", "pydantic", "yaml", "PIL.Image", "scipy.stats", "torch",
    "torch.nn.functional",
    "safetensors.torch", "matplotlib.figure", "jinja2", "pingouin", "sklearn.metrics", "diffusers.models",
    "accelerate", "snakemake.cli",
)  # fmt: skip
LENGTH_BYTES = 8


def request(path: str, arguments: list[str], folder: str, environment: dict[str, str], files: list[int]) -> int:
    """Have the server run `python ARGUMENTS` with three open files as its own; return the exit status.

    A signal that would stop this process is passed on.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        message = json.dumps({"arguments": arguments, "folder": folder, "environment": environment})
        data = message.encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
        connection.sendmsg([len(data).to_bytes(LENGTH_BYTES, "big")], rights)
        connection.sendall(data)
        pid = int(_read(connection, LENGTH_BYTES))
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no signals
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, lambda received, frame: os.kill(pid, received))
        return int(_read(connection, LENGTH_BYTES))


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionError("the fork server is gone")
        data += part
    return data


def serve(path: str) -> None:
    """Load the libraries, then fork a process for each request until this one is ended."""
    import gc
    import importlib

    # As `synthgain/__init__.py` does in a job before diffusers looks: else it is there for diffusers, and then not.
    sys.modules["transformers"] = None  # type: ignore[assignment]
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{path}.new")
        listener.listen(16)
        os.rename(f"{path}.new", path)  # whoever sees it there is heard
        while True:
            connection, _ = listener.accept()
            # One process waits for each job, so that requests can come side by side.
            if os.fork() == 0:
                listener.close()
                _answer(connection)
                return
            connection.close()
            _reap()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _answer(connection: socket.socket) -> None:
    """Read a request, run it in a child of this process, and answer with its status."""
    length, rights, _, _ = connection.recvmsg(LENGTH_BYTES, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    files = array.array("i", rights[0][2])
    message = json.loads(_read(connection, int.from_bytes(length, "big")))
    pid = os.fork()
    if pid == 0:
        connection.close()
        for target, source in enumerate(files):
            os.dup2(source, target)
        _run(**message)
        return
    connection.sendall(b"%8d" % pid)
    _, status = os.waitpid(pid, 0)
    connection.sendall(b"%8d" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _run(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Become `python ARGUMENTS`: `-m MODULE …` or `SCRIPT …`."""
    import runpy

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = [entry for entry in sys.path if entry != os.path.dirname(os.path.abspath(__file__))]
    if environment.get("PYTHONPATH"):
        sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    sys.executable = environment.get(EXECUTABLE, sys.executable)
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, folder)
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, os.path.dirname(os.path.abspath(arguments[0])))
        runpy.run_path(arguments[0], run_name="__main__")


def forward() -> None:
    """Be `python` for the jobs of a test study: the server runs their scripts, the real interpreter the rest."""
    arguments, environment = sys.argv[1:], dict(os.environ)
    real = environment[REAL]
    if not arguments or os.path.basename(os.path.dirname(arguments[0])) != "workflow_scripts":
        os.execv(real, [real, *arguments])
    status = request(environment[SOCKET], arguments, os.getcwd(), environment, [0, 1, 2])
    sys.exit(status if status >= 0 else 128 - status)


def start() -> dict[str, str]:
    """Start a server that ends with this process; return what its clients need in their environment."""
    import atexit
    import subprocess
    import tempfile
    from pathlib import Path

    folder = Path(tempfile.mkdtemp(prefix="fork-server-"))
    shim = folder / "python"
    shim.write_text(
        f"#!{sys.executable} -SE\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from fork_server import forward\nforward()\n"
    )
    shim.chmod(0o755)
    server = subprocess.Popen([sys.executable, __file__, str(folder / "socket")], stdin=subprocess.DEVNULL)
    atexit.register(server.wait)
    atexit.register(server.terminate)
    while not (folder / "socket").exists():
        assert server.poll() is None, "the fork server did not start"
        time.sleep(0.05)
    return {SOCKET: str(folder / "socket"), REAL: sys.executable, EXECUTABLE: str(shim)}


if __name__ == "__main__":
    serve(sys.argv[1])
