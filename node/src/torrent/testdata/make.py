#!/usr/bin/env python3
"""Makes torrents with libtorrent and says what libtorrent reads in them.

  make.py OUT [SALT]     writes OUT/CASE.torrent for each case, and OUT/cases.json

The committed files beside this script were made by `make.py .` (Debian's python3-libtorrent
2.0.8). The content is not kept: it is SHA-256 in counter mode over SALT and the file's path, so
a test makes the same again. With a SALT other than empty the sizes are other ones as well.
"""
import hashlib, json, os, shutil, sys, tempfile

import libtorrent as lt

PIECE = 64 * 1024
LEAF = 16 * 1024


def content(salt, path, length):
    out = bytearray()
    block = 0
    while len(out) < length:
        out += hashlib.sha256(f"{salt}\0{path}\0{block}".encode()).digest()
        block += 1
    return bytes(out[:length])


def tree(salt):
    """A folder of files around every edge: nothing, a leaf, a piece, and one byte beside them."""
    sizes = [0, 1, LEAF - 1, LEAF, LEAF + 1, 3 * LEAF + 1, PIECE - 1, PIECE, PIECE + 1,
             2 * PIECE, 3 * PIECE, 5 * PIECE + LEAF + 7]
    if salt:
        odd = int.from_bytes(hashlib.sha256(salt.encode()).digest()[:4], "big")
        sizes = [size + (odd >> i) % 40000 if i % 2 else size for i, size in enumerate(sizes)]
    folders = ["", "a/", "a/b/", "z/y/x/", "فیلم/", ""]
    return [(f"{folders[i % len(folders)]}{i:02} odd.bin", size) for i, size in enumerate(sizes)]


def cases(salt):
    flags = lt.create_torrent
    many = tree(salt)
    one = [many[-1]]
    small = [many[1]]
    leaves = [many[5]]
    for version, flag in [("v1", flags.v1_only), ("hybrid", 0), ("v2", flags.v2_only)]:
        yield f"{version}-multi", many, flag
        yield f"{version}-one", one, flag
        yield f"{version}-tiny", small, flag
        yield f"{version}-small", leaves, flag
    yield "v1-padded", many, flags.v1_only | flags.canonical_files


def make(salt, name, files, flags, out, folder):
    root = os.path.join(folder, name)
    storage = lt.file_storage()
    single = len(files) == 1
    for path, size in files:
        path = os.path.basename(path) if single else path
        full = os.path.join(folder, path) if single else os.path.join(root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb") as file:
            file.write(content(salt, path, size))
        storage.add_file(path if single else f"{name}/{path}", size)
    torrent = lt.create_torrent(storage, PIECE, flags)
    torrent.add_tracker("udp://tracker.example:6969/announce", 0)
    torrent.add_tracker("http://tracker.example/announce?key=1&x=2", 1)
    torrent.add_url_seed("https://seed.example/files/")
    lt.set_piece_hashes(torrent, folder)
    generated = torrent.generate()
    generated.pop(b"creation date", None)
    raw = lt.bencode(generated)
    with open(os.path.join(out, f"{name}.torrent"), "wb") as file:
        file.write(raw)
    return describe(raw)


def describe(raw):
    info = lt.torrent_info(lt.bdecode(raw))
    hashes = info.info_hashes()
    files = info.files()
    return {
        "name": info.name(),
        "v1": str(hashes.v1) if hashes.has_v1() else None,
        "v2": str(hashes.v2) if hashes.has_v2() else None,
        "piece_length": info.piece_length(),
        "piece_count": info.num_pieces(),
        "magnet": lt.make_magnet_uri(info),
        "files": [{
            "path": files.file_path(i),
            "offset": files.file_offset(i),
            "length": files.file_size(i),
            "padding": bool(files.file_flags(i) & lt.file_flags_t.flag_pad_file),
            "root": str(files.root(i)) if hashes.has_v2() else None,
        } for i in range(files.num_files())],
    }


def main():
    out = sys.argv[1]
    salt = sys.argv[2] if len(sys.argv) > 2 else ""
    said = {}
    for name, files, flags in cases(salt):
        folder = tempfile.mkdtemp()
        try:
            said[name] = make(salt, name, files, flags, out, folder)
        finally:
            shutil.rmtree(folder)
    with open(os.path.join(out, "cases.json"), "w") as file:
        json.dump({"libtorrent": lt.version, "salt": salt, "cases": said}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
