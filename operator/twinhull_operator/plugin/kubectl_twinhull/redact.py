"""Takes out of objects and texts what may be secret. What is not known to be harmless goes. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

REDACTED = "<left out>"
OWN_CONTAINER = re.compile(r"twinhull(-.*)?")
OWN_ANNOTATIONS = ("twinhull.dev/", "deployment.kubernetes.io/")
SECRET_NAME = re.compile(r"pass|secret|token|key|credential|auth|dsn|url|uri|conn", re.IGNORECASE)
SHORTEST_SECRET = 6
PATTERNS = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}"),  # a JSON Web Token
    re.compile(r"(?<=://)[^/\s:@\"]+:[^/\s@\"]+(?=@)"),  # a URL's user and password
    re.compile(r"(?i)(?<=bearer )[\w.~+/-]{8,}=*"),
    re.compile(r"(?i)(?<=password[=:])\s?[^\s\",;&]+"),
)


class Redactor:
    """Remembers what it took out of objects, to take it out of texts too."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def object(self, value: Any) -> Any:
        """A copy without values of environment variables, commands, arguments, headers and foreign annotations.

        Data of a Secret, should one come this way, goes as a whole.
        """
        if isinstance(value, list):
            return [self.object(item) for item in value]
        if not isinstance(value, dict):
            return self.text(value) if isinstance(value, str) else value
        if value.get("kind") == "Secret":
            return {"kind": "Secret", "metadata": {"name": value.get("metadata", {}).get("name")}}
        own = OWN_CONTAINER.fullmatch(str(value.get("name", ""))) is not None and "image" in value
        return {key: self._field(key, item, own=own) for key, item in value.items() if key != "managedFields"}

    def _field(self, key: str, value: Any, *, own: bool) -> Any:
        if key == "env" and not own and isinstance(value, list):
            return [self._variable(entry) for entry in value]
        if key in ("command", "args") and not own and value:
            for word in value if isinstance(value, list) else [value]:
                self._remember(str(word).partition("=")[2])
            return [REDACTED]
        if key == "httpHeaders":
            return [{"name": header.get("name"), "value": REDACTED} for header in value]
        return self._map(key, value) if isinstance(value, dict) else self.object(value)

    def _map(self, key: str, value: dict[str, Any]) -> Any:
        if key in ("volumeAttributes", "options"):
            return dict.fromkeys(value, REDACTED)
        if key == "annotations":
            return {k: v if k.startswith(OWN_ANNOTATIONS) else REDACTED for k, v in value.items()}
        if key == "data":
            return {name: self._document(text) for name, text in value.items()}
        return self.object(value)

    def _variable(self, entry: dict[str, Any]) -> dict[str, Any]:
        if "value" not in entry:
            return entry
        if SECRET_NAME.search(str(entry.get("name"))):
            self._remember(str(entry["value"]))
        return {**entry, "value": REDACTED}

    def _remember(self, word: str) -> None:
        if len(word) >= SHORTEST_SECRET:
            self._known.add(word)

    def _document(self, text: Any) -> Any:
        """A ConfigMap's text: the module's configuration is JSON; anything else goes."""
        try:
            return json.dumps(self.object(json.loads(text)), indent=2)
        except (TypeError, ValueError):
            return REDACTED

    def text(self, text: str) -> str:
        """The text without known secrets and without what looks like one."""
        for word in sorted(self._known, key=len, reverse=True):
            text = text.replace(word, REDACTED)
        for pattern in PATTERNS:
            text = pattern.sub(REDACTED, text)
        return text
