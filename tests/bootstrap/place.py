"""A machine of the test's own behind a real sshd, and the steps of the bootstrap on it."""

from __future__ import annotations

import httpx

from llmhost.bootstrap.agent import Agent
from llmhost.bootstrap.install import Wish, bootstrap, node_folder
from llmhost.ssh.identity import Identity
from llmhost.ssh.pins import Pins
from llmhost.ssh.session import Session
from tests.support.sshd import Sshd
from tests.support.system import processes_touching, wait_until

TOKEN = "a-token-that-nobody-guesses"


class Shown:
    """What a person would have seen: phases in order, notes, and the last transfer of each phase."""

    def __init__(self):
        self.phases, self.notes, self.transfers = [], [], {}

    def phase(self, code, text):
        self.phases.append(code)

    def transfer(self, code, text, done, total):
        self.transfers.setdefault(code, []).append((done, total))

    def note(self, text):
        self.notes.append(text)


class Place:
    """`home` is the name of the home folder; `options` go to Sshd. Sessions are closed and processes ended at `close`."""

    def __init__(self, folder, cache, home="home", **options):
        self.folder, self.cache = folder, cache
        self.sshd = Sshd(folder / "sshd", user_home=folder / home, **options)
        self.home = self.sshd.user_home
        self.sessions = []

    def __enter__(self):
        self.sshd.start()
        return self

    def __exit__(self, *_):
        for session in self.sessions:
            session.close()
        self.sshd.close()

    def session(self):
        session = Session.connect(
            self.sshd.target, Identity(self.sshd.client_key, False), Pins(self.folder / "pins"), "llmhost-test"
        )
        self.sessions.append(session)
        return session

    def up(self, key="n1", shown=None, session=None, **wish):
        """The whole bootstrap, with the rehearsal backend unless told otherwise."""
        wished = Wish(**{"backend": "rehearsal", "token": TOKEN, "node_id": key, **wish})
        return bootstrap(session or self.session(), node_folder(key), wished, shown or Shown(), self.cache)

    def agent(self, installed):
        return Agent(self.session(), installed.python, installed.folder)

    def child(self, agent, name):
        return next((child for child in agent.status()["children"] if child["name"] == name), None)

    def wait_up(self, agent, name, but=None):
        """The child once it answers, and is another process than `but`."""

        def found():
            child = self.child(agent, name)
            return child if child and child["state"] == "up" and child["pid"] != but else None

        return wait_until(found, f"{name} to be up", 30)

    def processes(self):
        """Ours on that machine: sessions that are just ending do not count."""
        return {
            pid: argv for pid, argv in processes_touching(self.home).items() if "llmhost." in argv or "ollama" in argv
        }


def client(installed, timeout=60):
    """An HTTP client of the node's proxy, over its Unix socket."""
    return httpx.Client(
        transport=httpx.HTTPTransport(uds=installed.proxy_socket),
        base_url="http://127.0.0.1",
        headers={"authorization": f"Bearer {TOKEN}"},
        timeout=timeout,
    )


def ask(installed, text="hello", **fields):
    """The text of one answer."""
    body = {"max_tokens": 64, "messages": [{"role": "user", "content": text}], **fields}
    with client(installed) as caller:
        answer = caller.post("/v1/messages", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["content"][0]["text"]
