"""`llava serve` says what it needs, and hands its options to the server."""

from pathlib import Path

import pytest

from transformers_llava.cli.main import main


def test_options_reach_the_model_and_the_web_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    uvicorn = pytest.importorskip("uvicorn")
    from transformers.cli.serving import model_manager

    from tiny import make_model, make_processor

    make_model().save_pretrained(tmp_path / "checkpoint")
    make_processor().save_pretrained(tmp_path / "checkpoint")
    seen = {}
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: seen.update(options, app=app))
    created = []
    original = model_manager.ModelManager.__init__
    monkeypatch.setattr(
        model_manager.ModelManager,
        "__init__",
        lambda self, **options: created.append(options) or original(self, **options),
    )
    options = ["--port", "8123", "--host", "::1", "--device", "cpu", "--dtype", "bfloat16"]
    assert main(["serve", str(tmp_path / "checkpoint"), *options]) == 0
    assert (seen["host"], seen["port"]) == ("::1", 8123)
    assert created[0]["device"] == "cpu"
    assert created[0]["dtype"] == "bfloat16"
    assert "/v1/chat/completions" in str(seen["app"].openapi()["paths"])


def test_missing_server_libraries_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    from transformers_llava.cli import extras

    monkeypatch.setattr(extras, "_is_installed", lambda module: module != "uvicorn")
    assert main(["serve", "my-checkpoint"]) == 2
    assert "transformers-llava[serve]" in capsys.readouterr().err


def test_the_help_lists_the_options(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    printed = capsys.readouterr().out
    for flag in ("--port", "--host", "--device", "--allow_image_urls", "--image_root"):
        assert flag in printed
