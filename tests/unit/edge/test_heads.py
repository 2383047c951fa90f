"""What is read from a call's metadata."""

from uuid import UUID, uuid4

import pytest

from server.edge import heads
from server.refusal import NotSignedIn


def test_a_canonical_uuid_is_kept_as_the_request_id():
    mine = uuid4()
    assert heads.request_id(str(mine)) == mine


@pytest.mark.parametrize(
    "given",
    [
        "",
        "1",
        "x" * 36,
        "7f0e3a522c4e4a529f430c7a2d0c8d11",
        "{7f0e3a52-2c4e-4a52-9f43-0c7a2d0c8d1",
        str(UUID(int=0)),
        "-" * 36,
        "é" * 36,
        "7f0e3a52-2c4e-4a52-9f43-0c7a2d0c8_11",
        "7f0e3a52-2c4e-4a52-9f43-0c7a2d0c8d1\u0661",
        "7f0e3a5-22c4e-4a52-9f43-0c7a2d0c8d11",
        "7f0e3a52-2c4e-4a52-9f43-0c7a2d0c-d11",
        "+f0e3a52-2c4e-4a52-9f43-0c7a2d0c8d11",
        " f0e3a52-2c4e-4a52-9f43-0c7a2d0c8d11",
    ],
)
def test_anything_else_is_replaced_by_a_new_one(given):
    made = heads.request_id(given)
    assert str(made) != given
    assert made.version == 4


def test_an_id_in_capitals_is_the_same_id_and_its_text_is_one():
    mine = uuid4()
    assert heads.request_id_and_text(str(mine).upper()) == (mine, str(mine))
    made, text = heads.request_id_and_text("")
    assert str(made) == text


def test_the_parts_are_picked_out_of_the_metadata():
    head = heads.read(
        (
            ("user-agent", "x"),
            ("authorization", "Bearer t"),
            ("x-request-id", "r"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("x-grpc-web", "1"),
        )
    )
    assert (head.request_id, head.forwarded_for, head.web) == ("r", "1.1.1.1,2.2.2.2", True)
    assert heads.bearer(head) == "t"


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "t"),),
        (("authorization", "Bearer"),),
        (("authorization", b"Bearer t"),),
        (("authorization", "Bearer t"), ("authorization", "Bearer t")),
        (("authorization", "Bearer " + "t" * 8192),),
    ],
    ids=["none", "no scheme", "no token", "bytes", "twice", "too long"],
)
def test_without_exactly_one_bearer_nobody_is_signed_in(metadata):
    with pytest.raises(NotSignedIn):
        heads.bearer(heads.read(metadata))
