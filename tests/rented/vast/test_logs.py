"""A container's output, which appears somewhere else a while later."""

import pytest

from llmhost.core.errors import AuthenticationNeeded, LlmhostError, Unavailable


@pytest.fixture
def running(market, wish, order, settled):
    number = market.rent(market.offers(wish)[0], order).instance_id
    settled(lambda: market.instances()[0].actual == "running")
    return number


@pytest.mark.parametrize("name", ["result_url", "temp_download_url"])
def test_the_output_is_fetched_where_it_appears_without_the_key(control, market, running, name):
    control.set(log_url_name=name, log_refusals=3)
    assert f"container {running} started" in market.logs(running)
    fetched = control.requests("text")
    assert len(fetched) == 4
    assert not any("authorization" in each.headers for each in fetched)


def test_lines_and_a_word_are_asked_for(control, market, running):
    assert market.logs(running, 7, "no such word") == ""
    assert control.requests("logs")[0].body == {"tail": "7", "filter": "no such word"}


def test_what_never_appears_is_unavailable_in_bounded_time(control, market, running):
    control.set(logs_ready=False)
    with pytest.raises(Unavailable) as missing:
        market.logs(running)
    assert missing.value.code == "no_logs"


def test_a_storage_that_stumbles_is_asked_again(control, market, running):
    control.fault("dropped", "GET", r"/s3/")
    control.fault("server_error", "GET", r"/s3/")
    assert "started" in market.logs(running)


@pytest.mark.parametrize("kind", ["server_error", "html_200", "pretend", "unsuccessful"])
def test_without_an_address_there_is_no_log(control, market, running, kind):
    control.fault(kind, "PUT", "request_logs", count=-1)
    with pytest.raises(Unavailable):
        market.logs(running)


def test_of_what_is_gone_there_is_no_log(market):
    with pytest.raises(LlmhostError):
        market.logs(4_711)


def test_a_wrong_key_is_told_as_one(control, market, running):
    control.fault("auth", "PUT", "request_logs")
    with pytest.raises(AuthenticationNeeded):
        market.logs(running)
