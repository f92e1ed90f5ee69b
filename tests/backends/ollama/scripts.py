"""What the scripted model says in these tests. A key is a trigger; see `tests.support.scripted_gguf`."""

from __future__ import annotations

from tests.support.scripted_gguf import LOOP


def call(name: str, **arguments: object) -> str:
    """A tool call as qwen3-coder writes it, as one token."""
    parameters = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items())
    return f"<tool_call>\n<function={name}>\n{parameters}</function>\n</tool_call>"


SCRIPTS = {
    "default": ["Hello ", "from a ", "model ", "whose weights ", "were written ", "by hand."],
    # six steps of an agent; each names the next one, which so comes back in the history
    "[[s1]]": ["Step one ", "[[s2]]", " now.", call("Bash", command="seq 1 40", description="count")],
    "[[s2]]": ["Step two ", "[[s3]]", " then.", call("Read", file_path="/etc/hostname")],
    "[[s3]]": ["Step three ", "[[s4]]", " look.", call("ToolSearch", query="select:WebFetch,CronList", max_results=5)],
    "[[s4]]": ["Step four ", "[[s5]]", " again.", call("WebFetch", url="http://127.0.0.1/", retries=3, deep="true")],
    "[[s5]]": ["Step five ", "[[s6]]", " last.", call("Bash", command="uname -s", timeout=1_200_000)],
    "[[s6]]": ["All ", "six ", "steps ", "are done."],
    "[[two]]": [
        "Both: ",
        call("Bash", command="ls"),
        " and ",
        call("Read", file_path="/x", limit=5),
        " so.",
    ],
    "[[bare]]": [call("Bash", command="true")],
    "[[long]]": ["Writing", call("Write", content="0123456789abcdef\n" * 200)],
    "[[null]]": ["Null", call("Read", file_path="null", limit="null")],
    "[[broken]]": ["Broken", "<tool_call>\n<function=Bash>\n<parameter=command>\nls\n</function>\n</tool_call>"],
    "[[stop]]": ["one ", "two</bl", "ock> three", " four"],
    "[[json]]": ['{"title": ', '"A title"', "}"],
    "[[loop]]": ["la ", "lo ", "lu ", LOOP],
    "[[same]]": ["ha ", LOOP],
    "[[think]]": ["I wonder", " why", "</think>", "Because", " so."],
}
