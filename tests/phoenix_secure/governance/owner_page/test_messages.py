"""Forms and cookies as they come, from browsers and from others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.governance.owner_page.messages import PageReply, PageRequest

FORM = "application/x-www-form-urlencoded"


def form_of(body: bytes, content_type: str = FORM) -> dict[str, str]:
    headers = {"content-type": content_type}
    return PageRequest(method="POST", target="/", headers=headers, body=body).form()


def test_form_is_read() -> None:
    assert form_of(b"link=a-b_c&form=%C3%A9") == {"link": "a-b_c", "form": "é"}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"link=a&link=b", FORM),
        (b"link", FORM),
        ("link=é".encode(), FORM),
        (b"&".join(b"a%d=1" % n for n in range(9)), FORM),
        (b"link=a", "text/plain"),  # what a form of another page can send without asking
        (b"link=a", "multipart/form-data"),
    ],
)
def test_anything_else_is_no_form(body: bytes, content_type: str) -> None:
    assert form_of(body, content_type) == {}


@given(st.binary(max_size=200))
def test_no_body_raises(body: bytes) -> None:
    assert isinstance(form_of(body), dict)


def test_every_cookie_of_a_name_is_seen() -> None:
    request = PageRequest(method="GET", target="/", headers={"cookie": "a=1; b=2;a=3; a; aa=4"})
    assert request.cookies("a") == ["1", "3", ""]


def test_every_reply_forbids_scripts_frames_and_copies() -> None:
    headers = PageReply(body=b"12", headers={"location": "/"}).all_headers()
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert (headers["cache-control"], headers["content-length"]) == ("no-store", "2")
