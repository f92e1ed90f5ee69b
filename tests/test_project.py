"""The project as a package: what it ships, what it needs, and what must not be in it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from itertools import chain
from pathlib import Path

import pytest

from llmhost.bootstrap.packages import normal

ROOT = Path(__file__).parent.parent
NOT_OURS = {".git", ".venv", "__pycache__", "dist", ".hypothesis", "uv.lock"}

# Character classes keep this file itself from holding what it looks for.
FORBIDDEN = {
    "a package registry": r"py[p]i\.org|python[h]osted|n[p]mjs|crates\.i[o]\b|proxy\.gola[n]g|deb\.debia[n]|mave[n]\.org",
    "a path of one machine": r"/wor[k]/|/roo[t]/|\.\./share[d]",
    "a secret": r"llmh_[A-Za-z0-9_-]{4[3]}|-----BEGI[N] [A-Z ]*PRIVATE KEY|sk-an[t]-[A-Za-z0-9]",
    "unfinished work": r"\bTOD[O]\b|\bFIXM[E]\b|\bXX[X]\b",
}

# Neither a node nor a gateway has these: they belong to the operator's side.
OPERATOR_ONLY = (
    "typer",
    "rich",
    "httpx",
    "pydantic_settings",
    "platformdirs",
    "paramiko",
    "vastai",
    "jinja2",
    "sqlite3",
)
SLOW_AT_START = ("fastapi", "redis", "paramiko", "vastai", "uvicorn", "aiohttp", "pydantic_settings")


def project_files() -> list[Path]:
    return [
        path
        for path in ROOT.rglob("*")
        if path.is_file() and not NOT_OURS & {*path.relative_to(ROOT).parts} and _is_text(path)
    ]


def _is_text(path: Path) -> bool:
    return (
        not any("_cache" in part or part.endswith(".egg-info") for part in path.parts)
        and b"\0" not in path.read_bytes()[:4096]
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (file,) = folder.glob("*.whl")
    return zipfile.ZipFile(file)


def test_the_wheel_holds_every_module_and_template_and_no_test(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "llmhost").rglob("*.py")}
    templates = {
        f"llmhost/_templates/{path.relative_to(ROOT / 'templates').as_posix()}"
        for path in (ROOT / "templates").rglob("*")
        if path.is_file()
    }
    assert templates
    assert modules | templates | {"llmhost/py.typed"} <= names
    assert not [name for name in names if name.startswith("tests")]


def test_the_wheel_knows_its_command_its_licence_and_its_pythons(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "Requires-Python: >=3.11" in metadata
    assert "License-Expression: MIT" in metadata
    assert "llmhost = llmhost.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()


def imported(statement: str, *, without: tuple[str, ...] = ()) -> set[str]:
    """The top-level modules that a fresh Python has after a statement; those in `without` cannot be imported in it."""
    script = f"import sys\nfor name in {without!r}: sys.modules[name] = None\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()} - set(without)


def test_a_node_runs_without_the_operators_libraries() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for tower in ("messages", "cache", "backends", "proxy")
        for path in (ROOT / "llmhost" / tower).rglob("*.py")
        if path.stem != "__main__"
    ]
    assert imported("import " + ", ".join(modules).replace(".__init__", ""), without=OPERATOR_ONLY)


def test_help_loads_nothing_heavy() -> None:
    ask_for_help = (
        "import llmhost.__main__ as m\nsys.argv = ['llmhost', '--help']\ntry: m.main()\nexcept SystemExit: pass"
    )
    assert not imported(ask_for_help) & set(SLOW_AT_START)


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in project_files()
        for match in pattern.finditer(path.read_text(errors="replace"))
    ]
    assert not found


def test_no_recorded_prompt_of_the_client_is_kept() -> None:
    telltale = re.compile(r"You are Claude Cod[e]|cc_entrypoint=[a-z]|You have been invoked in the followin[g]")
    assert not [path for path in project_files() if telltale.search(path.read_text(errors="replace"))]


def test_every_dependency_is_locked_with_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *project["project"]["dependencies"],
        *chain.from_iterable(project["project"]["optional-dependencies"].values()),
        *project["dependency-groups"]["dev"],
    ]
    names = {normal(re.split(r"[<>=!;\[ ]", line)[0]) for line in wanted}
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.findall(r"^([A-Za-z0-9._-]+)==\S+.*?\\\n((?:    --hash=\S+(?: \\)?\n)+)", lock, re.MULTILINE)
    assert names <= {normal(name) for name, _ in entries}
    assert len(entries) == len(re.findall(r"^\S+==", lock, re.MULTILINE))


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    version = project["project"]["version"]
    assert f'__version__ = "{version}"' in (ROOT / "llmhost" / "__init__.py").read_text()
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_shell_scripts_are_sound() -> None:
    scripts = [ROOT / "tests" / "run", ROOT / ".ci" / "run", *(ROOT / "tests" / "support").glob("*.sh")]
    for script in scripts:
        assert subprocess.run(["bash", "-n", script]).returncode == 0
        assert "set -euo pipefail" in script.read_text()
