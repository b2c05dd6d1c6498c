#!/usr/bin/env python3
"""Says whether libtorrent takes a torrent that was made elsewhere, and would have made the same.

  compare.py FILES.json TORRENT

FILES.json is {"name", "piece_length", "files": [[path, length], …]}, without folders above the
files if it is one file of that name; their content is what make.py writes. Prints "same", or how
the two differ.
"""
import json, os, sys, tempfile

import libtorrent as lt

from make import content


def main():
    with open(sys.argv[1]) as file:
        said = json.load(file)
    with open(sys.argv[2], "rb") as file:
        raw = file.read()
    info = lt.torrent_info(lt.bdecode(raw))
    assert info.is_valid() and info.info_hashes().has_v1() and info.info_hashes().has_v2()
    name, files = said["name"], said["files"]
    single = [path for path, _ in files] == [name]
    storage = lt.file_storage()
    with tempfile.TemporaryDirectory() as folder:
        for path, length in files:
            inside = path if single else f"{name}/{path}"
            full = os.path.join(folder, inside)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "wb") as file:
                file.write(content("", path, length))
            storage.add_file(inside, length)
        torrent = lt.create_torrent(storage, said["piece_length"])
        lt.set_piece_hashes(torrent, folder)
    theirs, ours = torrent.generate(), lt.bdecode(raw)
    for part in [b"info", b"piece layers"]:
        if lt.bencode(theirs[part]) != lt.bencode(ours[part]):
            keys = set(theirs[part]) | set(ours[part])
            differ = {key: (theirs[part].get(key), ours[part].get(key)) for key in keys
                      if theirs[part].get(key) != ours[part].get(key)}
            print(f"{part}: (libtorrent, ours) {differ}")
            return
    print("same")


if __name__ == "__main__":
    main()
