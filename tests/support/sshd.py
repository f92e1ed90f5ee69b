"""A real OpenSSH server for tests: on a loopback port, run as the current user, with keys of its own, started and hurt at will.

Every session gets `user_home` as HOME and as its start directory, so that several "machines" fit on one. Commands run as sshd runs them:
through a real shell (bash) that reads `$HOME/.bashrc` first, so that what a user's start-up file prints can be tested by writing one.
The server's log is kept at DEBUG1, from which connections, logins and attempts are counted.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmhost.ssh.target import SshTarget
from tests.support import process_tree
from tests.support.openssh import keygen, make_key, sftp_server, sshd_program, unused_port, version
from tests.support.system import poll, processes_touching, wait_until

# sshd starts this instead of any command, SFTP included. The environment's additions are read at each start.
# bash reads ~/.bashrc for a command of sshd's when SHLVL is below 2; this wrapper must not count.
_WRAPPER = """#!/bin/bash
export HOME={home} SHELL=/bin/bash
. {environment}
cd "$HOME" || exit 97
unset SHLVL
{limit}
[ -n "$SSH_ORIGINAL_COMMAND" ] || exec {prefix} bash -l
exec {prefix} bash -c "$SSH_ORIGINAL_COMMAND"
"""
# A root without these is told "permission denied" like everybody else.
NOT_ALMIGHTY = (
    "setpriv --bounding-set=-dac_override,-dac_read_search,-fowner --inh-caps=-dac_override,-dac_read_search,-fowner"
)


class Sshd:
    """One server. The port and the keys stay the same over `stop` and `start`; `close` ends everything its sessions ever started too.

    `options` are lines of sshd_config that win over the usual ones ({"AllowTcpForwarding": "no"}); `environment` is exported in every
    session (a PATH that hides python3, say). `sftp=False` has no SFTP subsystem; `passwords_only` refuses keys; `prints` is what the
    start-up file of the user's shell says before every command; `read_only_home` makes the home unwritable, for root too;
    `largest_file_kb` lets no file grow beyond that ("File too large": a full disk, where a test may not mount one).
    """

    def __init__(
        self,
        folder: Path,
        *,
        options: Mapping[str, str] | Sequence[str] = (),
        user_home: Path | None = None,
        environment: Mapping[str, str] | None = None,
        sftp: bool = True,
        passwords_only: bool = False,
        prints: str = "",
        read_only_home: bool = False,
        largest_file_kb: int | None = None,
        host_key_types: Sequence[str] = ("ed25519",),
        host: str = "127.0.0.1",
    ) -> None:
        self.folder = folder
        self.host = host
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.user_home = user_home or folder / "home"
        self.client_key = folder / "client_key"
        self.port = 0
        self.environment = dict(environment or {})
        self._options = [f"{k} {v}" for k, v in options.items()] if isinstance(options, Mapping) else list(options)
        self._sftp, self._passwords_only, self._read_only = sftp, passwords_only, read_only_home
        self._host_key_types = host_key_types
        self._limit = f"trap '' XFSZ; ulimit -f {largest_file_kb}" if largest_file_kb else ":"
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._prepare(prints)

    # ── what it is ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def target(self) -> SshTarget:
        """Where it is reached, as the current user."""
        return SshTarget(self.host, self.port, self.user)

    @property
    def host_key_files(self) -> list[Path]:
        return [self.folder / f"host_{kind}" for kind in self._host_key_types]

    @property
    def host_key(self) -> str:
        """`TYPE BASE64` of its (first) host key."""
        return " ".join(self._public(self.host_key_files[0]).split()[:2])

    @property
    def host_key_fingerprint(self) -> str:
        """`SHA256:…` of its (first) host key, as ssh-keygen says it."""
        return keygen("-l", "-f", f"{self.host_key_files[0]}.pub").split()[1]

    @property
    def pid(self) -> int:
        """The listener."""
        assert self._process is not None, "the sshd is not running"
        return self._process.pid

    # ── start and stop ──────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> Sshd:
        """Start it and wait until it listens. A port that someone else was faster to take is replaced at the first start only."""
        for _ in range(5 if not self.port else 1):
            self.port = self.port or unused_port(self.host)
            if self._start_once():
                return self
            if "Address already in use" not in self.log:
                break
            self.port = 0
        raise RuntimeError(f"sshd does not start: {self.log[-2000:]}")

    def stop(self) -> None:
        """End the server and its sessions at once, as when the machine's sshd goes away. What sessions left running goes on."""
        if self._process is None:
            return
        process_tree.send([self.pid], signal.SIGSTOP)  # nobody is let in while the sessions end
        process_tree.send([*self.session_pids(), self.pid], signal.SIGKILL)
        self._process.wait()
        self._process = None
        self._release_guard()

    def restart(self) -> None:
        """`stop`, then `start` on the same port with the same keys (unless `rekey` came between)."""
        self.stop()
        self.start()

    def close(self) -> None:
        """`stop`, and end every process that a session left behind (those that have the home open or in their environment)."""
        self.thaw()
        self.stop()
        for _ in range(20):
            left = [pid for pid in processes_touching(self.user_home) if pid != os.getpid()]
            if not left:
                break
            process_tree.send(left, signal.SIGKILL)
        if self._read_only:
            self.user_home.chmod(0o700)

    def __enter__(self) -> Sshd:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # ── sessions ────────────────────────────────────────────────────────────────────────────────────────────────

    def session_pids(self) -> list[int]:
        """The sshd processes that serve connections (one or two each), the commands they run left out."""
        below = process_tree.descendants(self._process.pid) if self._process else {}
        return [pid for pid, name in below.items() if name.startswith("sshd")]

    def command_pids(self) -> dict[int, str]:
        """Program name by pid of what sessions run at the moment."""
        below = process_tree.descendants(self._process.pid) if self._process else {}
        return {pid: name for pid, name in below.items() if not name.startswith("sshd")}

    def kill_sessions(self) -> int:
        """Kill the processes that serve connections, as a crash would; the listener stays. How many there were."""
        pids = self.session_pids()
        process_tree.send(pids, signal.SIGKILL)
        wait_until(lambda: not set(pids) & set(self.session_pids()), "the sessions to be gone", 20)
        return len(pids)

    def freeze_sessions(self) -> list[int]:
        """Stop (SIGSTOP) the processes that serve connections: the connection stays and says nothing. New logins work."""
        self._frozen = self.session_pids()
        process_tree.send(self._frozen, signal.SIGSTOP)
        return list(self._frozen)

    def freeze_listener(self) -> None:
        """From now on connections are accepted (the kernel does) and get no answer, until `thaw`."""
        self._frozen = [*self._frozen, self.pid]
        process_tree.send([self.pid], signal.SIGSTOP)

    def thaw(self) -> None:
        """Let go on what was frozen."""
        process_tree.send(self._frozen, signal.SIGCONT)
        self._frozen = []

    # ── what it saw ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def log(self) -> str:
        """All it said, over restarts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def connections(self) -> int:
        """How many connections came in since the first start."""
        return len(re.findall(r"^Connection from ", self.log, re.MULTILINE))

    def logins(self) -> int:
        """How many of them logged in."""
        return len(re.findall(r"^Accepted \S+ for ", self.log, re.MULTILINE))

    def auth_requests(self) -> int:
        """How many times any client told a user name or offered a key."""
        return len(re.findall(r"userauth-request for user", self.log))

    # ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────

    def rekey(self) -> None:
        """Another host key, as another machine at this address would have. Restarts the server when it runs."""
        for path in self.host_key_files:
            make_key(path, kind=path.name.removeprefix("host_"))
        if self._process is not None:
            self.restart()

    def authorize(self, public_key: str) -> None:
        """Let the holder of a key in. Takes effect with the next login."""
        with self._authorized.open("a") as file:
            file.write(public_key.strip() + "\n")

    def authorize_nobody(self) -> None:
        self._authorized.write_text("")

    def set_environment(self, **values: str) -> None:
        """Export more in every session from now on."""
        self.environment.update(values)
        self._write_environment()

    def print_noise(self, text: str) -> None:
        """Let the start-up file of the user's shell print `text` before every command, SFTP's included."""
        (self.user_home / ".bashrc").write_text(f"printf '%s\\n' {shlex.quote(text)}\n" if text else "")

    # ── inside ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _prepare(self, prints: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.user_home.mkdir(parents=True, exist_ok=True)
        self._frozen: list[int] = []
        self._log = self.folder / "sshd.log"
        self._authorized = self.folder / "authorized_keys"
        self._authorized.write_text(self._public(make_key(self.client_key)))
        for path in self.host_key_files:
            make_key(path, kind=path.name.removeprefix("host_"))
        if prints:
            self.print_noise(prints)
        self._write_environment()
        self._write_wrapper()
        if self._read_only:
            self.user_home.chmod(0o555)

    def _public(self, key: Path) -> str:
        return key.with_name(key.name + ".pub").read_text()

    def _write_environment(self) -> None:
        # The test command ends what it started by this variable.
        values = {"TMPDIR": os.environ["TMPDIR"]} if "TMPDIR" in os.environ else {}
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in {**values, **self.environment}.items()]
        (self.folder / "environment").write_text("".join(lines))

    def _write_wrapper(self) -> None:
        wrapper = self.folder / "session"
        prefix = NOT_ALMIGHTY if self._read_only and os.getuid() == 0 else ""
        places = {
            "home": shlex.quote(str(self.user_home)),
            "environment": shlex.quote(str(self.folder / "environment")),
        }
        wrapper.write_text(_WRAPPER.format(**places, prefix=prefix, limit=self._limit))
        wrapper.chmod(0o755)

    def _configuration(self) -> list[str]:
        given = {line.split()[0].lower() for line in self._options}
        # the shell that starts the wrapper must not read anybody's files
        own_words = [f"SetEnv HOME={self.folder / 'nowhere'}"]
        if self._passwords_only:
            own_words += ["PubkeyAuthentication no", "PasswordAuthentication yes"]
        if self._sftp:
            own_words.append(f"Subsystem sftp {sftp_server()}")
        return [
            *self._options,
            *own_words,
            *(f"HostKey {path}" for path in self.host_key_files),
            f"Port {self.port}",
            f"ListenAddress {self.host}",
            f"AuthorizedKeysFile {self._authorized}",
            f"ForceCommand {self.folder / 'session'}",
            *(line for line in _USUAL if line.split()[0].lower() not in given),
            *(["PerSourcePenalties no"] if version() >= (9, 8) else []),
        ]

    def _start_once(self) -> bool:
        file = self.folder / "sshd_config"
        file.write_text("\n".join(self._configuration()) + "\n")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # a root sshd shuts its unprivileged half in there
        said = len(self.log)
        command = [sshd_program(), "-D", "-f", str(file), "-E", str(self._log)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        self._guard_it()
        process = self._process
        poll(lambda: "Server listening on" in self.log[said:] or process.poll() is not None, 30)
        if process.poll() is None and "Server listening on" in self.log[said:]:
            return True
        self.stop()
        return False

    def _guard_it(self) -> None:
        command = [sys.executable, "-I", "-S", process_tree.__file__, str(self.pid)]
        self._guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def _release_guard(self) -> None:
        if self._guard is not None:
            assert self._guard.stdin is not None
            self._guard.kill()  # before its stdin closes: pids may mean others by now
            self._guard.wait()
            self._guard.stdin.close()
            self._guard = None


# Words that do not come from the test. The first value of a word wins in sshd_config, but not of each: MaxStartups' last does.
_USUAL = (
    "StrictModes no",
    "UsePAM no",
    "PidFile none",
    "PermitRootLogin yes",
    "PubkeyAuthentication yes",
    "PasswordAuthentication no",
    "KbdInteractiveAuthentication no",
    "PermitUserRC no",
    "PrintMotd no",
    "UseDNS no",
    "MaxStartups 500:30:1000",
    "ClientAliveInterval 0",
    "LoginGraceTime 60",
    "AllowTcpForwarding yes",
    "AllowStreamLocalForwarding yes",
    "LogLevel DEBUG1",
)
