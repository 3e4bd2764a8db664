#!/usr/bin/env python3
"""Times python-tuf's client on a repository in a local folder.

usage: python_tuf.py REPOSITORY TARGET ROUNDS
Prints one line: the median, in milliseconds, of a refresh from the pinned root into an empty store, then look-up and
download of TARGET, verified. No network and no start of the interpreter is part of it.
"""

import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

BASE = "file:///"


class Folder(FetcherInterface):
    """Reads from a folder instead of a server."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            data = (self.root / url.removeprefix(BASE)).read_bytes()
        except FileNotFoundError as err:
            raise DownloadHTTPError(f"{url}: not found", 404) from err
        return iter([data])


def once(repository: pathlib.Path, target: str) -> float:
    with tempfile.TemporaryDirectory() as store, tempfile.TemporaryDirectory() as targets:
        root = (repository / "metadata" / "1.root.json").read_bytes()
        start = time.perf_counter()
        updater = Updater(
            metadata_dir=store,
            metadata_base_url=BASE + "metadata/",
            target_dir=targets,
            target_base_url=BASE + "targets/",
            fetcher=Folder(repository),
            config=UpdaterConfig(),
            bootstrap=root,
        )
        updater.refresh()
        info = updater.get_targetinfo(target)
        if info is None:
            raise SystemExit(f"{target} is not in the repository")
        updater.download_target(info, filepath=str(pathlib.Path(targets) / "payload.wasm"))
        return (time.perf_counter() - start) * 1000


def main() -> None:
    repository, target, rounds = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    once(repository, target)
    print(statistics.median(once(repository, target) for _ in range(rounds)))


main()
