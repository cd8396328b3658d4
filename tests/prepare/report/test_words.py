import pytest

from omni_ray.prepare.report.words import count, hours, link, percent, printable


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (0, 0, "0%"), (0, 5, "0%"), (1, 10**9, "<0.1%"), (1, 100, "1.0%"), (10, 100, "10%"), (154, 100, "154%"),
        (99_999, 100_000, ">99.9%"), (996, 1000, "99.6%"), (100, 100, "100%"),
    ],
)  # fmt: skip
def test_percent(part: float, whole: float, expected: str) -> None:
    assert percent(part, whole) == expected


@pytest.mark.parametrize(
    ("homepage", "safe"),
    [
        ("https://a.org/x?y", True), ("http://a.org", True), ("HTTPS://a.org", True), ("", False), ("a.org", False),
        ("javascript:a()", False), (" javascript:a()", False), ("data:text/html,x", False), ("http://[", False),
        ("file:///etc", False),
    ],
)  # fmt: skip
def test_only_web_addresses_become_links(homepage: str, safe: bool) -> None:
    assert link(homepage) == (homepage if safe else "")


def test_what_no_page_may_hold() -> None:
    assert printable("a\0b\x1bc\x85d\ud800e") == "a\ufffdb\ufffdc\ufffdd\ufffde"
    assert printable("tab\tline\n\u202eשלום 😀") == "tab\tline\n\u202eשלום 😀"
    assert printable(5) == 5


def test_small_words() -> None:
    assert [hours(s) for s in (4, 90, 7200, 3.6e7)] == ["4.0 s", "1.5 min", "2.0 h", "10,000.0 h"]
    assert [count(n, "source") for n in (0, 1, 1200)] == ["0 sources", "1 source", "1,200 sources"]
