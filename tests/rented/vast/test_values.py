import pytest

from llmhost.providers.vast import values


@pytest.mark.parametrize(
    ("value", "number", "whole", "rounded"),
    [
        (7, 7.0, 7, 7),
        ("7", 7.0, 7, 7),
        (" 7\n", 7.0, 7, 7),
        (7.9, 7.9, None, 7),
        ("7.0", 7.0, 7, 7),
        (2**60 + 1, float(2**60 + 1), 2**60 + 1, 2**60),
        (-1, -1.0, -1, -1),
        (True, None, None, None),
        (None, None, None, None),
        ("", None, None, None),
        ("many", None, None, None),
        ("nan", None, None, None),
        ("inf", None, None, None),
        ("٣", 3.0, 3, 3),
        (10**400, None, 10**400, None),
        ([7], None, None, None),
    ],
)
def test_numbers(value, number, whole, rounded):
    assert (values.number(value), values.whole(value), values.rounded(value)) == (number, whole, rounded)


@pytest.mark.parametrize(
    ("value", "flag"),
    [(True, True), ("true", True), ("False", False), ("0", False), (0, False), (1, True), (None, False)],
)
def test_flags(value, flag):
    assert values.flag(value) is flag


def test_nothing_said_is_the_default():
    assert values.flag(None, default=True) is True


@pytest.mark.parametrize(
    ("value", "port"), [("22", 22), (65535, 65535), (0, None), (65536, None), ("x", None), (-1, None)]
)
def test_ports(value, port):
    assert values.port(value) == port
