"""The server refuses what it cannot do with a sentence, and reads images from where it was allowed to."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tiny import make_image, make_model, make_processor


pytest.importorskip("fastapi", reason="the server needs fastapi")
pytest.importorskip("uvicorn", reason="the server needs uvicorn")

from fastapi.testclient import TestClient
from transformers.cli.serving.model_manager import ModelManager

from transformers_llava import register
from transformers_llava.artifacts.limits import MAX_REQUEST_IMAGES
from transformers_llava.cli.main import main
from transformers_llava.generation.server.app import build_app
from transformers_llava.generation.server.images import ImageSources


CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    make_model().save_pretrained(folder)
    make_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def manager(folder: Path) -> ModelManager:
    register()
    return ModelManager(device="cpu", dtype="float32", force_model=str(folder))


@pytest.fixture(scope="module")
def client(manager: ModelManager) -> TestClient:
    return TestClient(build_app(manager, ImageSources()), raise_server_exceptions=False)


def data_url(content: bytes | None = None, kind: str = "image/png") -> str:
    if content is None:
        stream = io.BytesIO()
        make_image().save(stream, "PNG")
        content = stream.getvalue()
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def body(url: Any = None, text: str = "What is it?", **fields: Any) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if url is not None:
        parts.insert(0, {"type": "image_url", "image_url": {"url": url}})
    return {"messages": [{"role": "user", "content": parts}], "max_tokens": 3, **fields}


def message(response: Any) -> str:
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error["message"]


def with_messages(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": list(messages), "max_tokens": 3, **fields}


REFUSED = {
    "broken base64": (body("data:image/png;base64,@@@"), "no valid base64"),
    "truncated image": (body(data_url(base64.b64decode(data_url().split(",")[1])[:-40])), "cannot be decoded"),
    "text as png": (body(data_url(b"hello there")), "not in a format|not an image"),
    "svg": (
        body(data_url(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml")),
        "not in a format|not an image",
    ),
    "empty url": (body(""), "no image_url"),
    "no url": (body(5), "no image_url"),
    "an address": (body("http://127.0.0.1:9/x.png"), "--allow_image_urls"),
    "a file address": (body("file:///etc/passwd"), "neither a data URL"),
    "a path": (body("/etc/passwd.png"), "--image_root"),
    "role tool": (with_messages({"role": "tool", "content": "x"}), "role 'tool'"),
    "role developer": (with_messages({"role": "developer", "content": "x"}), "role 'developer'"),
    "no messages": (with_messages(), "messages is empty"),
    "messages a text": ({"messages": "hello"}, "messages is empty or no list"),
    "no messages at all": ({"max_tokens": 3}, "messages"),
    "a message that is a text": (with_messages("hi"), r"messages\[0\]"),
    "content of a number": (with_messages({"role": "user", "content": 5}), "content 5"),
    "audio": (with_messages({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}), "input_audio"),
    "a file part": (with_messages({"role": "user", "content": [{"type": "file", "file": {}}]}), "'file'"),
    "max_tokens 0": (body(max_tokens=0), "max_tokens is 0"),
    "max_tokens of words": (body(max_tokens="many"), "max_tokens is 'many'"),
    "temperature": (body(temperature=-1), "temperature is -1"),
    "top_p": (body(top_p=0), "top_p is 0"),
    "logprobs": (body(logprobs=True), "no probabilities"),
    "n": (body(n=2), "one answer"),
    "response_format": (body(response_format={"type": "json_object"}), "forces no format"),
    "tools": (body(tools=[{"type": "function", "function": {"name": "f"}}]), "knows no tools"),
    "stop": (body(stop=[""]), "stop is"),
    "a template of the client's": (body(chat_template_kwargs={"chat_template": "{{ 1 }}"}), "takes no arguments"),
    "unknown field": (body(wat=1), "wat"),
    "generation_config of words": (body(generation_config="x"), "is not JSON"),
    "generation_config of lists": (body(generation_config="[" * 100_000), "is not JSON"),
    "generation_config, no text": (body(generation_config={"top_k": 1}), "must be a text"),
    "a length past the context": (body(generation_config='{"max_length": 1000000000}'), "max_new_tokens"),
    "a million beams": (body(generation_config='{"num_beams": 1000000}'), "num_beams is 1000000"),
    "a million answers": (body(generation_config='{"num_return_sequences": 1000000}'), "num_return_sequences"),
    "another cache": (body(generation_config='{"cache_implementation": "offloaded"}'), "cache_implementation"),
    "another form": (body(generation_config='{"return_dict_in_generate": true}'), "return_dict_in_generate"),
    "too many images": (
        with_messages(
            {"role": "user", "content": body(data_url())["messages"][0]["content"][:1] * (MAX_REQUEST_IMAGES + 1)}
        ),
        f"more than {MAX_REQUEST_IMAGES} images",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_a_400_with_its_sentence(name: str, client: TestClient) -> None:
    sent, words = REFUSED[name]
    response = client.post(CHAT, json=sent)
    assert response.status_code == 400, response.text
    assert re.search(words, message(response)), message(response)


def test_a_typed_image_marker_is_a_400(client: TestClient) -> None:
    for url in (None, data_url()):
        response = client.post(CHAT, json=body(url, text="look: <image>"))
        assert response.status_code == 400, response.text
        assert "<image>" in message(response)


def test_another_model_is_refused_by_name(client: TestClient) -> None:
    response = client.post(CHAT, json=body(model="gpt-4o"))
    assert response.status_code == 400
    assert "gpt-4o" in message(response)


def test_what_is_no_json_is_a_400_and_what_is_too_large_a_413(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.post(CHAT, content=b"{").status_code == 400
    assert client.post(CHAT, json=[1]).status_code == 400
    from transformers_llava.generation.server import app

    monkeypatch.setattr(app, "MAX_REQUEST_BYTES", 1000)
    large = json.dumps(body(text="x" * 2000)).encode()
    assert client.post(CHAT, content=large).status_code == 413
    in_chunks = client.post(CHAT, content=(large[at : at + 500] for at in range(0, len(large), 500)))
    assert in_chunks.status_code == 413


def test_a_prompt_that_is_too_long_is_refused_and_a_default_length_fits(
    client: TestClient, manager: ModelManager
) -> None:
    model, _ = manager.load_model_and_processor(f"{manager.force_model}@main")
    positions = model.config.get_text_config().max_position_embeddings
    response = client.post(CHAT, json=body(text="word " * positions))
    assert response.status_code == 400
    assert f"the model reads {positions}" in message(response)
    response = client.post(CHAT, json=body(max_tokens=positions))
    assert response.status_code == 400
    assert "Ask for at most" in message(response)
    sent = body()
    del sent["max_tokens"]
    response = client.post(CHAT, json=sent)
    assert response.status_code == 200, response.text
    assert response.json()["usage"]["total_tokens"] <= positions


def test_sampling_happens_when_it_is_asked_for(client: TestClient) -> None:
    def answers(**fields: Any) -> set[str]:
        found = set()
        for seed in range(4):
            response = client.post(CHAT, json=body(data_url(), max_tokens=8, seed=seed, **fields))
            assert response.status_code == 200, response.text
            found.add(response.json()["choices"][0]["message"]["content"])
        return found

    assert len(answers()) == len(answers(temperature=0)) == 1
    assert len(answers(temperature=1.5)) > 1
    assert len(answers(top_p=0.99)) > 1


def test_stop_strings_stop(client: TestClient, manager: ModelManager) -> None:
    whole = client.post(CHAT, json=body(data_url(), max_tokens=12)).json()["choices"][0]["message"]["content"]
    stop = next(letter for letter in whole if letter != "\ufffd")
    response = client.post(CHAT, json=body(data_url(), max_tokens=12, stop=stop))
    assert response.status_code == 200, response.text
    stopped = response.json()["choices"][0]["message"]["content"]
    assert len(stopped) < len(whole)
    assert stop in stopped  # `generate` keeps the string that ended it


def test_the_model_is_listed_and_nothing_else_can_be_loaded_or_unloaded(client: TestClient, folder: Path) -> None:
    listed = client.get("/v1/models").json()
    assert [one["id"] for one in listed["data"]] == [str(folder)]
    assert client.get(f"/v1/models/{folder}").json()["id"] == str(folder)
    assert client.get("/v1/models/wat").status_code == 404
    assert client.post("/load_model", json={"model": "other/model"}).status_code == 404
    assert client.post("/reset").status_code == 404
    assert client.get("/health").json() == {"status": "ok"}


def test_responses_are_not_streamed_unless_asked_for(client: TestClient) -> None:
    content = [{"type": "input_image", "image_url": data_url()}, {"type": "input_text", "text": "What is it?"}]
    sent = {"input": [{"role": "user", "content": content}], "max_output_tokens": 3}
    response = client.post("/v1/responses", json=sent)
    assert response.status_code == 200, response.text
    assert response.json()["output"][0]["type"] == "message"
    streamed = client.post("/v1/responses", json={**sent, "stream": True})
    assert "response.completed" in streamed.text


def test_chat_streams(client: TestClient) -> None:
    whole = client.post(CHAT, json=body(data_url())).json()["choices"][0]["message"]["content"]
    streamed = client.post(CHAT, json=body(data_url(), stream=True))
    chunks = [json.loads(line[6:]) for line in streamed.text.split("\n") if line.startswith("data: {")]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text
    assert text == whole.rstrip("\ufffd")  # half a character is never streamed


def test_files_below_the_image_root_are_read_where_it_is_allowed(
    manager: ModelManager, tmp_path: Path, client: TestClient
) -> None:
    (tmp_path / "root").mkdir()
    make_image().save(tmp_path / "root" / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    allowed = TestClient(build_app(manager, ImageSources(image_root=tmp_path / "root")))
    there = allowed.post(CHAT, json=body("a.png"))
    assert there.status_code == 200, there.text
    assert there.json()["choices"] == client.post(CHAT, json=body(data_url())).json()["choices"]
    for path in ("../secret.png", str(tmp_path / "secret.png"), "none.png"):
        assert allowed.post(CHAT, json=body(path)).status_code == 400


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/nonexistent"], "there is no folder '/nonexistent'"),
        (["x", "--port", "99999"], "--port is 99999"),
        (["x", "--image_root", "/nonexistent"], "no such folder"),
    ],
)
def test_a_mistyped_command_is_one_message(arguments: list[str], words: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["serve", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["x", "--prot", "80"], ["x", "--port", "x"]])
def test_a_mistyped_flag_is_said_by_the_parser(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", *arguments])
    assert ended.value.code == 2
    assert "llava" in capsys.readouterr().err
