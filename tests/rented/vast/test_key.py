"""Where the account's key comes from."""

import pytest

from llmhost.core.errors import AuthenticationNeeded
from llmhost.core.settings import Settings, load_settings
from llmhost.providers.vast.key import find_key
from llmhost.providers.vast.market import open_market


@pytest.fixture
def environ(tmp_path):
    return {"HOME": str(tmp_path)}


@pytest.fixture
def keep(tmp_path):
    """A function: put a text where the vendor's client looks."""

    def keep(place, content):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    return keep


def test_the_settings_come_first(environ, keep):
    keep(".config/vastai/vast_api_key", "of-the-client")
    assert find_key(Settings(vast_api_key=" of-ours\n"), environ) == "of-ours"


def test_the_environment_is_one_of_the_settings(environ, tmp_path):
    settings = load_settings(environ=environ | {"VAST_API_KEY": "of-the-environment"}, cwd=tmp_path)
    assert find_key(settings, environ) == "of-the-environment"


def test_then_the_clients_folder_of_today_then_that_of_old(environ, keep):
    assert find_key(Settings(), environ) is None
    keep(".vast_api_key", "old\n")
    assert find_key(Settings(), environ) == "old"
    keep(".config/vastai/vast_api_key", " new \n")
    assert find_key(Settings(), environ) == "new"


def test_its_folder_may_be_elsewhere(environ, keep, tmp_path):
    keep("elsewhere/vastai/vast_api_key", "there")
    assert find_key(Settings(), environ | {"XDG_CONFIG_HOME": str(tmp_path / "elsewhere")}) == "there"


def test_an_empty_one_does_not_count(environ, keep):
    keep(".config/vastai/vast_api_key", " \n")
    keep(".vast_api_key", "old")
    assert find_key(Settings(vast_api_key="  "), environ) == "old"


def test_without_one_nothing_is_opened_and_the_way_out_is_told(environ):
    with pytest.raises(AuthenticationNeeded) as missing:
        open_market(Settings(), environ)
    assert missing.value.code == "no_key"
    assert "VAST_API_KEY" in missing.value.hint
    assert "--provider local" in missing.value.hint


@pytest.mark.parametrize("key", ["with blank", "line\nend", "schlüssel", "\x00"])
def test_one_that_no_header_can_carry_is_told_without_it(environ, key):
    with pytest.raises(AuthenticationNeeded) as refused:
        open_market(Settings(vast_api_key=key), environ)
    assert refused.value.code == "bad_key"
    assert key not in str(refused.value)
