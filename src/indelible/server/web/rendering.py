"""Render templates: escaped by default, under a policy that admits no script of a page itself."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from indelible.access import Principal, Verb
from indelible.events import RecordedEvent
from indelible.server import wire
from indelible.server.problems import Problem

from . import assets, formats
from .addresses import address
from .forms import form_token

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types indelible"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    # With no-referrer, browsers tell no origin with a form either.
    "Referrer-Policy": "same-origin",
    "Vary": "HX-Request-Type, Cookie",
}
NAVIGATION = (
    ("overview", "/", "Overview"),
    ("streams", "/streams", "Streams"),
    ("log", "/log", "Log"),
    ("types", "/types", "Types"),
    ("groups", "/groups", "Groups"),
    ("projections", "/projections", "Projections"),
    ("health", "/health", "Health"),
)


@cache
def environment() -> jinja2.Environment:
    """Return the templates' environment."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("indelible.server.web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(formats.FILTERS)
    made.globals.update(static=assets.address, address=address, navigation=NAVIGATION)
    # As globals, because a block that is rendered alone has no imports.
    made.globals["kit"] = made.get_template("parts/kit.html").module
    made.globals["json"] = made.get_template("parts/tree.html").module
    return made


def render(
    request: Request,
    template: str,
    *,
    title: str,
    nav: str = "",
    status: int = 200,
    headers: dict[str, str] | None = None,
    **context: Any,
) -> Response:
    """Render a screen, or its part `content` if a script of the page asks for it.

    Args:
        request: the request.
        template: the name of the template, which extends `base.html`.
        title: the title: the object first, then the screen.
        nav: the entry of the navigation that the screen belongs to.
        status: the HTTP status.
        headers: further headers.
        **context: what the template shows.
    """
    values = {**_shell(request), "title": title, "nav": nav, **context}
    found = environment().get_template(template)
    part = request.headers.get("hx-target-block") or "content"
    if request.headers.get("hx-request-type") == "partial" and part in found.blocks:
        text = "".join(found.blocks[part](found.new_context(values)))
    else:
        text = found.render(values)
    return Response(text, status, {**_HEADERS, **(headers or {})}, "text/html")


def error(request: Request, problem: Problem) -> Response:
    """Render what failed, why, and what to do."""
    return render(
        request,
        "error.html",
        title=problem.kind.replace("-", " ").capitalize(),
        status=problem.status,
        headers=problem.headers,
        problem=problem,
    )


def fragment(template: str, **context: Any) -> str:
    """Render a part on its own, such as a row of a list that a live page adds."""
    return environment().get_template(template).render(context)


def event_json(event: RecordedEvent) -> str:
    """Return an event as JSON, as the API has it."""
    return msgspec.json.format(msgspec.json.encode(wire.event_answer(event)), indent=2).decode()


def _shell(request: Request) -> dict[str, Any]:
    """Return what every page has around its content."""
    principal: Principal | None = request.scope.get("principal")
    cookies = request.cookies
    return {
        "path": request.scope["path"],
        "here": f"{request.scope['path']}?{request.scope['query_string'].decode('latin-1')}".rstrip(
            "?"
        ),
        "principal": principal,
        "is_guarded": request.app.state.settings.is_guarded,
        "badges": _badges(request, principal),
        "csrf": form_token(principal),
        "theme": _one_of(cookies.get("theme"), "light", "dark"),
        "density": _one_of(cookies.get("density"), "compact"),
        "zone": _one_of(cookies.get("zone"), "utc"),
    }


def _badges(request: Request, principal: Principal | None) -> dict[str, int]:
    """Return what the navigation counts: from what was counted before, without a statement."""
    if principal is None or not principal.may_everywhere(Verb.READ):
        return {}
    sampler = getattr(request.app.state, "sampler", None)
    if sampler is None:
        return {}
    sample = sampler.sample
    return {
        "groups": sum(info.parked for info in sample.groups),
        "projections": sum(status.stopped for status in sample.projections),
    }


def _one_of(given: str | None, *known: str) -> str:
    return given if given in known else ""
