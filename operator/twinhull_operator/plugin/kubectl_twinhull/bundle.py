"""`support-bundle`: one archive with all that a bug report needs. Secrets are never asked for."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from .kubectl import CONTAINER, DONE, FAILED, MODULE_LABEL, RESOURCES, Kubectl, PluginError, find_module
from .logs import FETCH_TIMEOUT
from .redact import Redactor
from .show import Paint, details

OPERATOR_LABEL = "app.kubernetes.io/name=twinhull-operator"
LISTED = ("pods", "daemonsets", "configmaps", "services", "endpointslices")
README = """A support bundle of twinhull: module {module}, made at {time}.

Secrets were not read. In objects, the values of environment variables, commands, arguments, HTTP headers, foreign
annotations and foreign ConfigMaps are replaced by "<left out>"; in logs and messages, what looks like a password,
token or private key, and the values of variables whose names say so. {application}
Look through it before you send it: names of nodes, addresses and images are in it.
"""


class Bundle:
    """Collects files through a redactor, and tells what could not be had.

    Objects come first: what is taken out of them is taken out of the texts that follow.
    """

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._redactor = Redactor()
        self.files: dict[str, str] = {}
        self.missing: list[str] = []

    def put_object(self, path: str, value: Any) -> None:
        """An object as JSON."""
        self.files[path] = json.dumps(self._redactor.object(value), indent=2) + "\n"

    def put_text(self, path: str, text: str) -> None:
        """A text."""
        self.files[path] = self._redactor.text(text)

    def get(self, path: str, *words: str) -> list[dict[str, Any]]:
        """What `kubectl get` shows; its objects as they are, empty when they cannot be had."""
        try:
            found = self._kubectl.get(*words)
        except PluginError as error:
            self.missing.append(f"{path}: {error}")
            return []
        self.put_object(path, found)
        return list(found.get("items") or [])

    def run(self, path: str, *words: str, optional: bool = False) -> None:
        """What kubectl prints; that there is nothing ``optional`` is no lack."""
        try:
            result = self._kubectl.run(*words, timeout=FETCH_TIMEOUT)
            error = result.stderr.strip() if result.returncode else ""
        except PluginError as failed:
            error = str(failed)
        if not error:
            self.put_text(path, result.stdout)
        elif not optional:
            self.missing.append(f"{path}: {error}")

    def write(self, target: Path, root: str) -> None:
        """The archive, readable by its owner alone. Raises OSError."""
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for path, text in sorted(self.files.items()):
                content = text.encode()
                entry = tarfile.TarInfo(f"{root}/{path}")
                entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
                archive.addfile(entry, io.BytesIO(content))


def make_bundle(kubectl: Kubectl, arguments: argparse.Namespace) -> int:
    """`support-bundle`. What cannot be had (a node is down) is named in the archive and does not end it."""
    module = find_module(kubectl, arguments.name)
    namespace, name = module["metadata"]["namespace"], arguments.name
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    root = f"twinhull-{namespace}-{name}-{stamp}"
    target = Path(arguments.file or f"{root}.tar.gz")
    if target.exists():
        raise PluginError(FAILED, f"{target} exists already")
    bundle = Bundle(kubectl)
    bundle.put_object("module.json", module)
    bundle.put_text("status.txt", details(module, Paint(on=False), wide=True) + "\n")
    label = f"{MODULE_LABEL}={name}"
    found = {kind: bundle.get(f"objects/{kind}.json", kind, "-l", label) for kind in LISTED}
    bundle.get("objects/events.json", "events", "--field-selector", f"involvedObject.name={name}")
    for kind in RESOURCES:
        bundle.run(f"objects/{kind}.txt", "get", kind, "--all-namespaces")
    for node in module.get("spec", {}).get("nodes") or []:
        bundle.get(f"nodes/{node['name']}/node.json", "node", node["name"])
    bundle.run("version.json", "version", "-o", "json")
    spec = module.get("spec", {}).get("template", {}).get("spec", {})
    own = [container["name"] for container in spec.get("containers") or []] if arguments.application else []
    for pod in found["pods"]:
        _add_pod(bundle, pod, [CONTAINER, *own], arguments.lines)
    everywhere = ("pods", "--all-namespaces", "-l", OPERATOR_LABEL)
    for pod in bundle.get("operator/pods.json", *everywhere):
        where = f"--namespace={pod['metadata']['namespace']}"
        words = (pod["metadata"]["name"], where, "--timestamps", f"--tail={arguments.lines}")
        bundle.run(f"operator/{pod['metadata']['name']}.log", "logs", *words)
    application = f"Logs of the application are {'' if arguments.application else 'not '}in it."
    bundle.put_text(
        "README.txt", README.format(module=f"{namespace}/{name}", time=stamp, application=application)
    )
    if bundle.missing:
        bundle.put_text("MISSING.txt", "\n".join(bundle.missing) + "\n")
        print(f"{len(bundle.missing)} parts could not be had; MISSING.txt names them", file=sys.stderr)
    try:
        bundle.write(target, root)
    except OSError as error:
        raise PluginError(FAILED, f"{target}: {error.strerror}") from error
    print(json.dumps({"state": "done", "file": str(target)}) if arguments.output == "json" else target)
    return DONE


def _add_pod(bundle: Bundle, pod: dict[str, Any], containers: list[str], lines: int) -> None:
    name, folder = pod["metadata"]["name"], f"nodes/{pod['spec'].get('nodeName', 'none')}"
    status = ("exec", name, "-c", CONTAINER, "--", "twinhullctl", "status", "-o", "json")
    bundle.run(f"{folder}/sidecar-status.json", *status)
    for container in containers:
        words = ("logs", name, "-c", container, "--timestamps", f"--tail={lines}")
        bundle.run(f"{folder}/{container}.log", *words)
        # There is none of a container that never ended.
        bundle.run(f"{folder}/{container}.previous.log", *words, "--previous", optional=True)
