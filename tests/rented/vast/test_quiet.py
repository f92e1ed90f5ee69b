"""The vendor's package leaves no trace: not on our streams, not in the user's folders, not in what it does not concern."""

import logging
import os
import subprocess
import sys
import traceback

import pytest

from llmhost.core.errors import LlmhostError
from llmhost.providers.market import Unknown

PREFIX = (
    "import sys; from llmhost.core.settings import Settings; from llmhost.providers.vast.market import open_market; "
)


def run(code, home, *, environ=None, argv=None):
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"} | (environ or {})
    argv = argv or [sys.executable, "-c", code]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, cwd=os.getcwd())


def files(home):
    return sorted(str(each.relative_to(home)) for each in home.rglob("*") if each.is_file())


def test_the_package_is_imported_with_the_first_call_alone(tmp_path, server):
    code = PREFIX + (
        f"import llmhost.providers.vast; market = open_market(Settings(vast_api_key={server.key!r}, vast_url={server.url!r}));"
        "before = 'vastai' in sys.modules or 'requests' in sys.modules; market.account(); print(before, 'vastai' in sys.modules)"
    )
    ended = run(code, tmp_path)
    assert (ended.stdout, ended.stderr) == ("False True\n", "")


@pytest.mark.parametrize("command", [["--help"], ["status", "--json"], ["up", "--help"]])
def test_commands_that_rent_nothing_never_import_it(tmp_path, command):
    argv = [sys.executable, "-X", "importtime", "-m", "llmhost", *command]
    ended = run("", tmp_path, argv=argv, environ={"VAST_API_KEY": "k" * 64})
    imported = {
        line.rpartition("|")[2].strip() for line in ended.stderr.splitlines() if line.startswith("import time:")
    }
    assert "llmhost" in imported
    assert not {each for each in imported if each.partition(".")[0] in ("vastai", "requests")}


@pytest.mark.parametrize("level", ["", "debug"])
def test_it_says_nothing_and_keeps_the_times_of_calls_alone(tmp_path, server, control, level):
    control.fault("server_error", "GET", "/instances/", count=1)
    code = PREFIX + (
        f"market = open_market(Settings(vast_api_key={server.key!r}, vast_url={server.url!r}, vast_pace=0.01));"
        "market.account(); market.instances();"
        "import logging; logging.getLogger('vastai').error('the vendor says something')"
    )
    ended = run(code, tmp_path, environ={"VAST_LOG_LEVEL": level})
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    (kept,) = files(tmp_path)
    assert kept.startswith(".local/state/llmhost/market/pace-")
    assert server.key not in (tmp_path / kept).read_text()


def test_no_log_of_any_level_has_the_key(server, control, market, wish, order, caplog):
    caplog.set_level(logging.DEBUG)
    control.fault("dropped", "PUT", "/asks/")
    offer = market.offers(wish)[0]
    assert isinstance(market.rent(offer, order), Unknown)
    market.instances()
    server.pause()
    with pytest.raises(LlmhostError) as missing:
        market.instances()
    server.start()
    assert caplog.records  # urllib3's own
    assert server.key not in caplog.text
    assert server.key not in "".join(traceback.format_exception(missing.value))


def test_a_netrc_does_not_replace_the_key_and_children_keep_theirs(tmp_path, server, control):
    """Even a `default` entry would (vast facts §1.3)."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login somebody password else\nmachine 127.0.0.1 login me password mine\n")
    netrc.chmod(0o600)
    code = PREFIX + (
        f"market = open_market(Settings(vast_api_key={server.key!r}, vast_url={server.url!r} + '/'));"
        "market.account(); import os; print(os.environ['NETRC'])"
    )
    ended = run(code, tmp_path, environ={"NETRC": str(netrc)})
    assert (ended.stdout, ended.stderr) == (f"{netrc}\n", "")
    assert control.requests("user")[0].headers["authorization"] == f"Bearer {server.key}"
    assert control.requests("user")[0].path == "/api/v0/users/current"


def test_a_login_in_the_address_does_not_replace_the_key_either(server, control, opened):
    assert opened(vast_url=server.url.replace("//", "//me:mine@")).account().credit_usd == 25.0


@pytest.mark.parametrize(
    "url", ["nowhere", "ftp://127.0.0.1", "http://", "http://[::1", "http://127.0.0.1:1", "http://a" + "b" * 300]
)
def test_an_address_that_leads_nowhere_is_unavailable(server, opened, url, wish, order):
    with pytest.raises(LlmhostError) as missing:
        opened(vast_url=url).account()
    assert missing.value.exit_code == 5
    assert server.key not in str(missing.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirected_write_is_sent_to_nobody(control, market, status):
    control.fault("redirect", "DELETE", "/instances/", count=-1, to="/api/v0/users/current")
    with pytest.raises(LlmhostError):
        market.destroy(7)
    assert [each.method for each in control.requests()] == ["DELETE"]


def test_a_read_redirected_to_another_host_takes_no_key_along(server, control, opened):
    foreign = server.url.replace("127.0.0.1", "localhost")
    control.fault("redirect", "GET", "/users/current", to=f"{foreign}/api/v0/users/current?elsewhere=1")
    with pytest.raises(LlmhostError):
        opened(vast_read_timeout_s=3).account()
    assert "authorization" not in control.requests(path="current")[1].headers
