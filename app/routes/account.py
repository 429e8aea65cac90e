"""Signing in and out, one's own account, the lock, and the administrator's list of users."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from app.accounts.errors import (
    AccountError,
    ProviderError,
    SignedOutError,
    SignInDelayedError,
    SignInFailedError,
    WrongRoleError,
)
from app.accounts.records import ROLES
from app.errors import UploadTooLargeError, user_text
from app.routes.edge import answered, json_body
from app.ui import wire
from app.ui.guard import IDENTITY
from app.ui.identity import session_cookie
from app.ui.own_pages import both_texts, own_page
from i18n.catalogue import LOCALES, Catalogue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from app.accounts.people import People
    from app.accounts.records import Account, Role, SignIn
    from app.ui.identity import Identity

__all__ = ["routes"]

_LONGEST_FORM: Final = 16 << 10
_LONGEST_NAME: Final = 64
_STATE_COOKIE: Final = "bimedix2-oidc"
_STATE_SECONDS: Final = 600


def routes(people: People) -> list[Route]:
    """Routes of accounts."""
    own, users, organisation = _Own(people), _Users(people), _Organisation(people)
    return [
        Route("/account/sign-in", answered(own.show_sign_in)),
        Route("/account/sign-in", answered(own.sign_in), methods=["POST"]),
        Route("/account/sign-out", answered(own.sign_out), methods=["POST"]),
        Route("/account/lock", answered(own.lock), methods=["POST"]),
        Route("/account/here", answered(own.here), methods=["POST"]),
        Route("/account/state", answered(own.state)),
        Route("/account", answered(own.show)),
        Route("/account/password", answered(own.change_password), methods=["POST"]),
        Route("/account/sign-ins", answered(own.sign_ins)),
        Route("/account/sign-ins/{sign_in}/end", answered(own.revoke), methods=["POST"]),
        Route("/account/organisation", answered(organisation.leave)),
        Route("/account/organisation/back", answered(organisation.back)),
        Route("/account/users", answered(users.listed)),
        Route("/account/users", answered(users.add), methods=["POST"]),
        Route("/account/users/change", answered(users.change), methods=["POST"]),
    ]


class _Own:
    """Endpoints of one's own account."""

    def __init__(self, people: People) -> None:
        self._people = people

    # --- in and out ---------------------------------------------------------------------------------

    async def show_sign_in(self, request: Request) -> Response:
        """Show the page before all others."""
        return self._sign_in_page(request)

    async def sign_in(self, request: Request) -> Response:
        """Sign in by name and password, from the page or from the cover of a locked one."""
        given = await _form(request)
        is_cover = request.headers.get("accept") == "application/json"
        try:
            account = await run_in_threadpool(
                self._people.accounts.authenticate,
                given.get("name", ""),
                given.get("password", ""),
                _address(request),
            )
        except (SignInFailedError, SignInDelayedError) as error:
            status = 429 if isinstance(error, SignInDelayedError) else 401
            if is_cover:
                return JSONResponse({"error": wire.both(error)}, status)
            return self._sign_in_page(request, error, status, given.get("name", ""))
        answer: Response = JSONResponse({"owner": account.owner}) if is_cover else _see("../")
        await begin(self._people, request, answer, account)
        return answer

    async def sign_out(self, request: Request) -> Response:
        """End this browser's sign-in."""
        token = _identity(request).token
        if token is not None:
            await run_in_threadpool(self._people.sign_ins.end, token)
        answer = _see("sign-in")
        answer.headers.append("set-cookie", session_cookie(self._people.settings, None))
        return answer

    def _sign_in_page(
        self, request: Request, error: AccountError | None = None, status: int = 200, name: str = ""
    ) -> Response:
        parts = {
            "error": _both(error) if error else "",
            "organisation": self._organisation(),
            "name": escape(name[:_LONGEST_NAME]),
            "onname": "" if name else "autofocus",
            "onpassword": "autofocus" if name else "",
        }
        return own_page("sign_in", request, self._people.settings, parts, status)

    def _organisation(self) -> str:
        if self._people.provider is None:
            return ""
        label = self._people.settings.oidc_label or self._people.provider.host
        words = _said("account.sign_in_with", name=label)
        return f'<p><a class="button" href="organisation">{words}</a></p>'

    # --- the lock -----------------------------------------------------------------------------------

    async def lock(self, request: Request) -> Response:
        """Give nothing more to this browser until the password is typed."""
        token = _identity(request).token
        if token is not None:
            await run_in_threadpool(self._people.sign_ins.lock, token)
        return Response(status_code=204)

    async def here(self, request: Request) -> Response:
        """Note that somebody uses the page, also where that asks for nothing else."""
        sign_in = _identity(request).sign_in
        return Response(status_code=204 if sign_in is not None and not sign_in.locked else 401)

    async def state(self, request: Request) -> Response:
        """Tell who is signed in; asking is no use of the page."""
        sign_in = _identity(request).sign_in
        if sign_in is None:
            return JSONResponse({"state": "out"})
        account = sign_in.account
        value = {
            "state": "locked" if sign_in.locked else "in",
            "name": account.name,
            "role": account.role,
            "owner": account.owner,
            "password": account.has_password,
            "lockAfter": self._people.settings.lock_after_minutes * 60,
        }
        return JSONResponse(value)

    # --- one's own account --------------------------------------------------------------------------

    async def show(self, request: Request) -> Response:
        """Show one's account: password, sign-ins and, for an administrator, everybody's."""
        sign_in = _identity(request).sign_in
        if sign_in is None or sign_in.locked:
            return _see("account/sign-in")
        return self._page(request, sign_in.account)

    async def change_password(self, request: Request) -> Response:
        """Replace one's password; every other browser is signed out, this one gets another token."""
        account = _signed_in(request).account
        given = await _form(request)
        new = given.get("new", "")
        try:
            if new != given.get("again"):
                return self._page(request, account, _said("account.not_repeated"), 422)
            change = self._people.accounts.change_password
            await run_in_threadpool(change, account, given.get("old", ""), new, _address(request))
        except AccountError as error:
            return self._page(request, account, _both(error), 422)
        self._people.sign_ins.forget()
        answer = _see("../account?changed" if account.role == "administrator" else "../")
        await begin(self._people, request, answer, account)
        return answer

    async def sign_ins(self, request: Request) -> Response:
        """List where one is signed in."""
        mine = _signed_in(request)
        found = await run_in_threadpool(self._people.sign_ins.list, mine.account)
        rows = [
            {"id": one.id, "program": one.program, "seen": one.seen.isoformat(), "here": one.id == mine.id}
            for one in found
        ]
        return JSONResponse({"signIns": rows})

    async def revoke(self, request: Request) -> Response:
        """End one's sign-in somewhere else."""
        mine = _signed_in(request)
        ended = await run_in_threadpool(
            self._people.sign_ins.revoke, mine.account, request.path_params["sign_in"]
        )
        return Response(status_code=204 if ended else 404)

    def _page(self, request: Request, account: Account, error: str = "", status: int = 200) -> Response:
        parts = {
            "who": both_texts(*(f"{account.name} ({_texts(_role(account.role))[one]})" for one in LOCALES)),
            "error": error,
            "done": _said("account.password_changed") if "changed" in request.query_params else "",
            "links": "" if account.must_change else _LINKS[account.role],
            "password": _password_form(account),
            "users": _users_section() if account.role == "administrator" and not account.must_change else "",
        }
        return own_page("account", request, self._people.settings, parts, status)


class _Users:
    """Endpoints of an administrator."""

    def __init__(self, people: People) -> None:
        self._people = people

    async def listed(self, request: Request) -> Response:
        """List all accounts."""
        _administrator(request)
        found = await run_in_threadpool(self._people.accounts.list)
        rows = [
            {
                "name": one.name,
                "role": one.role,
                "disabled": one.disabled,
                "password": one.has_password,
                "seen": one.last_seen.isoformat() if one.last_seen else None,
            }
            for one in found
        ]
        return JSONResponse({"users": rows})

    async def add(self, request: Request) -> Response:
        """Make an account."""
        owner = _administrator(request).owner
        body = await json_body(request)
        name, password = wire.read(body, "name"), wire.read(body, "password", longest=300)
        add = partial(self._people.accounts.add, name, _role_of(body), password, by=owner)
        await run_in_threadpool(add)
        return Response(status_code=204)

    async def change(self, request: Request) -> Response:
        """Disable, enable, reset or give another role."""
        owner = _administrator(request).owner
        body = await json_body(request)
        accounts, name, task = self._people.accounts, wire.read(body, "name"), body.get("task")
        if task == "reset":
            work = partial(accounts.reset, name, wire.read(body, "password", longest=300), by=owner)
        elif task == "role":
            work = partial(accounts.set_role, name, _role_of(body), by=owner)
        elif task in ("disable", "enable"):
            work = partial(accounts.set_disabled, name, disabled=task == "disable", by=owner)
        else:
            raise ValueError("expected disable, enable, reset or role")
        await run_in_threadpool(work)
        self._people.sign_ins.forget()
        return Response(status_code=204)


class _Organisation:
    """Endpoints of the organisation's sign-in; without one they are not there."""

    def __init__(self, people: People) -> None:
        self._people = people

    async def leave(self, request: Request) -> Response:
        """Send the browser to the organisation, with a secret of its own in a cookie."""
        provider = self._people.provider
        if provider is None:
            return Response(status_code=404)
        try:
            url, secret = await run_in_threadpool(provider.begin, self._address_back(request))
        except ProviderError as error:
            return self._refused(request, error)
        answer = RedirectResponse(url, 303)
        self._keep(answer, secret, _STATE_SECONDS)
        return answer

    async def back(self, request: Request) -> Response:
        """Take somebody in whom the organisation vouches for."""
        provider = self._people.provider
        if provider is None:
            return Response(status_code=404)
        secret = request.cookies.get(_STATE_COOKIE, "")
        try:
            person = await run_in_threadpool(provider.finish, dict(request.query_params), secret)
            account = await run_in_threadpool(
                self._people.accounts.by_subject, person.subject, person.name, person.role
            )
        except AccountError as error:
            return self._refused(request, error)
        answer = _see("../../")
        self._keep(answer, "", 0)
        await begin(self._people, request, answer, account)
        return answer

    def _address_back(self, request: Request) -> str:
        settings = self._people.settings
        base = settings.public_url.rstrip("/") or f"{request.url.scheme}://{request.headers.get('host', '')}"
        return f"{base}/account/organisation/back"

    def _refused(self, request: Request, error: AccountError) -> Response:
        parts = {"error": _both(error), "organisation": ""}
        return own_page("sign_in", request, self._people.settings, parts, 401)

    def _keep(self, answer: Response, secret: str, seconds: int) -> None:
        # Lax: the way back begins at the organisation's site
        answer.set_cookie(
            _STATE_COOKIE, secret, max_age=seconds, path="/", httponly=True, samesite="lax",
            secure=self._people.settings.is_https,
        )  # fmt: skip


async def begin(people: People, request: Request, answer: Response, account: Account) -> None:
    """Begin a sign-in with a new token, in the place of whatever this browser sent."""
    earlier = _identity(request).token
    program = _program(request.headers.get("user-agent", ""))
    token = await run_in_threadpool(people.sign_ins.begin, account, program, earlier)
    answer.headers.append("set-cookie", session_cookie(people.settings, token))


def _identity(request: Request) -> Identity:
    return cast("Identity", request.scope[IDENTITY])


def _signed_in(request: Request) -> SignIn:
    """Return whoever is signed in; what a locked page may do is signing in again.

    Raises
    ------
    SignedOutError
        If nobody is.
    """
    found = _identity(request).sign_in
    if found is None or found.locked:
        raise SignedOutError
    return found


def _administrator(request: Request) -> Account:
    """Return the administrator who asks.

    Raises
    ------
    WrongRoleError
        If it is somebody else.
    """
    account = _signed_in(request).account
    if account.role != "administrator" or account.must_change:
        raise WrongRoleError
    return account


async def _form(request: Request) -> dict[str, str]:
    """Fields of a form; given once each."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            raise UploadTooLargeError(found=f"{len(body)} B", limit=f"{_LONGEST_FORM} B")
    fields = parse_qs(bytes(body).decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=10)
    return {name: values[0] for name, values in fields.items() if len(values) == 1}


def _role_of(body: Mapping[str, Any]) -> Role:
    if body.get("role") not in ROLES:
        raise ValueError(f"expected one of {', '.join(ROLES)}")
    return cast("Role", body["role"])


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _see(place: str) -> RedirectResponse:
    """Send to another page; relative, so that a proxy's prefix stays."""
    return RedirectResponse(place, 303)


def _program(agent: str) -> str:
    """Browser and system of a User-Agent, in two words: enough to know one's own computers by."""
    browsers = {"Edg/": "Edge", "Firefox/": "Firefox", "Chrome/": "Chrome", "Safari/": "Safari"}
    systems = {
        "Windows": "Windows",
        "Android": "Android",
        "iPhone": "iPhone",
        "Mac OS": "macOS",
        "Linux": "Linux",
    }
    browser = next((name for sign, name in browsers.items() if sign in agent), "")
    system = next((name for sign, name in systems.items() if sign in agent), "")
    return ", ".join(part for part in (browser, system) if part)


# --- markup, of the catalogue's texts alone ------------------------------------------------------------


def _role(role: str) -> str:
    return f"account.role_{role}"


def _texts(key: str, **values: object) -> dict[str, str]:
    catalogue = Catalogue()
    return {locale: catalogue.text(key, locale, **values) for locale in LOCALES}


def _said(key: str, **values: object) -> str:
    return both_texts(*_texts(key, **values).values())


def _both(error: AccountError) -> str:
    return both_texts(*(user_text(error, locale) for locale in LOCALES))


_LINKS: Final[dict[str, str]] = {
    "clinician": f'<a class="button primary" href=".">{_said("account.open_workstation")}</a>',
    "reviewer": f'<a class="button primary" href="review">{_said("account.review")}</a>',
    "administrator": "",
}


def _password_form(account: Account) -> str:
    if not account.has_password:
        return ""
    notice = f'<p class="notice">{_said("account.must_change")}</p>' if account.must_change else ""
    fields = (
        _password_field("old", "account.old_password", "current-password")
        + _password_field("new", "account.new_password", "new-password")
        + _password_field("again", "account.repeat_password", "new-password")
    )
    return (
        f'<section class="card"><h2>{_said("account.change_password")}</h2>{notice}'
        f'<form method="post" action="account/password">{fields}'
        f'<button class="button primary">{_said("account.change_password")}</button></form></section>'
    )


def _password_field(name: str, key: str, completion: str) -> str:
    return (
        f'<label for="{name}">{_said(key)}</label>'
        f'<input id="{name}" name="{name}" type="password" dir="auto" '
        f'autocomplete="{completion}" maxlength="256" required>'
    )


def _users_section() -> str:
    """Markup of the list of users; its rows come from :meth:`_Users.listed`."""
    roles = "".join(
        f'<label><input type="radio" name="role" value="{role}" required> {_said(_role(role))}</label>'
        for role in ROLES
    )
    return (
        f'<section class="card" id="users"><h2>{_said("account.users")}</h2><ul class="rows"></ul>'
        f'<h3>{_said("account.add_user")}</h3><form class="add">'
        f'<label for="user-name">{_said("account.name")}</label>'
        '<input id="user-name" name="name" dir="auto" autocomplete="off" maxlength="64" required>'
        f'<label for="user-password">{_said("account.first_password")}</label>'
        '<input id="user-password" name="password" type="password" dir="auto" autocomplete="new-password" '
        'maxlength="256" required>'
        f"<fieldset><legend>{_said('account.role')}</legend>{roles}</fieldset>"
        f'<button class="button">{_said("account.add_user")}</button></form></section>'
    )
