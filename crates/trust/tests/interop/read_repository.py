"""Reads a repository with python-tuf's client: read_repository.py FOLDER ROOT TARGET; prints the target's SHA-256.

Serves FOLDER on a port of its own for as long as that takes.
"""

import functools
import hashlib
import sys
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tuf.ngclient import Updater


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def main(folder: str, root: Path, target: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with tempfile.TemporaryDirectory() as scratch:
        updater = Updater(
            metadata_dir=f"{scratch}/metadata", metadata_base_url=f"{url}/metadata/",
            target_dir=scratch, target_base_url=f"{url}/targets/", bootstrap=root.read_bytes(),
        )
        updater.refresh()
        info = updater.get_targetinfo(target)
        if info is None:
            raise SystemExit("target not found")
        path = updater.download_target(info, filepath=f"{scratch}/target")
        print(hashlib.sha256(Path(path).read_bytes()).hexdigest())


main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
