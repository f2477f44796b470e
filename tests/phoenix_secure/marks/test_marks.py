"""Marks in real files: read by C2PA's own reader and by Pillow, and by nobody fooled."""

from __future__ import annotations

import contextlib
import io
import stat
from pathlib import Path

import c2pa
import numpy as np
import pytest
from PIL import Image

from phoenix_secure.errors import ConfigError, DataError
from phoenix_secure.marks.check import Answer, check_marks
from phoenix_secure.marks.credentials import State, read_credentials
from phoenix_secure.marks.marker import Marker
from phoenix_secure.marks.origin import Origin, model_digest
from phoenix_secure.marks.signer import MarkSigner, certificate_file, key_file
from phoenix_secure.marks.xmp import SourceType, source_type_in, xmp_packet

ORIGIN = Origin(
    model="a1" * 32, run="b2" * 16, guarantee="(8, 1e-05)-differential privacy per record"
)
TERM = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def picture() -> Image.Image:
    return Image.fromarray(np.arange(784, dtype=np.uint8).reshape(28, 28))


@pytest.fixture(scope="module")
def signer() -> MarkSigner:
    return MarkSigner.new("run b2b2")


@pytest.fixture(scope="module")
def png(signer: MarkSigner) -> bytes:
    return Marker(ORIGIN, signer=signer)(picture())


def test_c2pa_s_own_reader_finds_the_manifest_and_pillow_the_packet(png: bytes) -> None:
    with c2pa.Reader("image/png", io.BytesIO(png)) as reader:
        assert reader.get_validation_state() == "Valid"
        assert TERM in reader.json()
        assert ORIGIN.guarantee in reader.json()
    with Image.open(io.BytesIO(png)) as opened:
        assert np.array_equal(np.asarray(opened), np.asarray(picture()))
        assert opened.getxmp()["xmpmeta"]["RDF"]["Description"]["DigitalSourceType"] == TERM


def test_what_was_said_is_read_back(png: bytes) -> None:
    found = read_credentials(png)
    assert (found.state, found.origin, found.problems) == (State.INTACT, ORIGIN, ())
    assert (found.signer, found.source_type) == ("run b2b2", "trainedAlgorithmicMedia")


def test_nothing_that_is_said_or_shown_can_change_unnoticed(png: bytes) -> None:
    """Any byte of the file. What fills up the signature's box is the one thing not signed."""
    pixels = np.asarray(picture())
    rng = np.random.default_rng(0)
    for place in rng.integers(8, len(png), 120).tolist():
        changed = bytearray(png)
        changed[place] ^= 1
        found = read_credentials(bytes(changed))
        if found.state is State.INTACT:
            assert (found.origin, found.source_type) == (ORIGIN, SourceType.GENERATED.value)
            # Pillow opens no file whose checksums are wrong.
            with contextlib.suppress(OSError), Image.open(io.BytesIO(changed)) as opened:
                assert np.array_equal(np.asarray(opened), pixels)


@pytest.mark.parametrize("where", [b"IDAT", b"iTXt"])
def test_a_changed_pixel_or_packet_is_found(png: bytes, where: bytes) -> None:
    changed = bytearray(png)
    changed[png.index(where) + 40] ^= 1
    assert read_credentials(bytes(changed)).state is State.CHANGED


def test_only_the_key_that_was_asked_for_is_trusted(png: bytes, signer: MarkSigner) -> None:
    assert read_credentials(png, trusted=signer.certificates).state is State.TRUSTED
    other = MarkSigner.new("run b2b2")  # the same name
    assert read_credentials(png, trusted=other.certificates).state is State.INTACT


def test_a_folder_is_checked_picture_by_picture(
    tmp_path: Path, png: bytes, signer: MarkSigner
) -> None:
    (tmp_path / "a.png").write_bytes(png)
    changed = bytearray(png)
    changed[png.index(b"IDAT") + 6] ^= 1
    (tmp_path / "b.png").write_bytes(changed)
    picture().save(tmp_path / "c.png")
    (tmp_path / "d.txt").write_text("no picture")
    picture().save(tmp_path / "e.jpg", xmp=xmp_packet(SourceType.COMPOSITE, tool="x").encode())
    found = {each.path.name: each for each in check_marks(tmp_path)}
    assert {name: each.answer for name, each in found.items()} == {
        "a.png": Answer.MARKED,
        "b.png": Answer.CHANGED,
        "c.png": Answer.UNMARKED,
        "d.txt": Answer.NO_PICTURE,
        "e.jpg": Answer.MARKED,
    }
    # Who asks for a run's own pictures is not content with anybody's mark.
    asked = {
        each.path.name: each.answer for each in check_marks(tmp_path, trusted=signer.certificates)
    }
    assert (asked["a.png"], asked["e.jpg"]) == (Answer.MARKED, Answer.CHANGED)


def test_nothing_to_check_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to check"):
        list(check_marks(tmp_path / "away"))


@pytest.mark.parametrize(
    "packet",
    [
        "",
        "no xml",
        "<x:xmpmeta xmlns:x='adobe:ns:meta/'>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        "<a/>" + " " * (1 << 20),
    ],
)
def test_what_is_no_packet_has_no_source_type(packet: str) -> None:
    assert source_type_in(packet) is None


@pytest.mark.parametrize("source", SourceType)
def test_a_packet_is_read_as_attribute_and_as_element(source: SourceType) -> None:
    packet = xmp_packet(source, tool='a "tool" <1>')
    assert source_type_in(packet) == source_type_in(packet.encode()) == source.value
    element = (
        "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF "
        "xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description "
        "xmlns:e='http://iptc.org/std/Iptc4xmpExt/2008-02-29/'>"
        f"<e:DigitalSourceType>{source.uri}</e:DigitalSourceType>"
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    assert source_type_in(element) == source.value


def test_the_run_s_key_stays_with_its_owner(tmp_path: Path) -> None:
    made = MarkSigner.of_run(tmp_path / "server", name="run")
    assert MarkSigner.of_run(tmp_path / "server", name="run") == made
    assert stat.S_IMODE(key_file(tmp_path / "server").stat().st_mode) == 0o600
    assert b"PRIVATE" not in certificate_file(tmp_path / "server").read_bytes()
    assert "PRIVATE" not in repr(made)
    key_file(tmp_path / "server").chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        MarkSigner.kept(tmp_path / "server")


def test_one_that_was_killed_between_key_and_certificate_begins_again(tmp_path: Path) -> None:
    made = MarkSigner.of_run(tmp_path, name="run")
    certificate_file(tmp_path).unlink()
    assert MarkSigner.of_run(tmp_path, name="run") != made


def test_a_model_s_digest_is_that_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "weights").write_bytes(b"w")
    one = model_digest(tmp_path)
    (tmp_path / "unet" / "weights").write_bytes(b"v")
    assert one != model_digest(tmp_path)
