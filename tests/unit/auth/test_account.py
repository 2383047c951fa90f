"""Names, passwords and profiles."""

import pytest

from server.auth.account import (
    Login,
    Profile,
    canonical_email,
    canonical_name,
    canonical_password,
    canonical_phone,
    check_new_password,
    login_of,
    merged,
)
from server.auth.attempts import network_of
from server.refusal import Invalid
from server.text.language import Language


@pytest.mark.parametrize(
    "written",
    ["+22236123456", "36123456", "36 12 34 56", "0022236123456", "+222 36-12-34-56", "٣٦١٢٣٤٥٦", "(+222) 36.12.34.56"],
)
def test_a_number_of_the_country_may_be_written_in_any_usual_way(written: str) -> None:
    assert canonical_phone(written) == "+22236123456"


def test_a_foreign_number_keeps_its_country() -> None:
    assert canonical_phone("+221 77 123 45 67") == "+221771234567"


@pytest.mark.parametrize(
    "written", ["", "+", "1234567", "123456789", "+0123456789", "+1234567890123456", "abc", "+222x6123456", "²²²²²²²²"]
)
def test_what_is_no_number_is_refused(written: str) -> None:
    with pytest.raises(Invalid):
        canonical_phone(written)


def test_an_address_is_kept_in_lower_case() -> None:
    assert canonical_email("  Mariem.Mint@Example.ORG ") == "mariem.mint@example.org"


@pytest.mark.parametrize(
    "written", ["", "a", "a@b", "a@@b.c", "a b@c.d", "@c.d", "a@.d", "a@c..d", "a@c.d\nx", "x" * 250 + "@c.dd"]
)
def test_what_is_no_address_is_refused(written: str) -> None:
    with pytest.raises(Invalid):
        canonical_email(written)


@pytest.mark.parametrize("names", [("", ""), ("a@b.cd", "+22236123456"), (" ", " ")])
def test_an_account_has_one_name(names: tuple[str, str]) -> None:
    with pytest.raises(Invalid):
        login_of(*names)


def test_two_accounts_have_two_digests() -> None:
    assert Login(email="x").digest != Login(phone="x").digest


@pytest.mark.parametrize("password", ["12345678", "كلمة سرية", "x" * 128, "        "])
def test_a_password_needs_length_and_nothing_else(password: str) -> None:
    check_new_password(password, Login(email="a@b.cd"))


@pytest.mark.parametrize("password", ["mariem.mint", "Mariem.Mint@example.org", " mariem.mint "])
def test_the_name_is_no_password(password: str) -> None:
    with pytest.raises(Invalid):
        check_new_password(password, Login(email="mariem.mint@example.org"))


@pytest.mark.parametrize("password", ["36123456", "+22236123456", "22236123456"])
def test_the_number_is_no_password(password: str) -> None:
    with pytest.raises(Invalid):
        check_new_password(password, Login(phone="+22236123456"))


def test_two_keyboards_type_one_password() -> None:
    assert canonical_password("e\u0301") == canonical_password("\u00e9")


def test_a_name_loses_control_signs_and_keeps_its_letters() -> None:
    assert canonical_name(" مريم\x00\n منت ", "display_name", 100) == "مريم منت"


def test_a_name_too_long_is_refused() -> None:
    with pytest.raises(Invalid):
        canonical_name("x" * 101, "display_name", 100)


def test_only_what_the_mask_names_changes() -> None:
    before, change = Profile("A", Language.FRENCH), Profile("B", None)
    assert merged(before, change, ["display_name"]) == Profile("B", Language.FRENCH)
    assert merged(before, change, ["preferred_language"]) == Profile("A", None)
    assert merged(before, change, ["*"]) == change


@pytest.mark.parametrize("paths", [[], ["role"], ["display_name", "tier"], [""], ["user.display_name"]])
def test_a_mask_that_names_anything_else_is_refused(paths: list[str]) -> None:
    with pytest.raises(Invalid):
        merged(Profile("A"), Profile("B"), paths)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_an_ipv6_subscriber_counts_as_one_address(address: str, network: str) -> None:
    assert network_of(address) == network
