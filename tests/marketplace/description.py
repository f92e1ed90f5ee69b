"""The vendor's OpenAPI description as a judge of calls: what differs, and what is known to differ and why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tests.support.marketplace.exchanges import Exchange

# Patterns of findings, and why we know better (vast facts §1.5 and §7).
KNOWN = (
    (r"PUT /api/v0/asks/\{id\}/ request \$\.env: .* is not of type 'string'", "env is an object (guide, SDK)"),
    (r"PUT /api/v0/asks/\{id\}/ request \$\.runtype: 'ssh_direc ssh_proxy' is not one of", "what the SDK sends"),
    (
        r"PUT /api/v0/asks/\{id\}/ request \$\.\w+: None is not (of type|one of)",
        "the SDK sends every key, null when unset",
    ),
    (
        r"PUT /api/v0/asks/\{id\}/ 400 \$\.error: '(insufficient_credit|spend_rate_limit)' is not one of",
        "seen on the real one",
    ),
    (
        r"POST /api/v0/bundles/ request \$\.type: 'on-demand' is not one of",
        "the description's own example, and the SDK",
    ),
    (r"POST /api/v0/bundles/ request \$\.order: .* is too short", "meant for the pair inside; the SDK sends one pair"),
    (r"POST /api/v0/bundles/ 429 is not described", "10 a minute, 429 as text (documentation on limits)"),
    (
        r"\S+ \S+ (401|403|404) is not described",
        "logins: 404 auth_error, 403 without a header, 401 for a missing permission",
    ),
    (r"GET /api/v0/instances/\{id\}/ 200 \$\.instances: None is not of type 'object'", "an instance that is gone"),
    (
        r"GET /api/v0/instances/\{id\}/ 200 \$\.instances\.extra_env\[\d+\]: .* is not of type 'string'",
        "pairs, as in the list",
    ),
    (r"GET /api/v0/instances/\{id\}/ 200 \$\.instances\.ports: .* is not of type 'array'", "an object, as in the list"),
)


@dataclass(frozen=True)
class Operation:
    """One method of one path in one of the files."""

    file: str
    method: str
    path: str
    request: dict[str, Any] | None
    answers: dict[str, dict[str, Any]]

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\{\w+\}", r"\\d+", self.path).rstrip("/") + "/?")


class Description:
    """All files of the folder."""

    def __init__(self, operations: list[Operation]) -> None:
        self.operations = operations

    @classmethod
    def load(cls, folder: Path) -> Description:
        files = sorted(folder.glob("*.yaml"))
        assert files, f"no description in {folder}"
        return cls(
            [operation for file in files for operation in _operations(file.name, yaml.safe_load(file.read_text()))]
        )

    def of(self, exchange: Exchange) -> list[Operation]:
        return [
            each for each in self.operations if each.method == exchange.method and each.pattern.fullmatch(exchange.path)
        ]

    def differences(self, exchange: Exchange) -> list[str]:
        """What is not as described; empty for calls the description does not have. A path described twice is right by either."""
        operations = self.of(exchange)
        if not operations or not exchange.status:
            return []
        answers = _fewest(_answer_findings(each, exchange) for each in operations)
        asked_well = exchange.status < 400 and exchange.body is not None
        return answers + (_fewest(_request_findings(each, exchange) for each in operations) if asked_well else [])

    def unexplained(self, exchange: Exchange) -> list[str]:
        return [text for text in self.differences(exchange) if why(text) is None]


def why(finding: str) -> str | None:
    """Why we differ there, when that is known."""
    return next((reason for pattern, reason in KNOWN if re.match(pattern, finding)), None)


def _operations(file: str, document: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method in ("get", "put", "post", "delete"):
                request = _schema(document, operation.get("requestBody"))
                answers = {status: _schema(document, each) or {} for status, each in operation["responses"].items()}
                yield Operation(file, method.upper(), path, request, answers)


def _schema(document: dict[str, Any], part: dict[str, Any] | None) -> dict[str, Any] | None:
    content = (part or {}).get("content", {}).get("application/json")
    return _plain(document, content["schema"]) if content else None


def _plain(document: dict[str, Any], node: Any) -> Any:
    """As JSON Schema: references put in place, `nullable` as a type, examples left out."""
    if isinstance(node, list):
        return [_plain(document, each) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return _plain(document, target)
    plain = {
        key: _plain(document, value)
        for key, value in node.items()
        if key not in ("example", "default", "format", "nullable")
    }
    if node.get("nullable") is True and isinstance(node.get("type"), str):
        plain["type"] = [node["type"], "null"]
    return plain


def _answer_findings(operation: Operation, exchange: Exchange) -> list[str]:
    where = f"{operation.method} {operation.path} {exchange.status}"
    schema = operation.answers.get(str(exchange.status), operation.answers.get("default"))
    if schema is None:
        return [f"{where} is not described"]
    return _invalid(schema, exchange.answered, where)


def _request_findings(operation: Operation, exchange: Exchange) -> list[str]:
    where = f"{operation.method} {operation.path} request"
    return _invalid(operation.request, exchange.body, where) if operation.request else []


def _invalid(schema: dict[str, Any], value: Any, where: str) -> list[str]:
    errors = jsonschema.Draft4Validator(schema).iter_errors(value)
    return sorted(f"{where} {error.json_path}: {error.message}" for error in errors)


def _fewest(findings: Iterator[list[str]]) -> list[str]:
    return min(findings, key=lambda each: (sum(why(text) is None for text in each), len(each)))
