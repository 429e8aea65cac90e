"""Signing in through the organisation: OpenID Connect, authorization code with PKCE.

The provider is asked only when somebody presses its button: for its addresses, then to exchange the code,
and for its keys. What a browser brings back counts only with the secret that stands in this same browser's
cookie, once, and for ten minutes.

References
----------
OpenID Connect Core 1.0 and Discovery 1.0; RFC 7636 (PKCE); RFC 9207 (issuer in the answer); RFC 9700.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import urlsplit

from app.accounts.errors import (
    ProviderExpiredError,
    ProviderInvalidError,
    ProviderRefusedError,
    ProviderRoleError,
    ProviderUnreachableError,
)
from app.accounts.records import ROLES
from app.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

    from app.accounts.records import Role
    from app.settings import Settings

__all__ = ["Person", "Provider"]

_T = TypeVar("_T")
_LOG = logging.getLogger("bimedix2.accounts")
_LASTS_S: Final = 600.0
_MOST_WAITING: Final = 1000
_TIMEOUT_S: Final = 10.0
_LEEWAY_S: Final = 60
"""Seconds two computers' clocks may differ."""
_ALGORITHMS: Final = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
"""Signatures by a key pair alone: with a shared secret whoever knows it could sign."""
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Person:
    """Whom the organisation vouches for."""

    subject: str
    """Issuer and subject; stays when the name changes."""
    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class _Begun:
    """What is remembered between leaving and coming back."""

    at: float
    secret: str
    nonce: str
    verifier: str
    back: str


class Provider:
    """The organisation's sign-in.

    Parameters
    ----------
    settings : Settings
        Those beginning with ``oidc``.
    client_secret : str
        Empty for a public client.
    roles : mapping of str to Role
        Values of the role claim, and what they stand for here.
    transport : httpx.BaseTransport, optional
        Another way to reach it, for tests.
    """

    def __init__(
        self,
        settings: Settings,
        client_secret: str,
        roles: Mapping[str, Role],
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._issuer = settings.oidc_issuer.rstrip("/")
        self._secret = client_secret
        self._roles = dict(roles)
        self._transport = transport
        self._begun: OrderedDict[str, _Begun] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def of(cls, settings: Settings) -> Provider:
        """Make it from settings; asks nobody anything.

        Raises
        ------
        SettingsError
            If something is missing, or the extra ``oidc`` is not installed.
        """
        import importlib.util

        if importlib.util.find_spec("authlib") is None:
            raise SettingsError(place="oidc_issuer", found="no package authlib", expected="the extra oidc")
        parts = urlsplit(settings.oidc_issuer)
        if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise SettingsError(place="oidc_issuer", found=settings.oidc_issuer, expected="an https address")
        if not settings.oidc_client_id:
            raise SettingsError(place="oidc_client_id", found="nothing", expected="the client's id")
        secret = ""
        if settings.oidc_secret_file != Path():
            secret = settings.oidc_secret_file.expanduser().read_text(encoding="utf-8").strip()
        return cls(settings, secret, _roles(settings.oidc_roles))

    @property
    def host(self) -> str:
        """Name of the provider's host."""
        return urlsplit(self._issuer).hostname or ""

    def begin(self, back: str) -> tuple[str, str]:
        """Begin; returns the address to send the browser to, and the secret for its cookie.

        Parameters
        ----------
        back : str
            Address the provider sends the browser back to.

        Raises
        ------
        ProviderError
            If the provider does not answer as it should.
        """
        state, secret, nonce = (secrets.token_urlsafe(32) for _ in range(3))
        begun = _Begun(time.monotonic(), secret, nonce, secrets.token_urlsafe(64), back)
        endpoint = self._asked(lambda client: self._discover(client)["authorization_endpoint"])
        url, _ = self._client(back).create_authorization_url(
            endpoint, state=state, nonce=begun.nonce, code_verifier=begun.verifier
        )
        with self._lock:
            self._begun[state] = begun
            while len(self._begun) > _MOST_WAITING:
                self._begun.popitem(last=False)
        return str(url), begun.secret

    def finish(self, given: Mapping[str, str], secret: str) -> Person:
        """Check what the browser brought back.

        Parameters
        ----------
        given : mapping
            Query of the address it came to.
        secret : str
            From its cookie.

        Raises
        ------
        ProviderError
            If anything is not as it should be, or the person has no role here.
        """
        with self._lock:
            begun = self._begun.pop(given.get("state", ""), None)
        if begun is None or time.monotonic() - begun.at > _LASTS_S:
            raise ProviderExpiredError
        if not secrets.compare_digest(begun.secret.encode(), secret.encode()):
            raise ProviderExpiredError
        if given.get("iss", self._issuer).rstrip("/") != self._issuer:
            raise ProviderInvalidError
        if "error" in given or not given.get("code"):
            raise ProviderRefusedError
        claims = self._asked(lambda client: self._exchange(client, begun, given["code"]))
        return self._person(claims)

    def _exchange(self, http: httpx.Client, begun: _Begun, code: str) -> dict[str, Any]:
        """Exchange a code for the claims of a verified ID token."""
        known = self._discover(http)
        with self._client(begun.back) as client:
            token = client.fetch_token(
                known["token_endpoint"],
                code=code,
                code_verifier=begun.verifier,
                grant_type="authorization_code",
            )
        return self._verify(
            token["id_token"], http.get(known["jwks_uri"]).raise_for_status().json(), begun.nonce
        )

    def _verify(self, token: str, keys: dict[str, Any], nonce: str) -> dict[str, Any]:
        from joserfc import jwt
        from joserfc.jwk import KeySet

        decoded = jwt.decode(token, KeySet.import_key_set(cast("Any", keys)), algorithms=_ALGORITHMS)
        rules = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_S,
            iss={"essential": True},
            aud={"essential": True, "value": self._settings.oidc_client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        claims = decoded.claims
        rules.validate(claims)
        audience = claims["aud"]
        shared = isinstance(audience, list) and len(audience) > 1
        party = claims.get("azp", None if shared else self._settings.oidc_client_id)
        if str(claims["iss"]).rstrip("/") != self._issuer or party != self._settings.oidc_client_id:
            raise ValueError("a token of another issuer, or for another application")
        return claims

    def _person(self, claims: Mapping[str, Any]) -> Person:
        value: Any = claims
        for name in self._settings.oidc_role_claim.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        held = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        granted = {self._roles[one] for one in held if isinstance(one, str) and one in self._roles}
        if not granted:
            raise ProviderRoleError
        # whoever has several gets the one that sees least of others' data
        role = next(one for one in ("administrator", "clinician", "reviewer") if one in granted)
        wanted = str(claims.get("preferred_username") or claims.get("email") or "")
        known = hashlib.sha256(str(claims["sub"]).encode()).hexdigest()[:8]
        return Person(f"{self._issuer}\0{claims['sub']}", _fitting(wanted) or f"user-{known}", role)

    def _discover(self, client: httpx.Client) -> dict[str, str]:
        answer = client.get(f"{self._issuer}/.well-known/openid-configuration").raise_for_status()
        known: dict[str, str] = answer.json()
        if known["issuer"].rstrip("/") != self._issuer:
            raise ValueError("the provider calls itself by another name")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            parts = urlsplit(known[name])
            if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
                raise ValueError(f"{name} is no https address")
        return known

    def _client(self, back: str) -> Any:
        from authlib.integrations.httpx_client import OAuth2Client

        return OAuth2Client(
            self._settings.oidc_client_id,
            self._secret or None,
            scope="openid profile email",
            redirect_uri=back,
            code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_basic" if self._secret else "none",
            timeout=_TIMEOUT_S,
            transport=self._transport,
            trust_env=False,
        )

    def _asked(self, work: Callable[[httpx.Client], _T]) -> _T:
        """Ask the provider; what goes wrong there is logged without what was sent, and told in general."""
        import httpx
        from authlib.common.errors import AuthlibBaseError
        from joserfc.errors import JoseError

        try:
            with httpx.Client(timeout=_TIMEOUT_S, transport=self._transport, trust_env=False) as client:
                return work(client)
        except httpx.HTTPError as error:
            _LOG.warning("the sign-in service at %s did not answer: %s", self.host, type(error).__name__)
            raise ProviderUnreachableError from error
        except AuthlibBaseError as error:
            _LOG.warning("the sign-in service at %s refused: %s", self.host, type(error).__name__)
            raise ProviderRefusedError from error
        except (JoseError, KeyError, TypeError, ValueError) as error:
            _LOG.warning(
                "the sign-in service at %s said what cannot be verified: %s", self.host, type(error).__name__
            )
            raise ProviderInvalidError from error


def _fitting(name: str) -> str:
    """Name with everything no account's name can hold left out."""
    from app.accounts.errors import AccountNameError
    from app.accounts.names import LONGEST_NAME, checked_name

    try:
        return checked_name(name[:LONGEST_NAME])
    except AccountNameError:
        return ""


def _roles(pairs: tuple[str, ...]) -> dict[str, Role]:
    """Read pairs ``value=role``.

    Raises
    ------
    SettingsError
        If one is no pair or names no role, or there is none.
    """
    found: dict[str, Role] = {}
    for pair in pairs:
        value, _, role = pair.rpartition("=")
        if not value or role not in ROLES:
            raise SettingsError(place="oidc_roles", found=pair, expected=f"value={'|'.join(ROLES)}")
        found[value] = role
    if not found:
        raise SettingsError(place="oidc_roles", found="nothing", expected="at least one value=role")
    return found
