"""The review page as an application: `uvicorn --factory flukeprint.review.application:from_environment`."""

from __future__ import annotations

import os
import signal
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from threading import Thread

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from flukeprint.catalogue.catalogues import open_catalogue
from flukeprint.core.errors import FlukeprintError
from flukeprint.pages.templates import SHARED
from flukeprint.review import deciding_forms, entering, looking
from flukeprint.review.access import LoginNeededError, Remembering
from flukeprint.review.guards import Guards
from flukeprint.review.pages import STATIC, page
from flukeprint.review.settings import VARIABLE, ReviewSettings

_NO_PAGE = "There is no such page."


def review_application(settings: ReviewSettings) -> FastAPI:
    """Return the application that serves a catalogue."""
    app = FastAPI(title="flukeprint", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.catalogue, app.state.settings = open_catalogue(settings.place), settings
    for module in (looking, deciding_forms, entering):
        app.include_router(module.router)
    app.mount("/static", StaticFiles(directory=STATIC, packages=[("flukeprint.pages", SHARED.name)]))
    app.add_exception_handler(LoginNeededError, _to_login)
    app.add_exception_handler(AnyHTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(FlukeprintError, _refused)
    app.add_middleware(Remembering)
    app.add_middleware(Guards, hosts=settings.hosts)
    return app


def from_environment() -> FastAPI:
    """Return the application that the environment describes, for uvicorn's worker processes."""
    if VARIABLE not in os.environ:
        raise FlukeprintError(f"{VARIABLE} is not set: start the review page with `flukeprint review`.")
    if (parent := parent_process()) is not None:
        Thread(target=_end_with, args=(parent,), daemon=True).start()
    return review_application(ReviewSettings.read(os.environ[VARIABLE]))


def _end_with(parent: BaseProcess) -> None:
    """End this worker when the process that started it was killed: it would go on holding the port."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _to_login(_request: Request, _error: Exception) -> Response:
    return RedirectResponse("/login", 303)


def _refused(_request: Request, error: Exception) -> Response:
    """Say on a page what is wrong."""
    if isinstance(error, AnyHTTPException | HTTPException):
        says = _NO_PAGE if error.detail == "Not Found" else str(error.detail)
        return page("refused", None, error.status_code, refused=says, back="/")
    if isinstance(error, FlukeprintError):
        return page("refused", None, 500, refused=str(error), back="/")
    return page("refused", None, 404, refused=_NO_PAGE, back="/")
