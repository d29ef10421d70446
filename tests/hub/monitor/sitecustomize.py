"""
Write down what this Python process does to the world: found on PYTHONPATH, so every child of it does the same.

Watched by an audit hook, which nothing in the process can remove: files opened for writing, folders and names changed,
connections, programs started, code run from a watched folder, classes that a pickle calls. Not seen: what native code
does without Python.
"""

import json
import os
import sys


_CHANGES = {
    *(
        "os.mkdir",
        "os.rename",
        "os.remove",
        "os.rmdir",
        "os.symlink",
        "os.link",
        "os.truncate",
        "os.chmod",
        "os.utime",
    ),
}
_STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.startfile"}
_NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _install(log: str, watched: list[str]) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def place(value: object) -> str:
        if isinstance(value, int):
            return ""
        return os.path.abspath(os.fsdecode(value))  # type: ignore[arg-type]

    def say(kind: str, detail: object) -> None:
        line = json.dumps([os.environ.get("MONITOR_CASE", ""), os.getpid(), kind, detail], default=repr)
        os.write(handle, (line + "\n").encode())

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITES and not isinstance(path, int):
                say("write", place(path))
        elif event in _CHANGES:
            paths = [place(one) for one in arguments if isinstance(one, str | bytes | os.PathLike)]
            say("write", paths[-1] if event in ("os.rename", "os.symlink", "os.link") else paths[0] if paths else "")
        elif event in _STARTS:
            say("start", [event, arguments[:2]])
        elif event in _NETWORK:
            say("network", [event, arguments[1:] if event == "socket.connect" else arguments])
        elif event == "exec":
            name = getattr(arguments[0], "co_filename", "")
            if not name.startswith("<") and any(place(name).startswith(folder) for folder in watched):
                say("code", place(name))
        elif event == "pickle.find_class" and arguments[0] in ("os", "posix", "nt", "subprocess", "builtins"):
            say("pickle", list(arguments))

    sys.addaudithook(hook)


if "MONITOR_LOG" in os.environ:
    _install(os.environ["MONITOR_LOG"], json.loads(os.environ["MONITOR_WATCHED"]))
