"""The real Claude Code at work through the gateway: the rehearsal backend calls the tools, the client runs them."""

from __future__ import annotations

import base64
import json

import pytest

from tests.support.claude import result_text
from tests.support.images import png
from tests.support.stack import Stack


def tool(name: str, **arguments: object) -> str:
    """A directive line that makes the model call a tool."""
    return f"@rehearse tool {name} {json.dumps(arguments)}"


def lines(*parts: str) -> str:
    return "\n".join(parts)


def test_runs_a_command_and_shows_its_output_to_the_model(stack: Stack) -> None:
    run = stack.stream(tool("Bash", command="echo $((6*7))-from-bash"), "--allowedTools", "Bash")
    assert [result_text(block) for block in run.tool_results] == ["42-from-bash"]
    assert 'A tool answered: "42-from-bash"' in run.result["result"]
    assert run.result["num_turns"] == 2


def test_a_tool_that_was_not_allowed_is_refused_and_the_turn_goes_on(stack: Stack) -> None:
    run = stack.stream(
        lines(tool("Bash", command="touch refused"), "@rehearse say carried on"), cwd=stack.folder("refused")
    )
    assert run.result["result"] == "carried on"
    assert not (stack.root / "folders" / "refused" / "refused").exists()


def test_reads_and_edits_a_file(stack: Stack) -> None:
    folder = stack.folder("edit")
    file = folder / "greeting.txt"
    file.write_text("hello world\n")
    prompt = lines(
        "please edit",
        tool("Read", file_path=str(file)),
        tool("Edit", file_path=str(file), old_string="world", new_string="rehearsal"),
        tool("Write", file_path=str(folder / "new.txt"), content='line one\n"quoted" \\ ünï\n'),
        "@rehearse say edited",
    )
    run = stack.stream(
        prompt, "--allowedTools", "Read", "Edit", "Write", "--permission-mode", "acceptEdits", cwd=folder
    )
    assert run.result["result"] == "edited"
    assert "hello world" in result_text(run.tool_results[0])
    assert file.read_text() == "hello rehearsal\n"
    assert (folder / "new.txt").read_text() == 'line one\n"quoted" \\ ünï\n'


def test_several_tools_in_one_answer_all_run(stack: Stack) -> None:
    both = tool("Bash", command="echo first") + "; " + tool("Bash", command="echo second").removeprefix("@rehearse ")
    run = stack.stream(lines(both, "@rehearse say both ran"), "--allowedTools", "Bash")
    assert sorted(result_text(block) for block in run.tool_results) == ["first", "second"]
    assert len({block["id"] for block in run.tool_uses}) == 2
    assert run.result["result"] == "both ran"


def test_loads_a_deferred_tool_and_calls_it(stack: Stack) -> None:
    prompt = lines(tool("ToolSearch", query="select:CronList"), tool("CronList"), "@rehearse say listed")
    run = stack.stream(prompt, "--allowedTools", "ToolSearch", "CronList")
    search, listing = run.tool_results
    assert [part["tool_name"] for part in search["content"]] == ["CronList"]
    assert not listing.get("is_error")
    assert run.result["result"] == "listed"


def test_shows_the_model_an_image(stack: Stack) -> None:
    folder = stack.folder("image")
    (folder / "red.png").write_bytes(png())
    run = stack.stream(tool("Read", file_path=str(folder / "red.png")), "--allowedTools", "Read", cwd=folder)
    assert "Images with the last message: 1." in run.result["result"]


def test_an_image_in_the_prompt_itself(stack: Stack) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(png()).decode()}
    content = [{"type": "text", "text": "what is this?"}, {"type": "image", "source": source}]
    message = {"type": "user", "message": {"role": "user", "content": content}}
    flags = ("--input-format", "stream-json", "--output-format", "stream-json", "--verbose")
    run = stack.claude("-p", *flags, stdin=json.dumps(message) + "\n").expect()
    assert "Images with the last message: 1." in run.result["result"]


def test_runs_a_subagent(stack: Stack) -> None:
    task = lines(tool("Bash", command="echo inside"), "@rehearse say the subagent is done")
    call = tool(
        "Agent", description="a small job", subagent_type="general-purpose", prompt=task, run_in_background=False
    )
    run = stack.stream(lines(call, "@rehearse say back in the main loop"), "--allowedTools", "Agent", "Bash")
    assert run.result["result"] == "back in the main loop"
    assert any("the subagent is done" in result_text(block) for block in run.tool_results)


def test_resumes_a_conversation(stack: Stack) -> None:
    folder = stack.folder("resume")
    first = stack.stream("@rehearse say the password is tulip", cwd=folder)
    second = stack.stream("what was it?", "-c", cwd=folder)
    assert second.result["session_id"] == first.result["session_id"]
    usage = second.result["usage"]
    old = sum(first.result["usage"][name] for name in ("input_tokens", "cache_read_input_tokens"))
    assert usage["cache_read_input_tokens"] > 0.9 * old, "the old turns are its prefix"
    assert stack.status()["prefix"]["reused_tokens"] >= usage["cache_read_input_tokens"]


def test_standard_input_reaches_the_model(stack: Stack) -> None:
    run = stack.claude("-p", "@rehearse say piped", stdin="from the pipe\n").expect()
    assert run.stdout.strip() == "piped"
    echoed = stack.claude("-p", stdin="only from the pipe").expect()
    assert 'You wrote: "only from the pipe"' in echoed.stdout


def test_a_structured_answer_follows_its_schema(stack: Stack) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    prompt = lines(tool("StructuredOutput", n=7), "@rehearse say done")
    run = stack.claude("-p", prompt, "--output-format", "json", "--json-schema", json.dumps(schema)).expect()
    assert run.json["structured_output"] == {"n": 7}


@pytest.mark.parametrize("arguments", [["--version"], ["--no-such-option"], ["-p", "@rehearse fail 400"]])
def test_the_exit_code_is_claudes_own(stack: Stack, arguments: list[str]) -> None:
    expected = {"--version": 0, "--no-such-option": 1, "-p": 1}[arguments[0]]
    stack.claude(*arguments).expect(expected)
