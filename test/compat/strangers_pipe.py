"""
A pipe of somebody else, as pipes for the older server were written: it posts, looks at the lines that begin with `data: `,
and knows three of them. Nothing in it knows of Runyard.
"""

import json
import re

import requests
from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        API_URL: str = "http://localhost:3000"

    def __init__(self):
        self.valves = self.Valves()

    def pipe(self, body):
        messages = body["messages"]
        payload = {"prompt": messages[-1]["content"], "allowedTools": ["Read", "Edit"]}
        for message in messages:
            if message["role"] == "assistant":
                found = re.search(r"session_id=([a-f0-9-]+)", message["content"])
                if found:
                    payload["session_id"] = found.group(1)
        response = requests.post(f"{self.valves.API_URL}/api/claude", json=payload, stream=True)
        for line in response.iter_lines():
            if not line:
                continue
            text = line.decode("utf-8")
            if not text.startswith("data: "):
                continue
            data = json.loads(text[6:])
            if data["type"] == "system" and data.get("subtype") == "init":
                yield f"session_id={data['session_id']}\n"
            elif data["type"] == "assistant":
                for part in data["message"]["content"]:
                    if part["type"] == "text":
                        yield part["text"]
            elif data["type"] == "result":
                yield f"\n[{data['subtype']}]"
            elif data["type"] == "error":
                yield f"Error: {data['error']}"
