"""The account, its keys and secrets, logs and jobs."""

from __future__ import annotations

import json

import httpx
import pytest

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExample renter@example.test"


@pytest.fixture
def number(api, control):
    """A running instance."""
    number = api.rent()
    control.advance(60)
    return number


@pytest.mark.parametrize("path", ["/api/v0/users/current", "/api/v0/users/current/"])
def test_user(api, path):
    user = api.get(path).json()
    assert (user["credit"], user["balance"], user["email"]) == (25.0, 0.0, "renter@example.test")
    assert "api_key" not in user


def test_ssh_keys(api):
    assert api.get("/api/v0/ssh/").json() == []
    made = api.post("/api/v0/ssh/", json={"ssh_key": KEY}).json()
    assert (made["success"], made["key"]["public_key"]) == (True, KEY)
    [shown] = api.get("/api/v0/ssh/").json()
    assert (shown["id"], shown["key"]) == (made["key"]["id"], KEY)
    assert api.put(f"/api/v0/ssh/{shown['id']}/", json={"ssh_key": KEY + "2"}).json()["key"]["public_key"] == KEY + "2"
    assert api.delete(f"/api/v0/ssh/{shown['id']}/").json() == {"success": True}
    assert api.delete(f"/api/v0/ssh/{shown['id']}/").status_code == 404


@pytest.mark.parametrize("body", [{}, {"ssh_key": ""}, {"ssh_key": None}])
def test_no_ssh_key(api, body):
    answer = api.post("/api/v0/ssh/", json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "no_ssh_key")


def test_keys_reach_new_instances_only_and_others_when_attached(api, control, number):
    api.post("/api/v0/ssh/", json={"ssh_key": KEY})
    other = api.rent()
    control.advance(60)
    assert control.instance(number).machine.keys == []
    assert control.instance(other).machine.keys == [KEY]
    assert api.post(f"/api/v0/instances/{number}/ssh/", json={"ssh_key": KEY}).json()["success"]
    assert control.instance(number).machine.keys == [KEY]
    listed = api.get(f"/api/v0/instances/{number}/ssh/").json()
    [entry] = json.loads(listed["ssh_keys"])
    assert entry["public_key"] == KEY
    assert api.delete(f"/api/v0/instances/{number}/ssh/{entry['id']}/").json() == {"success": True}
    assert control.instance(number).machine.keys == []


def test_keys_take_a_while(api, control):
    control.set(key_lag_s=30)
    api.post("/api/v0/ssh/", json={"ssh_key": KEY})
    number = api.rent()
    control.advance(44)
    assert control.instance(number).machine.keys == []
    control.advance(2)
    assert control.instance(number).machine.keys == [KEY]


def fetched(url, tries=5):
    """The status of every read of a log's address, and its text."""
    seen = []
    for _ in range(tries):
        answer = httpx.get(url, verify=False)
        seen.append(answer.status_code)
        if answer.status_code == 200:
            return seen, answer.text
    return seen, None


@pytest.mark.parametrize("slash", ["", "/"])
def test_logs(server, api, number, slash):
    answer = api.put(f"/api/v0/instances/request_logs/{number}{slash}", json={"tail": "100"}).json()
    assert answer["success"]
    assert answer["result_url"].startswith(f"{server.url}/s3/")
    assert fetched(answer["result_url"]) == ([403, 200], f"container {number} started, 0 bytes of onstart\n")


def test_logs_filtered_and_cut(api, control, number):
    control.set(log_refusals=0, log_url_name="temp_download_url")
    for _ in range(2):
        api.put(f"/api/v0/instances/reboot/{number}/", json={})
        control.advance(20)
    for wish, lines in (({"tail": "2"}, 2), ({"filter": "nothing"}, 0), ({"filter": "started"}, 3)):
        url = api.put(f"/api/v0/instances/request_logs/{number}/", json=wish).json()["temp_download_url"]
        assert len(fetched(url)[1].splitlines()) == lines


def test_the_daemons_log(api, number):
    url = api.put(f"/api/v0/instances/request_logs/{number}/", json={"daemon_logs": "true"}).json()["result_url"]
    assert "Successfully loaded" in fetched(url)[1]


def test_logs_that_never_come(api, control, number):
    control.set(logs_ready=False)
    url = api.put(f"/api/v0/instances/request_logs/{number}/", json={}).json()["result_url"]
    assert fetched(url) == ([403] * 5, None)


def test_logs_of_nothing(api):
    answer = api.put("/api/v0/instances/request_logs/4711/", json={})
    assert (answer.status_code, answer.json()["error"]) == (404, "invalid_id")


def test_commands(api, number):
    answer = api.put(f"/api/v0/instances/command/{number}/", json={"command": "ls -l"}).json()
    assert (answer["success"], answer["writeable_path"]) == (True, "/root")
    assert fetched(answer["result_url"])[1].startswith("ls: ")
    for bad in ("cat /etc/passwd", "", "ls " + "x" * 512):
        refused = api.put(f"/api/v0/instances/command/{number}/", json={"command": bad})
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_args")
    gone = api.put("/api/v0/instances/command/4711/", json={"command": "ls"})
    assert (gone.status_code, gone.json()["error"]) == (400, "invalid_container_id")


def test_secrets_of_the_account_reach_every_container(api, control):
    assert api.post("/api/v0/secrets/", json={"key": "TOKEN", "value": "t"}).json()["success"]
    assert api.put("/api/v0/secrets/", json={"key": "TOKEN", "value": "u"}).json()["success"]
    assert api.get("/api/v0/secrets/").json()["secrets"] == {"TOKEN": "u"}
    assert api.request("DELETE", "/api/v0/secrets/", json={"key": "TOKEN"}).json() == {"success": True}
    assert api.request("DELETE", "/api/v0/secrets/", json={"key": "TOKEN"}).status_code == 404
    assert api.post("/api/v0/secrets/", json={"key": "TOKEN"}).status_code == 400


def test_scheduled_jobs(api, number):
    job = {
        "instance_id": number,
        "frequency": "DAILY",
        "api_endpoint": f"/api/v0/instances/{number}/",
        "request_method": "DELETE",
    }
    made = api.post("/api/v0/commands/schedule_job/", json=job).json()
    assert made["success"]
    assert api.post("/api/v0/commands/schedule_job/", json=job).status_code == 422
    assert api.post("/api/v0/commands/schedule_job/", json=job | {"frequency": "ONCE"}).status_code == 400
    assert [each["frequency"] for each in api.get("/api/v0/commands/schedule_job/").json()["results"]] == ["DAILY"]
    assert api.delete(f"/api/v0/commands/schedule_job/{made['scheduled_job_id']}/").json() == {"success": True}


def test_a_key_needs_permissions(api):
    assert api.post("/api/v0/auth/apikeys/", json={"name": "x"}).status_code == 400
