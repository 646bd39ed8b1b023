# SPDX-License-Identifier: MIT
"""What holds for every test: no network, fixed seeds, output in a temporary folder."""

import ipaddress
import os
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

os.environ["MPLBACKEND"] = "agg"
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(ROOT / "build" / "home" / "hypothesis"))
# Processes that a test starts do not have the fixture below; no proxy listens on port 9.
os.environ.update(dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"))
# The same examples every time, however slow the machine.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _private_folders():
    # Imported here because jaxtyping's hook must see the first import of tsvlib.
    from compendium import runner

    runner.use_private_folders()


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Let a connection beyond this machine fail at once, with a message that names the fixture."""

    def guarded(original):
        def connect(self, address):
            if self.family != socket.AF_UNIX and not ipaddress.ip_address(address[0]).is_loopback:
                raise RuntimeError(f"tests must not use the network (tests/conftest.py blocked {address})")
            return original(self, address)

        return connect

    def numeric(original):
        def look_up(host, *args, **kwargs):
            try:
                ipaddress.ip_address(host)
            except ValueError as error:
                message = f"tests must not use the network (tests/conftest.py blocked a look-up of {host})"
                raise RuntimeError(message) from error
            return original(host, *args, **kwargs)

        return look_up

    monkeypatch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", numeric(socket.getaddrinfo))


@pytest.fixture(autouse=True)
def _seeded():
    import numpy as np
    import torch

    np.random.seed(0)  # noqa: NPY002  (code under test may call libraries that use the global generator)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def output(monkeypatch, tmp_path):
    """Send results, figures, caches and executed notebooks of the test to a folder of its own."""
    folder = tmp_path / "output"
    monkeypatch.setenv("TSV_OUTPUT", str(folder))
    monkeypatch.delenv("TSV_STAGE", raising=False)
    monkeypatch.delenv("TSV_PROGRESS", raising=False)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    return folder


@pytest.fixture(autouse=True)
def _nothing_read(monkeypatch):
    """Let each test be a process of its own in what it has read."""
    from compendium import provenance
    from compendium.worlds import protocol

    monkeypatch.setattr(provenance, "_READ", {})
    protocol.world_of.cache_clear()


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The output root of a finished, uninterrupted training of the smoke experts; tests must not change it."""
    from compendium import profiles
    from compendium.worlds import experts

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("trained")
        patch.setenv("TSV_OUTPUT", str(folder))
        experts.train_all(profiles.load("smoke"))
        return folder


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB, to be filled."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system cannot be mounted here: {error}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def foreign(tmp_path):
    """A file of the safetensors package, which holds ``foreign.state()``."""
    from foreign import state
    from safetensors.torch import save_file

    path = tmp_path / "foreign.safetensors"
    save_file(state(), path, metadata={"format": "pt"})
    return path
