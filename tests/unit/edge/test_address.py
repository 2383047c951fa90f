"""From which address a call comes, and who is believed about it."""

from ipaddress import ip_network

import pytest

from server.edge.address import LOOPBACK, caller_address, subscriber


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("ipv4:203.0.113.7:50000", "203.0.113.7"),
        ("ipv6:%5B2001:db8::1%5D:50000", "2001:db8::1"),
        ("ipv6:[::1]:50000", "::1"),
        ("ipv6:[fe80::1%25eth0]:50000", "fe80::1"),
        ("ipv6:[::ffff:203.0.113.7]:1", "203.0.113.7"),
        ("unix:", "127.0.0.1"),
        ("unix:/tmp/edge.sock", "127.0.0.1"),
    ],
)
def test_a_peers_address(peer, expected):
    assert caller_address(peer, "") == expected


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("ipv4:203.0.113.7:1", "9.9.9.9", "203.0.113.7"),
        ("ipv4:127.0.0.1:1", "9.9.9.9", "9.9.9.9"),
        ("ipv4:127.0.0.1:1", "spoofed, 9.9.9.9", "9.9.9.9"),
        ("ipv4:127.0.0.1:1", "8.8.8.8, 9.9.9.9", "9.9.9.9"),
        ("ipv4:127.0.0.1:1", "8.8.8.8, 127.0.0.1", "8.8.8.8"),
        ("ipv4:127.0.0.1:1", "not an address", "127.0.0.1"),
        ("ipv4:127.0.0.1:1", " , ", "127.0.0.1"),
        ("unix:", "2001:db8::1", "2001:db8::1"),
    ],
    ids=["a stranger", "our proxy", "rubbish before", "what others wrote", "two proxies", "rubbish", "empty", "socket"],
)
def test_only_proxies_of_ours_are_believed(peer, forwarded, expected):
    assert caller_address(peer, forwarded) == expected


def test_a_proxy_elsewhere_is_believed_when_it_is_named():
    proxies = (*LOOPBACK, ip_network("10.0.0.0/8"))
    assert caller_address("ipv4:10.1.2.3:1", "9.9.9.9, 10.9.9.9", proxies) == "9.9.9.9"


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("9.9.9.9,203.0.113.7", "203.0.113.7"),
        ("9.9.9.9,127.0.0.1", "127.0.0.1"),
        ("9.9.9.9,10.1.2.3", "9.9.9.9"),
        ("9.9.9.9,testclient", "127.0.0.1"),
    ],
    ids=["direct", "made up", "loopback is no proxy here", "through the proxy", "no address"],
)
def test_our_own_http_port_is_believed_about_whom_it_saw_and_no_further(forwarded, expected):
    assert caller_address("unix:", forwarded, (ip_network("10.0.0.0/8"),)) == expected


def test_without_trusted_proxies_the_peer_is_the_caller():
    assert caller_address("ipv4:127.0.0.1:1", "9.9.9.9", ()) == "127.0.0.1"


def test_one_subscriber_has_a_whole_network_in_ipv6():
    assert subscriber("2001:db8::1") == subscriber("2001:db8::ffff:1") == "2001:db8::/64"
    assert subscriber("2001:db8:0:1::1") != subscriber("2001:db8::1")
    assert subscriber("203.0.113.7") == "203.0.113.7"
