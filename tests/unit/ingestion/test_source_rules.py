"""Web sources: one spelling per address, the allow list, robots.txt and where pages are."""

import pytest

from server.ingestion.sources import links, robots
from server.ingestion.sources.address import canonical, require_allowed, same_site, site
from server.ingestion.sources.reach import Reach
from server.refusal import SourceRefused


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("HTTPS://Cours.Example:443/a", "https://cours.example/a"),
        ("http://cours.example", "http://cours.example/"),
        ("http://cours.example/a#top", "http://cours.example/a"),
        ("http://cours.example/a?utm_source=x&id=2&fbclid=y", "http://cours.example/a?id=2"),
        ("http://cours.example/leçon 1", "http://cours.example/le%C3%A7on%201"),
        ("http://cours.example/le%C3%A7on", "http://cours.example/le%C3%A7on"),
        ("http://cours.example:8080/", "http://cours.example:8080/"),
        ("http://مدرسة.example/", "http://xn--ogblgi1g.example/"),
    ],
)
def test_a_page_has_one_spelling(address: str, expected: str) -> None:
    assert canonical(address) == expected


def test_a_relative_link_is_resolved() -> None:
    assert canonical("../b?x=1", relative_to="http://cours.example/a/c") == "http://cours.example/b?x=1"


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "ftp://cours.example/",
        "gopher://cours.example/",
        "javascript:alert(1)",
        "http://user:secret@cours.example/",
        "http:///a",
        "http://[::1",
        "http://cours.example:99999/",
        "nothing",
        "http://cours.example/" + "a" * 3000,
    ],
)
def test_what_is_no_plain_web_address_is_refused(address: str) -> None:
    with pytest.raises(SourceRefused):
        canonical(address)


@pytest.mark.parametrize("address", ["https://cours.example/a", "https://www.cours.example/"])
def test_hosts_on_the_list_and_below_pass(address: str) -> None:
    require_allowed(address, ["Cours.example"])


@pytest.mark.parametrize(
    "address", ["https://evil.example/", "https://notcours.example/", "https://cours.example.evil.example/"]
)
def test_all_other_hosts_are_refused(address: str) -> None:
    with pytest.raises(SourceRefused):
        require_allowed(address, ["cours.example"])


def test_an_empty_list_allows_nothing() -> None:
    with pytest.raises(SourceRefused):
        require_allowed("https://cours.example/", [])


def test_a_site_is_its_scheme_host_and_port() -> None:
    assert site("http://cours.example:8080/a?b") == "http://cours.example:8080"
    assert same_site("http://cours.example/a", "https://cours.example/b")


RULES = b"""User-agent: *
Crawl-delay: 7
Disallow: /private/
Disallow: /*.pdf$
Sitemap: https://cours.example/sitemap.xml
"""


@pytest.mark.parametrize(
    ("path", "allowed"), [("/lesson", True), ("/private/a", False), ("/a.pdf", False), ("/a.pdf.html", True)]
)
def test_robots_rules_hold(path: str, allowed: bool) -> None:
    assert robots.parse(200, RULES).allow(f"https://cours.example{path}") is allowed


def test_the_crawl_delay_is_kept_within_our_limits() -> None:
    assert robots.parse(200, RULES).delay_seconds == 7
    assert robots.parse(200, RULES.replace(b"7", b"9999")).delay_seconds == robots.MAX_DELAY_SECONDS
    assert robots.parse(404, b"").delay_seconds == robots.MIN_DELAY_SECONDS


def test_the_sitemaps_it_names_are_known() -> None:
    assert robots.parse(200, RULES).sitemaps == ("https://cours.example/sitemap.xml",)


def test_without_robots_all_is_allowed_and_with_a_broken_server_nothing() -> None:
    assert robots.parse(404, b"").allow("https://cours.example/a")
    assert not robots.parse(503, b"").allow("https://cours.example/a")


def test_a_sitemap_names_pages() -> None:
    body = b"""<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
    <url><loc> https://cours.example/1 </loc></url><url><loc>https://cours.example/2</loc></url></urlset>"""
    assert links.sitemap(body) == (["https://cours.example/1", "https://cours.example/2"], [])


def test_a_sitemap_index_names_sitemaps() -> None:
    body = b"<sitemapindex><sitemap><loc>https://cours.example/s1.xml</loc></sitemap></sitemapindex>"
    assert links.sitemap(body) == ([], ["https://cours.example/s1.xml"])


@pytest.mark.parametrize("body", [b"", b"<html>", b"not xml", b"\x00\x01"])
def test_what_is_no_sitemap_names_nothing(body: bytes) -> None:
    assert links.sitemap(body) == ([], [])


def test_entities_of_a_sitemap_are_not_followed() -> None:
    body = b'<!DOCTYPE u [<!ENTITY x SYSTEM "file:///etc/passwd">]><urlset><url><loc>&x;</loc></url></urlset>'
    assert "root:" not in str(links.sitemap(body))


def test_the_links_of_a_page_are_found_once() -> None:
    markup = '<a href="/1">un</a><a href="/1">encore</a><a href="#top">haut</a><a href="mailto:a@b">x</a><a>y</a>'
    assert links.on_page(markup) == ["/1"]


def test_a_named_host_is_reached_at_public_addresses_only() -> None:
    hosts, policy = Reach(["cours.example", "intranet.example:8080"]).of("https://www.cours.example/a")
    assert list(hosts) == ["cours.example"]
    assert (policy.allowed_networks, policy.allowed_ports) == ((), frozenset({80, 443}))


@pytest.mark.parametrize("port", [22, 8080, 8443])
def test_a_named_host_is_reached_at_the_ports_of_the_web_alone(port: int) -> None:
    with pytest.raises(SourceRefused, match="port"):
        Reach(["cours.example"]).require(f"http://cours.example:{port}/")
    for address in ("http://cours.example/", "https://cours.example/", "https://cours.example:80/"):
        Reach(["cours.example"]).require(address)
    Reach(["cours.example", f"cours.example:{port}"]).require(f"http://cours.example:{port}/")


def test_a_place_of_the_intranet_is_reached_at_its_port_alone() -> None:
    hosts, policy = Reach(["cours.example", "Intranet.example:8080"]).of("http://intranet.example:8080/a")
    assert list(hosts) == ["intranet.example"]
    assert (policy.allowed_hosts, policy.allowed_ports) == (frozenset({"intranet.example"}), frozenset({8080}))


@pytest.mark.parametrize(
    "address",
    [
        "http://intranet.example/",
        "http://intranet.example:8081/",
        "http://www.intranet.example:8080/",
        "http://127.0.0.1:8080/",
        "http://other.example/",
    ],
)
def test_a_place_of_the_intranet_lets_no_other_in(address: str) -> None:
    with pytest.raises(SourceRefused):
        Reach(["intranet.example:8080"]).of(address)


def test_nothing_is_reached_that_nobody_named() -> None:
    with pytest.raises(SourceRefused):
        Reach().of("https://cours.example/")
