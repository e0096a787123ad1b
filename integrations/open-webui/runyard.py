"""
title: Runyard
description: Claude Code on your own machines, as a model of Open WebUI.
version: 0.1.0
license: MIT
requirements: requests
"""

# A pipe function of Open WebUI: paste it under Admin Panel > Functions, and set its valves. It speaks `POST /api/claude`.
#
# A chat of Open WebUI is a session of the CLI. The first answer says which one, in a line `session_id=…`, and the answers
# after it are looked through for that line: nothing is kept here, so a chat can go on after a restart of Open WebUI.

import json
import re
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

import requests
from pydantic import BaseModel, Field

SESSION = re.compile(r"session_id=([0-9a-fA-F-]{36})")
CONNECT_S = 10


class Pipe:
    class Valves(BaseModel):
        RUNYARD_URL: str = Field(default="http://127.0.0.1:8787", description="Where the router is, without a slash at its end.")
        RUNYARD_TOKEN: str = Field(default="", description="A token with the scopes runs:write and runs:read. Empty: where the router lets in whoever brings none.")
        ALLOWED_TOOLS: str = Field(default="", description="Rules between commas, such as Read,Bash(git log:*).")
        DISALLOWED_TOOLS: str = Field(default="", description="Rules between commas.")
        WORKSPACE: str = Field(default="", description="A folder that all chats share. Empty: each chat has its own.")
        SKIP_PERMISSIONS: bool = Field(default=False, description="Needs the scope runs:bypass, and the owner of the machine has the last word.")
        SHOW_TOOLS: bool = Field(default=True, description="Say in the answer which tools are used.")
        SILENCE_S: int = Field(default=60, description="Give up when the router says nothing at all for so long. It says that it lives every 15 s.")

    def __init__(self) -> None:
        self.name = "Claude Code"
        self.valves = self.Valves()

    def pipe(self, body: Dict[str, Any], __task__: Optional[str] = None) -> Union[str, Iterator[str]]:
        """Called for every message. `__task__` is set when Open WebUI asks on its own behalf, for a title or for tags."""
        answer = self._answer(body.get("messages") or [], is_chat=__task__ is None)
        return answer if body.get("stream", True) else "".join(answer)

    def _answer(self, messages: List[Dict[str, Any]], is_chat: bool) -> Iterator[str]:
        prompt = next((text_of(m) for m in reversed(messages) if m.get("role") == "user"), "")
        session = session_of(messages) if is_chat else None
        try:
            with requests.post(
                self.valves.RUNYARD_URL.rstrip("/") + "/api/claude",
                json=self._request(prompt, session, first_system_prompt(messages)),
                headers={"Authorization": f"Bearer {self.valves.RUNYARD_TOKEN}"} if self.valves.RUNYARD_TOKEN else {},
                stream=True,
                timeout=(CONNECT_S, self.valves.SILENCE_S),
            ) as response:
                if response.status_code != 200:
                    yield f"**Error:** {refusal_of(response)}"
                    return
                yield from self._told(events_of(response), session, is_chat)
        except requests.RequestException as error:
            yield f"**Error:** the router cannot be reached, or went away: {type(error).__name__}"

    def _request(self, prompt: str, session: Optional[str], system_prompt: str) -> Dict[str, Any]:
        valves = self.valves
        request: Dict[str, Any] = {"prompt": prompt}
        if session:
            request["session_id"] = session
        elif valves.WORKSPACE:
            request["workspace"] = valves.WORKSPACE
        if system_prompt:
            request["system-prompt"] = system_prompt
        if valves.ALLOWED_TOOLS:
            request["allowedTools"] = rules_of(valves.ALLOWED_TOOLS)
        if valves.DISALLOWED_TOOLS:
            request["disallowedTools"] = rules_of(valves.DISALLOWED_TOOLS)
        if valves.SKIP_PERMISSIONS:
            request["dangerously-skip-permissions"] = True
        return request

    def _told(self, events: Iterator[Dict[str, Any]], session: Optional[str], is_chat: bool) -> Iterator[str]:
        has_text = False
        for event in events:
            kind = event.get("type")
            if kind == "error":
                yield f"\n\n**Error:** {event.get('error')}"
                return
            if kind == "system" and event.get("subtype") == "init" and is_chat and event.get("session_id") != session:
                session = event.get("session_id")
                yield f"session_id={session}\n\n"
            elif kind == "assistant" and not event.get("parent_tool_use_id"):
                for said, is_text in blocks_of(event):
                    if is_text or (is_chat and self.valves.SHOW_TOOLS):
                        has_text = has_text or is_text
                        yield said
            elif kind == "result":
                result = event.get("result")
                if event.get("is_error"):
                    # What the API said is in a text already; limits that were reached are said nowhere else.
                    errors = event.get("errors")
                    why = "; ".join(map(str, errors)) if isinstance(errors, list) and errors else result or event.get("subtype")
                    yield f"\n\n**Error:** {why}"
                elif not has_text and isinstance(result, str):
                    yield result


def events_of(response: requests.Response) -> Iterator[Dict[str, Any]]:
    # As bytes: in a text, str.splitlines would take U+2028 within a JSON string for the end of its line.
    for line in response.iter_lines(chunk_size=None):
        if line.startswith(b"data: "):
            event = json.loads(line[len(b"data: "):])
            if isinstance(event, dict):
                yield event


def blocks_of(event: Dict[str, Any]) -> Iterator[Tuple[str, bool]]:
    content = (event.get("message") or {}).get("content")
    for block in content if isinstance(content, list) else []:
        if block.get("type") == "text":
            yield block.get("text", "") + "\n", True
        elif block.get("type") == "tool_use":
            yield f"\n`{block.get('name')}`\n\n", False


def session_of(messages: List[Dict[str, Any]]) -> Optional[str]:
    """The one that was named last, by us: whatever a person writes is looked at by nobody."""
    found = [SESSION.findall(text_of(m)) for m in messages if m.get("role") == "assistant"]
    ids = [named[0] for named in found if named]
    return ids[-1].lower() if ids else None


def first_system_prompt(messages: List[Dict[str, Any]]) -> str:
    return next((text_of(m) for m in messages if m.get("role") == "system"), "")


def text_of(message: Dict[str, Any]) -> str:
    """Of a message that may have images beside its text."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(part.get("text", "") for part in parts if isinstance(part, dict) and part.get("type") == "text")


def rules_of(text: str) -> List[str]:
    return [rule.strip() for rule in re.split(r",(?![^(]*\))", text) if rule.strip()]


def refusal_of(response: requests.Response) -> str:
    try:
        said = response.json()
        error = said.get("error")
        return said.get("message") or (error.get("message") if isinstance(error, dict) else None) or f"status {response.status_code}"
    except (ValueError, AttributeError):
        return f"status {response.status_code}"
