"""Grids, geodesics and fits over eight devices of one process, and over two processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).with_name("many_devices.py")
PATIENCE = 400
"""Seconds after which a process hangs: jaxlib's LAPACK may wait for the threads it runs on."""


def start(devices, *arguments):
    flags = os.environ.get("XLA_FLAGS", "")
    environment = os.environ | {
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "0",
    }
    return subprocess.Popen(
        [sys.executable, str(PROGRAMS), *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def succeed(processes, programs):
    """All end in time, and each says that every program is done."""
    try:
        written = [process.communicate(timeout=PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (out, err) in zip(processes, written, strict=True):
        assert process.returncode == 0, err[-6000:]
        assert [line for line in out.splitlines() if line.endswith(" done")] == [
            f"{name} done" for name in programs.split(",")
        ]


def two_processes(programs, directory="none"):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    succeed([start(2, programs, str(i), "2", port, str(directory)) for i in range(2)], programs)


@pytest.mark.parametrize("programs", ["grids,rows,refused,geodesics", "fits", "streams"])
def test_eight_devices(programs):
    succeed([start(8, programs)], programs)


def test_two_processes():
    two_processes("grids,rows,agreement,same_fit")


def test_an_interrupted_fit_of_two_processes_resumes(tmp_path):
    two_processes("resumed,alone", tmp_path)
