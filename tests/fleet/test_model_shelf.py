"""A pull on this machine, watched: one that stalls is given up, and whoever cannot hold the model does not begin."""

from __future__ import annotations

import itertools

import pytest

from llmhost.core.errors import LlmhostError, NothingSuitable, Unavailable
from llmhost.core.ledger import NodeRecord
from llmhost.core.model_room import free_bytes, models_folder, refuse_beyond
from llmhost.fleet.model_shelf import LocalShelf, shelf_of
from llmhost.fleet.visit import Visits
from llmhost.providers.ollama_api import OllamaApi
from tests.support.small_ollama import Model, SmallOllama

NEW = {"new:1b": Model("new:1b")}


class Standing(OllamaApi):
    """An Ollama that tells the same figures over and over, as it does while nothing arrives."""

    def models(self):
        return []

    def pull(self, model, on_transfer):
        for _ in itertools.repeat(None):
            on_transfer("pulling", 10, 100)


def test_a_pull_of_which_nothing_arrives_is_given_up():
    with pytest.raises(Unavailable) as stalled:
        LocalShelf(Standing("http://127.0.0.1:1"), stall_s=0.05).pull("new:1b", lambda *_: None)
    assert stalled.value.code == "pull_stalled"


def test_it_tells_its_bytes_and_whether_there_was_anything_to_fetch():
    told = []
    with SmallOllama(pulls=NEW) as ollama:
        shelf = LocalShelf(OllamaApi(ollama.url))
        assert shelf.pull("new:1b", lambda *what: told.append(what)) is True
        assert told[-1][1:] == (6200, 6200)
        assert shelf.pull("NEW:1b", lambda *_: None) is False
        assert (shelf.remove("new:1b"), shelf.remove("new:1b")) == (5_000_000_000, None)


def test_a_model_that_ollama_cannot_even_unload_is_deleted_all_the_same():
    """A broken one is a good reason to delete it."""
    with SmallOllama([Model("broken:1b", size=7)]) as ollama:
        ollama.unload_status = 500
        assert LocalShelf(OllamaApi(ollama.url)).remove("broken:1b") == 7
        assert not ollama.models


def test_room_on_a_disk(tmp_path):
    assert free_bytes(tmp_path / "not" / "there" / "yet") > 0
    assert free_bytes(None) is None
    assert models_folder({"OLLAMA_MODELS": str(tmp_path)}) == tmp_path
    refuse_beyond("m", 10**18, None)
    refuse_beyond("m", 10, 10**9)
    with pytest.raises(NothingSuitable, match=r"1\.0 GB are needed and 1\.2 GB are free"):
        refuse_beyond("m", 10**9, 12 * 10**8)


def test_a_node_without_ollama_has_no_models(place):
    node = NodeRecord("n1", "default", "local", "rehearsal", None, None, "token", {})
    with pytest.raises(LlmhostError) as refused:
        shelf_of(node, Visits(place.settings(), place.paths))
    assert refused.value.code == "no_ollama"
