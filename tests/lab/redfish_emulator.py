"""The Redfish emulator of sushy-tools on the host ``client``: HTTPS, a password, a system for each node."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from pathlib import Path

import bcrypt

from tests.lab.netns import CLIENT, NODES, Lab
from twinhull_sidecar.config import Bmc

USER, PASSWORD = "fence", "correct horse"
PORT = 8443


class Emulator:
    """Its systems are only numbers: nothing loses its power when one is powered off."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self._lab, self._directory = lab, directory
        self._process: subprocess.Popen[bytes] | None = None
        self.systems = {node: str(uuid.uuid4()) for node in NODES}
        self.address = lab.address(CLIENT, "lan")
        self._write()

    def _write(self) -> None:
        directory = self._directory
        subprocess.run(
            [
                *(
                    "openssl",
                    "req",
                    "-x509",
                    "-newkey",
                    "rsa:2048",
                    "-nodes",
                    "-days",
                    "2",
                    "-subj",
                    "/CN=bmc",
                ),
                *("-addext", f"subjectAltName=IP:{self.address}"),
                *("-keyout", str(directory / "bmc.key"), "-out", str(directory / "bmc.crt")),
            ],
            check=True,
            capture_output=True,
        )
        digest = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        (directory / "htpasswd").write_text(f"{USER}:{digest}\n")
        state = directory / "state"
        state.mkdir()
        systems = [
            {"uuid": identity, "name": node, "power_state": "On", "external_notifier": False, "nics": []}
            for node, identity in self.systems.items()
        ]
        (directory / "emulator.conf").write_text(
            f"SUSHY_EMULATOR_AUTH_FILE = {str(directory / 'htpasswd')!r}\n"
            f"SUSHY_EMULATOR_STATE_DIR = {str(state)!r}\n"
            f"SUSHY_EMULATOR_FAKE_SYSTEMS = {systems!r}\n"
        )
        for node in NODES:
            secret = directory / f"bmc-{node}"
            secret.mkdir()
            (secret / "username").write_text(USER)
            (secret / "password").write_text(PASSWORD)
            (secret / "ca.crt").write_bytes((directory / "bmc.crt").read_bytes())

    def controllers(self) -> tuple[Bmc, ...]:
        """For the module's configuration."""
        endpoint = f"https://{self.address}:{PORT}"
        return tuple(
            Bmc(node, endpoint, str(self._directory / f"bmc-{node}"), f"/redfish/v1/Systems/{identity}")
            for node, identity in self.systems.items()
        )

    def set_password(self, node: str, password: str) -> None:
        """What the other node's sidecar takes for the password of ``node``'s controller."""
        (self._directory / f"bmc-{node}" / "password").write_text(password)

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        directory = self._directory
        argv = [sys.executable, "-m", "sushy_tools.emulator.main", "--fake", "--interface", self.address]
        argv += ["--port", str(PORT), "--config", str(directory / "emulator.conf")]
        argv += ["--ssl-certificate", str(directory / "bmc.crt"), "--ssl-key", str(directory / "bmc.key")]
        with (directory / "emulator.log").open("ab") as log:
            self._process = self._lab.spawn(CLIENT, argv, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((directory / "emulator.log").read_text()[-2000:])
            time.sleep(0.2)

    def _accepts(self) -> bool:
        listening = self._lab.run(CLIENT, "ss", "-Hltn", f"sport = :{PORT}")
        return bool(listening.strip())

    def stop(self) -> None:
        """End it: the controllers do not answer any more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        """Its requests and answers."""
        return (self._directory / "emulator.log").read_text()
