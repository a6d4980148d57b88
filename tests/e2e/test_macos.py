"""What `make macos` made for Macs, as far as that can be seen without one; and that the looking would find what it looks for."""

import pathlib
import struct
import sys
import tarfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "macos"))
import macho  # noqa: E402

MADE, CACHE = ROOT / "build" / "macos", ROOT / ".macos"
pytestmark = pytest.mark.skipif(not (MADE / "mlx.dylib").exists(), reason="`make macos` makes it")


@pytest.fixture(scope="module")
def known():
    """Which library of a Mac has which symbols."""
    tbds = [CACHE / "zig/lib/libc/darwin/libSystem.tbd", CACHE / "root/lib/libc++.1.tbd", *(ROOT / "tools/macos/stubs").glob("*.tbd")]
    all = {name: symbols for tbd in tbds for name, symbols in macho.read_tbd(tbd).items()}
    return {**all, "libmlx.dylib": macho.MachO(CACHE / "mlx/lib/libmlx.dylib").exported}


def wrong(path, known, oldest=(14, 0)):
    return macho.check(macho.MachO(path), known, oldest)


@pytest.mark.parametrize("name", ["loam", "mlx.dylib"])
def test_would_load(known, name):
    m = macho.MachO(MADE / name)
    assert macho.check(m, known, (14, 0)) == []
    assert m.cpu == macho.CPU_ARM64 and m.minos == (14, 0)
    assert {lib for lib in m.libraries if not macho.is_system(lib)} == ({"@rpath/libmlx.dylib"} if name == "mlx.dylib" else set())
    assert m.type == ("dylib" if name == "mlx.dylib" else "executable")


def test_substrate(known):
    m = macho.MachO(MADE / "mlx.dylib")
    assert m.rpaths == ["@loader_path"] and m.install_name == "@rpath/mlx.dylib"
    assert {"_loam_substrate_entry", "_loam_substrate_suits"} <= m.exported
    # One libc++ for MLX and its caller, or an exception of the one would not be caught in the other.
    assert ("__ZTISt9exception", "/usr/lib/libc++.1.dylib") in [(s, lib) for s, lib, _ in m.imports()]


def test_symbols_that_nobody_has(known):
    without = {**known, "libmlx.dylib": set()}
    assert any("@rpath/libmlx.dylib is not known to have it" in w for w in wrong(MADE / "mlx.dylib", without))
    assert any("neither the system's nor packed" in w for w in wrong(MADE / "mlx.dylib", {k: v for k, v in known.items() if k != "libmlx.dylib"}))


def test_made_for_a_newer_macos(known):
    assert any("made for macOS (14, 0)" in w for w in wrong(MADE / "loam", known, oldest=(13, 0)))


def changed(tmp_path, change):
    data = bytearray((MADE / "mlx.dylib").read_bytes())
    change(data)
    path = tmp_path / "changed.dylib"
    path.write_bytes(data)
    return path


def command_at(data, wanted):
    at = 32
    while struct.unpack_from("<I", data, at)[0] != wanted:
        at += struct.unpack_from("<I", data, at + 4)[0]
    return at


def test_one_bit_after_signing(tmp_path, known):
    def flip(data):
        data[len(data) // 3] ^= 1
    assert any("changed after it was signed" in w for w in wrong(changed(tmp_path, flip), known))


def test_no_signature(tmp_path, known):
    def hide(data):
        struct.pack_into("<I", data, command_at(data, macho.SIGNATURE), 0x1B)  # LC_UUID
    assert "no code signature: macOS would kill it" in wrong(changed(tmp_path, hide), known)


def test_path_of_this_machine(tmp_path, known):
    def point(data):
        at = command_at(data, macho.RPATH)
        offset = struct.unpack_from("<I", data, at + 8)[0]
        data[at + offset:at + offset + 7] = b"/tmp/x\0"
    assert any("which only this machine has" in w for w in wrong(changed(tmp_path, point), known))


def test_cut_short(tmp_path):
    path = tmp_path / "short"
    path.write_bytes((MADE / "loam").read_bytes()[:100])
    with pytest.raises(macho.Broken, match="ends before byte|does not fit"):
        macho.MachO(path)


def test_tarball():
    paths = list(MADE.glob("loam-*-macos-arm64.tar.gz"))
    assert len(paths) == 1
    with tarfile.open(paths[0]) as tar:
        files = {pathlib.PurePath(*pathlib.PurePath(m.name).parts[1:]).as_posix(): m for m in tar if m.isfile()}
        assert len({m.split("/")[0] for m in tar.getnames()}) == 1
        for made, packed in (("loam", "bin/loam"), ("mlx.dylib", "lib/loam/mlx.dylib")):
            assert tar.extractfile(files[packed]).read() == (MADE / made).read_bytes()
    assert {"lib/loam/libmlx.dylib", "lib/loam/mlx.metallib", "README.md", "LICENSE", "licences/mlx.txt", "licences/openssl.txt"} <= set(files)
    assert files["bin/loam"].mode & 0o777 == 0o755
