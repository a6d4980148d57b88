#!/usr/bin/env python3
"""Reads Mach-O files, for a machine that has no otool: what `make macos` made must run on a Mac that nobody here has.

macho.py check FILE... --system TBD... --with DYLIB...   fails on what would keep FILE from loading there
macho.py stub INSTALL-NAME FILE...                        a .tbd of what the FILEs import from that library
"""

import argparse
import collections
import pathlib
import re
import struct
import sys

MAGIC_64, CPU_ARM64 = 0xFEEDFACF, 0x0100000C
TYPES = {1: "object", 2: "executable", 6: "dylib", 8: "bundle"}
SYMTAB, LOAD_DYLIB, ID_DYLIB, LOAD_WEAK, REEXPORT, RPATH, SIGNATURE, BUILD_VERSION = (
    0x2, 0xC, 0xD, 0x80000018, 0x8000001F, 0x8000001C, 0x1D, 0x32)
MACOS, ADHOC = 1, 0x2
STAB, TYPE_MASK, UNDEFINED, EXTERNAL, WEAK_IMPORT = 0xE0, 0x0E, 0x0, 0x1, 0x40


class Broken(Exception):
    """The file is not what it should be."""


def version(v):
    return v >> 16, v >> 8 & 0xFF


class MachO:
    """Of one 64-bit file: type, minos, libraries (in the order that symbols refer to them), rpaths, symbols, signature."""

    def __init__(self, path):
        self.path, self.bytes = pathlib.Path(path), pathlib.Path(path).read_bytes()
        magic, self.cpu, _, kind, n_commands, size, self.flags, _ = self.unpack("<8I", 0)
        if magic != MAGIC_64:
            raise Broken(f"{path}: not a 64-bit Mach-O file")
        self.type = TYPES.get(kind, str(kind))
        self.minos = self.install_name = self.signature = None
        self.libraries, self.rpaths, self.undefined, self.exported = [], [], [], set()
        at = 32
        for _ in range(n_commands):
            command, length = self.unpack("<2I", at)
            if length < 8 or at + length > 32 + size:
                raise Broken(f"{path}: load command at byte {at} does not fit")
            self.command(command, at)
            at += length

    def unpack(self, form, at):
        try:
            return struct.unpack_from(form, self.bytes, at)
        except struct.error:
            raise Broken(f"{self.path}: ends before byte {at + struct.calcsize(form)}") from None

    def text(self, at):
        return self.bytes[at:self.bytes.index(b"\0", at)].decode()

    def command(self, command, at):
        if command in (LOAD_DYLIB, LOAD_WEAK, REEXPORT):
            self.libraries.append(self.text(at + self.unpack("<I", at + 8)[0]))
        elif command == ID_DYLIB:
            self.install_name = self.text(at + self.unpack("<I", at + 8)[0])
        elif command == RPATH:
            self.rpaths.append(self.text(at + self.unpack("<I", at + 8)[0]))
        elif command == BUILD_VERSION:
            platform, minos = self.unpack("<2I", at + 8)
            self.minos = version(minos) if platform == MACOS else None
        elif command == SIGNATURE:
            self.signature = self.unpack("<2I", at + 8)
        elif command == SYMTAB:
            self.symbols(*self.unpack("<4I", at + 8))

    def symbols(self, table, n, strings, _):
        for i in range(n):
            name, kind, _, desc, _ = self.unpack("<IBBHQ", table + 16 * i)
            if kind & STAB or not kind & EXTERNAL:
                continue
            if kind & TYPE_MASK == UNDEFINED:
                self.undefined.append((self.text(strings + name), desc >> 8 & 0xFF, bool(desc & WEAK_IMPORT)))
            else:
                self.exported.add(self.text(strings + name))

    def imports(self):
        """(symbol, the library that it is looked up in, whether it may be missing)"""
        for symbol, ordinal, weak in self.undefined:
            yield symbol, self.libraries[ordinal - 1] if 0 < ordinal <= len(self.libraries) else None, weak


def check_signature(m):
    """arm64 macOS kills what is not signed; an ad hoc signature, which anyone can make, will do. It covers the file."""
    if not m.signature:
        return ["no code signature: macOS would kill it"]
    at, size = m.signature
    if at + size > len(m.bytes) or struct.unpack_from(">I", m.bytes, at)[0] != 0xFADE0CC0:
        return ["its code signature is not inside the file"]
    n = struct.unpack_from(">I", m.bytes, at + 8)[0]
    slots = dict(struct.unpack_from(">2I", m.bytes, at + 12 + 8 * i) for i in range(n))
    directory = at + slots.get(0, 0)
    magic, _, _, flags, hashes, _, _, n_slots, limit = struct.unpack_from(">9I", m.bytes, directory)
    if 0 not in slots or magic != 0xFADE0C02:
        return ["its code signature has no code directory"]
    hash_size, kind, _, page_bits = struct.unpack_from(">4B", m.bytes, directory + 36)
    if not flags & ADHOC or kind != 2 or limit != at:
        return [f"its code signature is of another kind or does not cover the file up to itself ({limit} of {at} bytes)"]
    return check_pages(m, directory + hashes, n_slots, hash_size, 1 << page_bits, limit)


def check_pages(m, hashes, n, size, page, limit):
    import hashlib
    for i in range(n):
        ours = hashlib.sha256(m.bytes[i * page:min((i + 1) * page, limit)]).digest()[:size]
        if ours != m.bytes[hashes + i * size:hashes + (i + 1) * size]:
            return [f"it was changed after it was signed, at byte {i * page} or after: macOS would kill it"]
    return []


def is_system(library):
    return library.startswith(("/usr/lib/", "/System/Library/"))


def check(m, known, oldest):
    """What would keep m from loading. known: symbols by library; oldest: macOS that it must run on."""
    wrong = check_signature(m)
    if m.cpu != CPU_ARM64:
        wrong.append("not for arm64")
    if m.minos is None or m.minos > oldest:
        wrong.append(f"made for macOS {m.minos}, wanted {oldest} or older")
    for library in m.libraries:
        name = library.removeprefix("@rpath/")
        if not is_system(library) and name not in known:
            wrong.append(f"needs {library}, which is neither the system's nor packed with it")
        if library.startswith("@rpath/") and not m.rpaths:
            wrong.append(f"needs {library} and has no LC_RPATH")
    wrong += [f"looks for libraries in {p}, which only this machine has" for p in m.rpaths if not p.startswith("@")]
    for symbol, library, weak in m.imports():
        name = (library or "").removeprefix("@rpath/")
        if not weak and symbol not in known.get(name, ()):
            wrong.append(f"{symbol}: {library or 'no library'} is not known to have it")
    return wrong


def read_tbd(path):
    """install name -> symbols, of a text-based stub; libSystem's has its parts in further documents, which it re-exports."""
    documents = re.split(r"^---", path.read_text(), flags=re.M)
    found = collections.defaultdict(set)
    for document in documents:
        name = re.search(r"^install-name:\s*'?([^'\s]+)", document, re.M)
        if not name:
            continue
        for kind, listed in re.findall(r"^\s+(weak-symbols|symbols|objc-classes|thread-local-symbols):\s*\[(.*?)\]", document, re.M | re.S):
            for symbol in listed.replace("\n", " ").split(","):
                found[name[1]].add(symbol.strip().strip("'\""))
    first = next(iter(found), None)
    everything = set().union(*found.values()) if found else set()
    return {first: everything}


def print_stub(install_name, paths):
    symbols = sorted({s for p in paths for s, library, _ in MachO(p).imports() if library == install_name})
    if not symbols:
        raise Broken(f"none of {', '.join(map(str, paths))} needs {install_name}")
    print("--- !tapi-tbd\ntbd-version:     4\ntargets:         [ arm64-macos ]")
    print(f"install-name:    '{install_name}'\ncurrent-version: 1\ncompatibility-version: 1\nexports:")
    print("  - targets:         [ arm64-macos ]\n    symbols:         [ " + ",\n                       ".join(f"'{s}'" for s in symbols), "]\n...")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["check", "stub"])
    parser.add_argument("what", nargs="+")
    parser.add_argument("--system", nargs="*", type=pathlib.Path, default=[])
    parser.add_argument("--with", dest="packed", nargs="*", type=pathlib.Path, default=[])
    parser.add_argument("--oldest", default="14.0")
    o = parser.parse_args()
    if o.command == "stub":
        print_stub(o.what[0], o.what[1:])
        return 0
    known = {}
    for path in o.system:
        known.update(read_tbd(path))
    known.update({m.install_name.removeprefix("@rpath/"): m.exported for m in map(MachO, o.packed)})
    oldest, failed = tuple(map(int, o.oldest.split("."))), False
    for path in o.what:
        m = MachO(path)
        wrong = check(m, known, oldest)
        failed |= bool(wrong)
        print(f"{path}: {m.type}, macOS {m.minos[0]}.{m.minos[1]}, {len(m.undefined)} symbols of {len(m.libraries)} libraries"
              if not wrong else "\n".join(f"{path}: {w}" for w in wrong))
        print("\n".join(f"    {library}" for library in m.libraries))
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Broken, OSError) as e:
        sys.exit(f"macho.py: {e}")
