"""Run pytest in a process of its own without paying for its start.

A server process imports pytest once, and each run is forked from it. A run has its own arguments,
folder, environment and streams. It loads its own plugins, and exits like any interpreter.
"""

import json
import os
import subprocess
import sys
from contextlib import contextmanager

# The server imports no module of this project: a run must load the plugin's modules itself.
_SERVER = """
import asyncio, json, os, sys
import pytest

sys.stdout, answers = open(os.devnull, "w"), sys.stdout
pytest.main(["--help"])  # imports what every run does
sys.stdout = sys.__stdout__
for line in sys.stdin:
    arguments, environment, folder, printed, errors = json.loads(line)
    child = os.fork()
    if not child:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
else:
    sys.exit()
for stream, file in ((0, os.devnull), (1, printed), (2, errors)):
    os.dup2(os.open(file, os.O_RDWR), stream)
for stream in (sys.stdout, sys.stderr):
    stream.reconfigure(encoding=environment.get("PYTHONIOENCODING"))
os.environ.clear()
os.environ.update(environment)
os.chdir(folder)
sys.argv[:], sys.path[0] = ["pytest", *arguments], folder
sys.exit(pytest.console_main())
"""


@contextmanager
def forks_of_pytest():
    """Yield a function `run(arguments, environment, folder, printed, errors)`.

    The function returns the exit status of pytest. `printed` and `errors` are paths of existing
    files that take the output.
    """
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-c", _SERVER]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:

        def run(*request):
            print(json.dumps(request), file=server.stdin, flush=True)
            return int(server.stdout.readline())

        yield run
