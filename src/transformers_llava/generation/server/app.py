"""Build the web application: OpenAI's routes for one model, errors with the sentence that explains them."""

import logging
import time
import uuid
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from jinja2 import TemplateError
from transformers.cli.serving.model_manager import ModelManager

from transformers_llava.artifacts.limits import MAX_REQUEST_BYTES
from transformers_llava.generation.server.checks import RequestError
from transformers_llava.generation.server.handlers import (
    BoundedGenerationState,
    CheckedChatHandler,
    CheckedCompletionHandler,
    CheckedResponseHandler,
)
from transformers_llava.generation.server.images import ImageSources


logger = logging.getLogger(__name__)


def build_app(manager: ModelManager, sources: ImageSources, *, compile: bool = False) -> FastAPI:
    """
    Build the application for the model that a manager is pinned to.

    Routes: `POST /v1/chat/completions`, `/v1/responses`, `/v1/completions`; `GET /v1/models`, `/v1/models/NAME`,
    `/health`. Routes of transformers' server that load other models or unload this one are left out: a client uses the
    model that the user at the server has chosen.

    Args:
        manager ([`ModelManager`]): Of transformers, with `force_model`.
        sources ([`ImageSources`]): Where images may come from beside the request itself.
        compile (`bool`, *optional*, defaults to `False`): Use `torch.compile` with a static cache.

    Returns:
        `FastAPI`: Every error is OpenAI's `{"error": {"message", "type", "param", "code"}}`: 400 where the client can
        mend it, 413 for a body that is too large, 500 with the reason otherwise.
    """
    assert manager.force_model is not None, "the server answers for one model"
    state = BoundedGenerationState(compile=compile)
    handlers: dict[str, Any] = {
        "/v1/chat/completions": CheckedChatHandler(manager, state, sources=sources),
        "/v1/responses": CheckedResponseHandler(manager, state, sources=sources),
        "/v1/completions": CheckedCompletionHandler(manager, state, sources=sources),
    }
    app = FastAPI(title="llava serve")
    app.add_middleware(BoundedBodies)
    for path, handler in handlers.items():
        app.post(path)(_route(handler))
    # OpenAI's form; `id` is what a client sends back as `model`.
    model = {"id": manager.force_model, "object": "model", "created": int(time.time()), "owned_by": _owner(manager)}

    @app.get("/v1/models")
    def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{name:path}")
    def show_model(name: str) -> dict[str, Any]:
        if name != model["id"]:
            raise RequestError(f"there is no model {name[:100]!r} here, only {model['id']!r}.", status=404)
        return model

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    app.exception_handler(RequestError)(_request_error)
    app.exception_handler(HTTPException)(_http_error)
    app.exception_handler(RequestValidationError)(_no_json)
    return app


def _route(handler: Any) -> Any:
    async def answer(request: Request, body: dict[str, Any]) -> Any:
        request_id = request.headers.get("x-request-id") or str(uuid.uuid4())
        try:
            response = await handler.handle_request(body, request_id)
        except (RequestError, HTTPException):
            raise
        except (TemplateError, ValueError, TypeError, KeyError, OverflowError) as error:
            # The template, the processor and `generate` say what they cannot take; the client is the one to change it.
            logger.warning("a request was refused: %s", error, exc_info=logger.isEnabledFor(logging.DEBUG))
            raise RequestError(_message(error)) from error
        except Exception as error:
            logger.exception("a request failed")
            return _error(f"the model failed: {type(error).__name__}: {_message(error)}", "server_error", 500)
        response.headers["x-request-id"] = request_id
        return response

    return answer


class BoundedBodies:
    """Answers 413 to a body of more than `MAX_REQUEST_BYTES`, before anything reads it into memory."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > MAX_REQUEST_BYTES:
            await self._refuse(scope, receive, send)
            return
        num_bytes, has_started = 0, False

        async def bounded_receive() -> Any:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > MAX_REQUEST_BYTES:  # it was sent in chunks, without a declared length
                return {"type": "http.disconnect"}
            return message

        async def bounded_send(message: Any) -> None:
            nonlocal has_started
            if num_bytes <= MAX_REQUEST_BYTES:
                await send(message)
            elif not has_started:  # whatever the application makes of half a body
                has_started = True
                await self._refuse(scope, receive, send)

        await self.app(scope, bounded_receive, bounded_send)

    async def _refuse(self, scope: Any, receive: Any, send: Any) -> None:
        await _error(_too_large(), "invalid_request_error", 413)(scope, receive, send)


def _too_large() -> str:
    return f"the request is larger than {MAX_REQUEST_BYTES / 2**20:.0f} MiB. Send smaller or fewer images."


async def _request_error(_: Request, error: Any) -> JSONResponse:
    return _error(str(error), "invalid_request_error", error.status, error.param)


async def _http_error(_: Request, error: Any) -> JSONResponse:
    status = 400 if error.status_code == 422 else error.status_code
    return _error(str(error.detail), "invalid_request_error", status)


async def _no_json(_: Request, error: Any) -> JSONResponse:
    reasons = "; ".join(str(one.get("msg")) for one in error.errors()[:3])
    return _error(f"the body is no JSON object: {reasons}.", "invalid_request_error", 400)


def _error(message: str, kind: str, status: int, param: str | None = None) -> JSONResponse:
    content = {"error": {"message": message, "type": kind, "param": param, "code": None}}
    return JSONResponse(content, status_code=status)


def _message(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"the field {error} is missing."
    return " ".join(str(error).split())[:1_000]


def _owner(manager: ModelManager) -> str:
    name = str(manager.force_model)
    return name.split("/")[0] if name.count("/") == 1 and not Path(name).exists() else "local"


__all__ = ["build_app"]
