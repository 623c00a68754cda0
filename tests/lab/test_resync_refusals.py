"""What must never be overwritten, and peers that must never be believed."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from tests.lab.disk import run
from tests.lab.mirrorfs_pair import engine_pair, wait_for
from twinhull_sidecar._mirrorfs import Engine, MirrorfsError


def test_an_unmounted_backing_directory_neither_serves_nor_is_synchronised(tmp_path: Path) -> None:
    with engine_pair(tmp_path) as pair:
        pair.serve()
        (pair.a.mount / "precious").write_text("precious")
        pair.in_sync()
        pair.b.stop()
        shutil.rmtree(pair.b.backing)
        with pytest.raises(MirrorfsError, match="not mounted, or was replaced"):
            Engine(json.dumps(pair.b.config))
        assert (pair.a.mount / "precious").read_text() == "precious"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"uid": "another-uid", "module": "test/other"}, ["test/module", "test/other", "another-uid"]),
        ({"key_hex": "ffeeddccbbaa99887766554433221100"}, ["different keys"]),
        ({"node": "c"}, ["expects"]),
    ],
    ids=["foreign module", "wrong key", "wrong node"],
)
def test_a_foreign_peer_is_refused_by_name(tmp_path: Path, options: dict[str, str], words: list[str]) -> None:
    with engine_pair(tmp_path) as pair:
        pair.b.config |= options
        pair.serve()
        wait_for("the refusal", lambda: pair.a.status()["link_error"] is not None)
        wait_for("the words", lambda: all(word in str(pair.a.status()["link_error"]) for word in words))
        assert pair.b.call("record")["fresh"]


def test_a_full_disk_on_the_secondary_is_told_and_mended(tmp_path: Path) -> None:
    """tmpfs of 4 MiB under the secondary's volume; the application goes on alone meanwhile."""
    with engine_pair(tmp_path) as pair:
        run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(pair.b.backing))
        try:
            pair.serve()
            pair.in_sync()
            (pair.a.mount / "small").write_bytes(os.urandom(1 << 20))
            data = os.urandom(8 << 20)
            writer = threading.Thread(target=lambda: (pair.a.mount / "big").write_bytes(data), daemon=True)
            writer.start()
            wait_for("dropped", lambda: pair.a.status()["dropped"] is not None)
            assert "No space left" in pair.a.status()["dropped"]
            assert not pair.b.status()["in_sync"]
            pair.a.call("go_alone")
            writer.join(20)
            assert not writer.is_alive(), "the application goes on alone"
            assert (pair.a.mount / "big").read_bytes() == data
            run("mount", "-o", "remount,size=64m", str(pair.b.backing))
            pair.in_sync(timeout=60)
            pair.assert_equal()
        finally:
            pair.close()
            run("umount", str(pair.b.backing), check=False)
