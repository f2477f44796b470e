"""Time stamps of a service of our own (`openssl ts`), and answers that no service should give."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest

from phoenix_secure.compliance.timestamp import BadStamp, check_stamp, fetch_stamp
from phoenix_secure.errors import ConfigError
from time_stamping import TimeStampingService, served

CONTENT = b"an envelope"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> TimeStampingService:
    return TimeStampingService.create(tmp_path_factory.mktemp("tsa") / "own")


@pytest.fixture(scope="module")
def stamp(service: TimeStampingService) -> bytes:
    with served(service.answer) as url:
        return fetch_stamp(CONTENT, url=url)


def test_a_stamp_says_when_and_by_whom(service: TimeStampingService, stamp: bytes) -> None:
    found = check_stamp(stamp, CONTENT, certificates=service.root.read_bytes())
    assert abs(found.time - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=10)
    assert found.service == "CN=Clock of tests"


def test_the_service_s_own_certificate_may_be_pinned_beside_its_root(
    service: TimeStampingService, stamp: bytes, tmp_path: Path
) -> None:
    own = (service.folder / "own.pem").read_bytes()
    assert check_stamp(stamp, CONTENT, certificates=service.root.read_bytes() + own).service
    stranger = TimeStampingService.create(tmp_path / "other")
    other = (stranger.folder / "own.pem").read_bytes()
    with pytest.raises(BadStamp, match="does not match"):
        check_stamp(stamp, CONTENT, certificates=service.root.read_bytes() + other)


def test_a_root_is_enough_where_the_service_sends_what_lies_between(tmp_path: Path) -> None:
    service = TimeStampingService.create(
        tmp_path / "chained", root="Root " * 12, has_intermediate=True
    )
    with served(service.answer) as url:
        stamp = fetch_stamp(CONTENT, url=url)
    root = service.root.read_bytes()
    between = (service.folder / "chain.pem").read_bytes()
    for certificates in (root, root + between):
        assert check_stamp(stamp, CONTENT, certificates=certificates).service == "CN=Clock of tests"
    with pytest.raises(ConfigError, match="root"):
        check_stamp(stamp, CONTENT, certificates=between)


def test_an_answer_that_is_not_in_der_s_order_is_refused_when_asked(tmp_path: Path) -> None:
    service = TimeStampingService.create(tmp_path / "unsorted", has_intermediate=True)
    with served(service.answer) as url, pytest.raises(BadStamp, match="in DER"):
        fetch_stamp(CONTENT, url=url)


def test_a_stamp_of_other_bytes_does_not_hold(service: TimeStampingService, stamp: bytes) -> None:
    for certificates in (None, service.root.read_bytes()):
        with pytest.raises(BadStamp, match="other bytes"):
            check_stamp(stamp, CONTENT + b"!", certificates=certificates)


def test_a_stamp_of_another_service_does_not_hold(stamp: bytes, tmp_path: Path) -> None:
    stranger = TimeStampingService.create(tmp_path / "other")
    with pytest.raises(BadStamp, match="does not hold"):
        check_stamp(stamp, CONTENT, certificates=stranger.root.read_bytes())


def test_no_changed_byte_of_the_stamp_is_taken_for_another_time(
    service: TimeStampingService, stamp: bytes
) -> None:
    root = service.root.read_bytes()
    time = check_stamp(stamp, CONTENT, certificates=root).time
    text = time.strftime("%Y%m%d%H%M%S").encode()
    place = stamp.index(text)
    for at in range(place, place + len(text)):
        changed = bytearray(stamp)
        changed[at] = ord("0") + (changed[at] - ord("0") + 1) % 10
        with pytest.raises(BadStamp):
            check_stamp(bytes(changed), CONTENT, certificates=root)


@pytest.mark.parametrize(
    ("answer", "status", "word"),
    [
        (lambda question: b"", 200, "not an RFC 3161"),
        (lambda question: b"<html>busy</html>", 200, "not an RFC 3161"),
        (lambda question: bytes(1 << 17), 200, "more than a time stamp"),
        (lambda question: b"", 503, "gave no time stamp"),
        (lambda question: b"", 302, "gave no time stamp"),
    ],
)
def test_a_service_that_answers_something_else_is_named(
    answer: Callable[[bytes], bytes], status: int, word: str
) -> None:
    with served(answer, status=status) as url, pytest.raises(BadStamp, match=word):
        fetch_stamp(CONTENT, url=url)


def test_an_answer_to_another_question_is_refused(stamp: bytes) -> None:
    with served(lambda question: stamp) as url, pytest.raises(BadStamp, match="another question"):
        fetch_stamp(CONTENT, url=url)


def test_nobody_listening_is_named() -> None:
    with pytest.raises(BadStamp, match="gave no time stamp"):
        fetch_stamp(CONTENT, url="http://127.0.0.1:9/tsa")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/tsa", "tsa", "http://"])
def test_only_the_web_can_be_asked(url: str) -> None:
    with pytest.raises(ConfigError, match="--timestamp"):
        fetch_stamp(CONTENT, url=url)


@pytest.mark.parametrize("certificates", [b"", b"no certificate"])
def test_a_file_without_certificates_is_refused(certificates: bytes, stamp: bytes) -> None:
    with pytest.raises(ConfigError, match="--tsa-certificate"):
        check_stamp(stamp, CONTENT, certificates=certificates)


def test_the_service_s_certificate_alone_is_no_root(
    service: TimeStampingService, stamp: bytes
) -> None:
    with pytest.raises(ConfigError, match="root"):
        check_stamp(stamp, CONTENT, certificates=(service.folder / "own.pem").read_bytes())
