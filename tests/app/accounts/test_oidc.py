"""Signing in through the organisation, against a provider on this machine."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from joserfc.jwk import OctKey, RSAKey

from app.accounts.errors import ProviderError
from app.accounts.oidc import Provider
from app.errors import SettingsError
from app.settings import Settings
from tests.app.accounts.provider import CLIENT, SECRET, TestProvider

BACK = "http://127.0.0.1:7860/account/organisation/back"


@pytest.fixture(scope="module")
def served():
    provider = TestProvider()
    yield provider
    provider.close()


@pytest.fixture
def organisation(served):
    served.claims = {"sub": "42", "preferred_username": "amal", "roles": ["radiologists"]}
    served.tamper, served.sign_with, served.algorithm = dict, None, "RS256"
    return served


@pytest.fixture
def settings(organisation, tmp_path):
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    return Settings(
        oidc_issuer=organisation.issuer,
        oidc_client_id=CLIENT,
        oidc_secret_file=tmp_path / "secret",
        oidc_roles=("radiologists=clinician", "quality=reviewer", "it=administrator"),
    )


@pytest.fixture
def provider(settings):
    return Provider.of(settings)


def visit(url):
    """Be the browser at the provider; returns what it brings back."""
    answer = httpx.get(url)
    assert answer.status_code == 303, answer.text
    location = answer.headers["location"]
    assert location.startswith(BACK)
    return dict(parse_qsl(urlsplit(location).query))


def come_back(provider):
    url, secret = provider.begin(BACK)
    return provider.finish(visit(url), secret)


def refused(provider, given, secret):
    with pytest.raises(ProviderError) as error:
        provider.finish(given, secret)
    return str(error.value)


def test_somebody_the_organisation_vouches_for(provider, organisation):
    """The whole way: discovery, authorization with PKCE, exchange, keys, claims."""
    person = come_back(provider)
    assert (person.name, person.role) == ("amal", "clinician")
    assert person.subject.startswith(organisation.issuer)
    assert come_back(provider).subject == person.subject


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"roles": ["other", "quality"]}, "reviewer"),
        ({"roles": "it"}, "administrator"),
        ({"roles": ["quality", "it", "radiologists"]}, "administrator"),
        ({"roles": ["quality", "radiologists"]}, "clinician"),
    ],
)
def test_roles_come_from_the_claim(provider, organisation, claims, role):
    """A list or one; of several the one that sees least of others' data."""
    organisation.claims |= claims
    assert come_back(provider).role == role


def test_a_claim_inside_others(settings, organisation):
    """Dots lead into objects, as Keycloak writes them."""
    organisation.claims["realm_access"] = {"roles": ["quality"]}
    assert come_back(Provider.of(replace(settings, oidc_role_claim="realm_access.roles"))).role == "reviewer"


@pytest.mark.parametrize("roles", [[], ["visitors"], None, {"it": True}, [["it"]], 7, "it "])
def test_without_a_role_nobody_comes_in(provider, organisation, roles):
    """Whatever else the claim holds."""
    organisation.claims["roles"] = roles
    with pytest.raises(ProviderError, match="not given you access"):
        come_back(provider)


@pytest.mark.parametrize("name", ["<script>", "", None, "a/b", "x" * 300])
def test_a_name_no_account_can_have(provider, organisation, name):
    """It becomes one of the subject."""
    organisation.claims["preferred_username"] = name
    found = come_back(provider).name
    assert found.startswith(("user-", "x" * 64))
    assert "<" not in found


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://elsewhere.example"},
        {"aud": "another"},
        {"aud": ["another", CLIENT], "azp": "another"},
        {"aud": ["another", CLIENT]},
        {"azp": "another"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": 1000},
        {"exp": None},
        {"iat": None},
        {"sub": None},
    ],
)
def test_a_token_that_is_not_ours(provider, organisation, change):
    """Another issuer, audience, nonce or time; or one left out."""
    organisation.tamper = lambda claims: {k: v for k, v in {**claims, **change}.items() if v is not None}
    with pytest.raises(ProviderError, match="could not be verified"):
        come_back(provider)


def test_signatures_of_others(provider, organisation):
    """Another key, the public key taken for a shared secret, and no signature at all."""
    organisation.sign_with = RSAKey.generate_key(2048, {"kid": "one"})
    with pytest.raises(ProviderError, match="could not be verified"):
        come_back(provider)
    organisation.sign_with = OctKey.import_key(b"a secret both sides might share....")
    organisation.algorithm = "HS256"
    with pytest.raises(ProviderError, match="could not be verified"):
        come_back(provider)
    organisation.algorithm = "none"
    organisation.token, kept = (
        (lambda nonce: f"eyJhbGciOiJub25lIn0.eyJub25jZSI6Inh9.{nonce[:0]}"),
        organisation.token,
    )
    try:
        with pytest.raises(ProviderError, match="could not be verified"):
            come_back(provider)
    finally:
        organisation.token = kept


def test_what_was_begun_elsewhere_or_before(provider, monkeypatch):
    """Another browser's secret, a state used twice or invented, ten minutes: none of them comes in."""
    url, secret = provider.begin(BACK)
    given = visit(url)
    assert "another browser" in refused(provider, given, "not the secret")
    assert "another browser" in refused(provider, given, secret)  # used up by the first attempt
    url, secret = provider.begin(BACK)
    assert "another browser" in refused(provider, {**visit(url), "state": "invented"}, secret)
    assert "another browser" in refused(provider, {}, "")
    url, secret = provider.begin(BACK)
    given = visit(url)
    monkeypatch.setattr("app.accounts.oidc._LASTS_S", -1.0)
    assert "took too long" in refused(provider, given, secret)


def test_another_issuers_answer_and_codes(provider):
    """Mix-up, a cancelled sign-in, a stolen code."""
    url, secret = provider.begin(BACK)
    assert "verified" in refused(provider, {**visit(url), "iss": "https://elsewhere.example"}, secret)
    url, secret = provider.begin(BACK)
    assert "refused" in refused(provider, {**visit(url), "error": "access_denied"}, secret)
    first, _ = provider.begin(BACK)
    stolen = visit(first)["code"]
    url, secret = provider.begin(BACK)
    assert "refused" in refused(provider, {**visit(url), "code": stolen}, secret)  # PKCE: another verifier


def test_a_provider_that_is_not_there(settings):
    """A sentence, and nothing of the request in it."""
    with pytest.raises(ProviderError, match="did not answer"):
        Provider.of(replace(settings, oidc_issuer="http://127.0.0.1:9")).begin(BACK)


@pytest.mark.parametrize(
    "change",
    [
        {"oidc_issuer": "http://id.example"},
        {"oidc_client_id": ""},
        {"oidc_roles": ()},
        {"oidc_roles": ("radiologists",)},
        {"oidc_roles": ("radiologists=chief",)},
    ],
)
def test_settings_that_cannot_be(settings, change):
    """Told at the start, not at the first sign-in."""
    with pytest.raises(SettingsError):
        Provider.of(replace(settings, **change))


def test_nothing_is_asked_before_the_button(settings, organisation):
    """Making it, and importing it, reaches nobody and needs no package of the extra."""
    before = len(organisation.asked)
    Provider.of(settings)
    assert len(organisation.asked) == before
    code = (
        "import sys, app.accounts.people, app.accounts.oidc; "
        "sys.exit(any(m.split('.')[0] in ('authlib', 'joserfc', 'httpx') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
