"""Makes a TUF repository with python-tuf: make_repository.py FOLDER.

Two of three root keys (ed25519, ecdsa and rsa), a delegated role `acme` for `acme/*/*`, root version 2 with a new
timestamp key. Files lie as a web server would serve them: FOLDER/metadata, FOLDER/targets; FOLDER/1.root.json is the
root to pin.
"""

import hashlib
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole, Delegations, Key, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp,
)


def main(folder: Path) -> None:
    metadata, targets_folder = folder / "metadata", folder / "targets" / "acme" / "blinky"
    metadata.mkdir(parents=True)
    targets_folder.mkdir(parents=True)
    expires = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=10)

    root_signers = [CryptoSigner.generate_ed25519(), CryptoSigner.generate_ecdsa(), CryptoSigner.generate_rsa()]
    signers = {role: CryptoSigner.generate_ed25519() for role in ("timestamp", "snapshot", "targets", "acme")}

    root = Root(expires=expires, consistent_snapshot=True)
    for signer in root_signers:
        root.add_key(signer.public_key, "root")
    root.roles["root"].threshold = 2
    for role in ("timestamp", "snapshot", "targets"):
        root.add_key(signers[role].public_key, role)

    def write(role: object, name: str, role_signers: list) -> bytes:
        signed = Metadata(role)
        for signer in role_signers:
            signed.sign(signer, append=True)
        data = signed.to_bytes()
        (metadata / name).write_bytes(data)
        return data

    (folder / "1.root.json").write_bytes(write(root, "1.root.json", root_signers[1:]))
    root.revoke_key(signers["timestamp"].public_key.keyid, "timestamp")
    signers["timestamp"] = CryptoSigner.generate_ecdsa()
    root.add_key(signers["timestamp"].public_key, "timestamp")
    root.version = 2
    write(root, "2.root.json", root_signers[:2])

    def meta(version: int, data: bytes) -> MetaFile:
        return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})

    content, name = b"python made this", "acme/blinky/blinky-1.0.0.wasm"
    target = TargetFile.from_data(name, content, ["sha256", "sha512"])
    target.unrecognized_fields["custom"] = {"iotwasm": {"version": "1.0.0", "note": "\u00fcml\u00e4ut \\ \" \n"}}
    (targets_folder / f"{target.hashes['sha256']}.blinky-1.0.0.wasm").write_bytes(content)
    acme = write(Targets(expires=expires, targets={name: target}), "1.acme.json", [signers["acme"]])

    key: Key = signers["acme"].public_key
    role = DelegatedRole("acme", [key.keyid], 1, True, paths=["acme/*/*"])
    delegations = Delegations({key.keyid: key}, {"acme": role})
    targets = write(Targets(expires=expires, delegations=delegations), "1.targets.json", [signers["targets"]])

    listed = {"targets.json": meta(1, targets), "acme.json": meta(1, acme)}
    snapshot = write(Snapshot(expires=expires, meta=listed), "1.snapshot.json", [signers["snapshot"]])
    write(Timestamp(expires=expires, snapshot_meta=meta(1, snapshot)), "timestamp.json", [signers["timestamp"]])


main(Path(sys.argv[1]))
