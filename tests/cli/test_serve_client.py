"""`llava serve` answers an OpenAI-style client; its prompt has the tokens of every other path, with one BOS."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiny import make_image, make_model, make_processor


pytest.importorskip("fastapi", reason="the server of transformers needs fastapi")
pytest.importorskip("uvicorn", reason="the server of transformers needs uvicorn")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    make_model().save_pretrained(folder)
    make_processor().save_pretrained(folder)
    make_image().save(folder / "image.png")
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers_llava.cli.main", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    server = subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:  # however long it takes to import: it answers, or it ends
            assert server.poll() is None, "the server ended before it answered"
            try:
                urllib.request.urlopen(f"{url}/health", timeout=60).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.25)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=300)


def test_an_openai_style_client_gets_an_answer_to_a_prompt_with_one_bos(url: str, folder: Path) -> None:
    image = "data:image/png;base64," + base64.b64encode((folder / "image.png").read_bytes()).decode()
    content = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": "What is it?"}]
    body = {"model": str(folder), "messages": [{"role": "user", "content": content}], "max_tokens": 3, "stream": False}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as response:
        answer = json.load(response)
    assert isinstance(answer["choices"][0]["message"]["content"], str)
    here = [{"role": "user", "content": [{"type": "image", "image": make_image()}, content[1]]}]
    encoded = make_processor().apply_chat_template(here, add_generation_prompt=True, tokenize=True, return_dict=True)
    ids = encoded["input_ids"][0]
    assert ids.count(1) == 1
    assert answer["usage"]["prompt_tokens"] == len(ids)
