"""`llava serve` hands everything to the server of transformers, with our classes registered."""

from transformers_llava.cli.main import main


def test_model_and_options_are_passed_on(monkeypatch):
    from transformers.cli import transformers as transformers_cli

    seen = {}
    monkeypatch.setattr(transformers_cli, "app", lambda **kwargs: seen.update(kwargs))
    assert main(["serve", "my-checkpoint", "--port", "8123"]) == 0
    assert seen["args"] == ["serve", "my-checkpoint", "--port", "8123"]


def test_missing_server_libraries_are_named(monkeypatch, capsys):
    from transformers.cli import serve

    monkeypatch.setattr(serve, "is_serve_available", lambda: False)
    assert main(["serve", "my-checkpoint"]) == 2
    assert "transformers[serving]" in capsys.readouterr().err
