"""What processes tell each other through the state directory: when they called, and what their searches found."""

import itertools
import json
import os
import stat
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from llmhost.cli.main import main
from llmhost.core.errors import Unavailable
from llmhost.providers.market import Refused
from llmhost.providers.vast.pace import Pace
from tests.rented.market_contract import KEY
from tests.rented.vast.conftest import PACE

PROCESS = """
import sys
from dataclasses import replace
from llmhost.core.settings import Settings
from llmhost.providers.market import OfferWish
from llmhost.providers.vast.market import open_market
url, key, pace, what, nth = sys.argv[1:]
market = open_market(Settings(vast_api_key=key, vast_url=url, vast_pace=float(pace)))
market.account()
print("ready", flush=True)
sys.stdin.readline()
for each in range(int(what.partition("*")[2])):
    if what.startswith("list"):
        market.instances()
    elif what.startswith("destroy"):
        market.destroy(7)
    else:
        market.offers(OfferWish(("RTX 3060",), disk_gb=50.0 + 100 * int(nth) + each, hours=3.0))
"""
NONSENSE = [b"", b"{", b"[1]", b"null", b"\xff\x00", b"[" * 9_000, b'{"closed": {"list": "x"}, "searches": [null]}']


def folder(state):
    return state / "llmhost" / "market"


@pytest.fixture
def processes(server, state):
    """Two processes that do `what` at once; they succeed."""

    def processes(what, pace):
        environ = {"HOME": str(state), "XDG_STATE_HOME": str(state), "PATH": os.environ["PATH"]}
        started = []
        try:
            for nth in ("0", "1"):
                argv = [sys.executable, "-c", PROCESS, server.url, server.key, str(pace), what, nth]
                started.append(
                    subprocess.Popen(argv, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                )
            assert [each.stdout.readline() for each in started] == ["ready\n"] * 2
            for each in started:
                each.stdin.write("go\n")
                each.stdin.flush()
            assert [each.wait(60) for each in started] == [0, 0]
        finally:
            for each in started:
                each.kill()
                each.communicate()

    return processes


@pytest.mark.parametrize(("what", "count"), [("list*12", 24), ("destroy*4", 8)])
def test_two_processes_keep_one_pace(server, control, processes, what, count):
    server.market.limits.factor = 0.06
    processes(what, pace=0.1)
    assert len(control.requests(what.partition("*")[0])) == count
    assert server.market.limits.refused == 0


def test_two_processes_search_no_more_often_than_one(server, control, processes):
    server.market.limits.factor = 0.05
    processes("search*7", pace=0.05)
    assert len(control.requests("search")) >= 14
    assert server.market.limits.refused == 0


@pytest.fixture
def llmhost(server, short_tmp, monkeypatch, capsys):
    """A command line at the pace of the real market: its exit code and JSON."""
    for name, place in (("HOME", "h"), ("XDG_CONFIG_HOME", "c"), ("XDG_STATE_HOME", "s"), ("XDG_RUNTIME_DIR", "r")):
        (short_tmp / place).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(short_tmp / place))
    monkeypatch.chdir(short_tmp)
    monkeypatch.setenv("VAST_URL", server.url)
    monkeypatch.setenv("VAST_API_KEY", server.key)
    server.market.limits.factor = 1.0

    def run(*args):
        code = main([*args, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_looking_again_and_again_does_not_use_up_the_searches(server, control, llmhost):
    answers = [llmhost("offers") for _ in range(6)]
    assert [code for code, _ in answers] == [0] * 6
    first, *others = (answer["data"]["offers"] for _, answer in answers)
    assert first
    assert all(each == first for each in others)
    searches = len(control.requests("search"))
    code, _ = llmhost("up", "--provider", "vast", "--dry-run", "--yes")
    assert code == 0
    assert len(control.requests("search")) == searches <= 3
    assert server.market.limits.refused == 0


class Told:
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_a_wait_for_the_next_search_is_told_and_no_error(market, wish, state):
    market.account()
    (path,) = folder(state).glob("pace-*.json")
    now = time.time()
    path.write_text(json.dumps({"closed": {}, "searches": [now - each / 1000 for each in range(8)]}))
    market._api.progress = told = Told()
    assert market.offers(replace(wish, gpus=("RTX 3060",)))
    assert time.time() - now >= 60 * PACE - 0.05
    assert "waiting for the market's rate limit" in told.notes[0]


def test_searches_of_another_computer_are_waited_out(server, opened, wish, tmp_path):
    server.market.limits.factor = 0.02
    settings = {"vast_pace": 0.02}
    for each in range(8):
        opened(elsewhere=tmp_path, **settings).offers(replace(wish, gpus=("RTX 3060",), disk_gb=50.0 + each))
    for each in range(8):
        assert opened(**settings).offers(replace(wish, gpus=("RTX 3060",), disk_gb=50.0 + each))
    assert server.market.limits.refused > 0


def test_a_refused_search_waits_a_real_interval(control, market, wish):
    control.fault("rate_limited", "POST", "/bundles/", count=3)
    assert market.offers(wish)
    times = [each.at for each in control.requests("search")[:4]]
    assert all(later - sooner >= 7.5 * PACE - 0.01 for sooner, later in itertools.pairwise(times))


def test_a_search_that_is_always_refused_fails_in_the_end(control, market, wish):
    control.fault("rate_limited", "POST", "/bundles/", count=-1)
    with pytest.raises(Unavailable) as refused:
        market.offers(wish)
    assert refused.value.code == "rate_limited"
    assert 5 <= len(control.requests("search")) <= 9


def test_what_was_just_found_is_not_searched_for_again(control, opened, wish, state):
    found = opened().offers(wish)
    searches = len(control.requests("search"))
    assert opened().offers(wish) == found
    assert len(control.requests("search")) == searches
    kept = sorted(folder(state).iterdir())
    assert [each.name.partition("-")[0] for each in kept] == ["pace", "search"]
    assert {stat.S_IMODE(each.stat().st_mode) for each in kept} == {0o600}
    assert {stat.S_IMODE(each.stat().st_mode) for each in (state / "llmhost", folder(state))} == {0o700}


def test_another_wish_is_searched_for(control, market, wish):
    market.offers(wish)
    searches = len(control.requests("search"))
    market.offers(replace(wish, disk_gb=61.0))
    assert len(control.requests("search")) > searches


def test_another_account_does_not_see_it(server, control, opened, wish):
    opened().offers(wish)
    searches = len(control.requests("search"))
    key = server.market.keys.scoped({"api": {"misc": {}}}).secret
    opened(vast_api_key=key).offers(wish)
    assert len(control.requests("search")) > searches


def test_after_a_minute_it_is_searched_for_again(control, market, wish, settled):
    market.offers(wish)
    searches = len(control.requests("search"))
    settled(lambda: market.offers(wish) and len(control.requests("search")) > searches)


def test_an_offer_that_is_gone_is_not_shown_again(control, opened, wish, order):
    slow = {"vast_pace": 1.0}
    first = opened(**slow).offers(wish)[0]
    control.take(first.id)
    outcome = opened(**slow).rent(first, order)
    assert isinstance(outcome, Refused)
    assert outcome.reason == "offer_gone"
    assert first.id not in [each.id for each in opened(**slow).offers(wish)]


def test_only_the_last_few_searches_are_kept(market, wish, state):
    for each in range(12):
        market.offers(replace(wish, gpus=("RTX 3060",), disk_gb=50.0 + each))
    assert len(list(folder(state).glob("search-*"))) <= 8
    assert sum(each.stat().st_size for each in folder(state).iterdir()) < 10_000_000


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_a_damaged_memory_is_none(opened, wish, state, nonsense):
    found = opened().offers(wish)
    for each in folder(state).iterdir():
        each.write_bytes(nonsense)
    assert opened().offers(wish) == found


@pytest.mark.parametrize("kind", ["file", "nowhere", "link", "pipe"])
def test_a_memory_that_cannot_be_kept_is_no_error(server, control, opened, wish, state, kind):
    market = opened()
    if kind == "file":
        (state / "llmhost").write_text("")
    elif kind == "nowhere":
        (state / "llmhost").symlink_to("/proc/nowhere")
    else:
        market.offers(wish)
        for each in list(folder(state).iterdir()):
            each.unlink()
            each.symlink_to(state / "elsewhere") if kind == "link" else os.mkfifo(each)
    found = market.offers(wish)
    searches = len(control.requests("search"))
    assert market.offers(wish) == found
    assert len(control.requests("search")) == searches
    assert server.market.limits.refused == 0
    assert not (state / "elsewhere").exists()


@pytest.mark.parametrize("since", [-3600.0, 3600.0], ids=["forwards", "backwards"])
def test_a_clock_that_was_set_does_not_close_an_endpoint_for_long(tmp_path, since):
    now = time.time()
    path = tmp_path / "state" / "market" / "pace.json"
    path.parent.mkdir(parents=True)
    closed = {"destroy": [now + since, now + since + 7200.0]}
    path.write_text(json.dumps({"closed": closed, "searches": [now + since] * 8}))
    turns = Pace(1.0, path)
    assert turns.closed_s("destroy") <= 60.0
    assert turns.closed_s("search") <= 60.0


CALLS = {
    "register": ("POST", "/api/v0/ssh/", "ssh_key_create", lambda market, number: market.register_key(KEY)),
    "attach": ("POST", r"/instances/\d+/ssh/", "attach", lambda market, number: market.attach_key(number, KEY)),
    "stop": ("PUT", r"/instances/\d+/", "manage", lambda market, number: market.stop(number)),
    "destroy": ("DELETE", r"/instances/\d+/", "destroy", lambda market, number: market.destroy(number)),
}


@pytest.mark.parametrize("call", sorted(CALLS))
@pytest.mark.parametrize(("times", "ends"), [(1, True), (3, True), (-1, False)])
def test_what_may_be_done_twice_is_done_after_a_refusal(control, market, wish, order, call, times, ends):
    method, path, route, act = CALLS[call]
    number = market.rent(market.offers(wish)[0], order).instance_id
    control.fault("rate_limited", method, path, count=times)
    if ends:
        act(market, number)
    else:
        with pytest.raises(Unavailable) as refused:
            act(market, number)
        assert refused.value.code == "rate_limited"
    assert len(control.requests(route)) == (times + 1 if ends else 4)


def test_a_refused_rent_is_not_repeated(control, market, wish, order):
    offer = market.offers(wish)[0]
    control.fault("rate_limited", "PUT", "/asks/", count=1)
    assert market.rent(offer, order).reason == "rate_limited"
    assert len(control.requests("create")) == 1
