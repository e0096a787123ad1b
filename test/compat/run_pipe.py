"""Runs a pipe function as Open WebUI would: file, valves, body and further arguments as JSON. Each piece it says is a line of JSON."""

import importlib.util
import json
import sys

path, valves, body, more = sys.argv[1:5]
spec = importlib.util.spec_from_file_location("pipe_function", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

pipe = module.Pipe()
pipe.valves = pipe.Valves(**json.loads(valves))
answer = pipe.pipe(json.loads(body), **json.loads(more))
for piece in [answer] if isinstance(answer, str) else answer:
    print(json.dumps(piece), flush=True)
