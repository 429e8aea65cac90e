"""A small OpenID Connect provider: discovery, keys, code with PKCE; vouches for whom it is told.

It checks what a provider must check, so a client that leaves something out fails here as it would there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "workstation", "client-secret"


class TestProvider:
    """One provider on a free port of this machine."""

    __test__ = False

    def __init__(self):
        self.key = RSAKey.generate_key(2048, {"kid": "one"})
        self.claims = {"sub": "42", "preferred_username": "amal", "roles": ["radiologists"]}
        self.codes = {}
        self.asked = []
        self.tamper = dict
        self.sign_with = None
        self.algorithm = "RS256"
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                provider.get(self)

            def do_POST(self):
                provider.post(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def get(self, handler):
        parts = urlsplit(handler.path)
        self.asked.append(parts.path)
        if parts.path == "/.well-known/openid-configuration":
            names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
            self.say(
                handler,
                {"issuer": self.issuer, **{name: f"{self.issuer}/{at}" for name, at in names.items()}},
            )
        elif parts.path == "/keys":
            self.say(handler, {"keys": [self.key.as_dict(private=False)]})
        elif parts.path == "/authorize":
            given = dict(parse_qsl(parts.query))
            assert given["response_type"] == "code"
            assert "openid" in given["scope"].split()
            assert given["code_challenge_method"] == "S256"
            code = f"code{len(self.codes)}"
            self.codes[code] = given
            back = urlencode({"code": code, "state": given["state"], "iss": self.issuer})
            handler.send_response(303)
            handler.send_header("location", f"{given['redirect_uri']}?{back}")
            handler.end_headers()
        else:
            self.say(handler, {}, 404)

    def post(self, handler):
        body = handler.rfile.read(int(handler.headers["content-length"])).decode()
        given = {name: values[0] for name, values in parse_qs(body).items()}
        self.asked.append("/token")
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        begun = self.codes.pop(given.get("code", ""), None)
        challenge = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
        if handler.headers["authorization"] != f"Basic {basic}":
            self.say(handler, {"error": "invalid_client"}, 401)
        elif (
            begun is None
            or begun["redirect_uri"] != given["redirect_uri"]
            or begun["code_challenge"] != base64.urlsafe_b64encode(challenge).decode().rstrip("=")
        ):
            self.say(handler, {"error": "invalid_grant"}, 400)
        else:
            token = self.token(begun["nonce"])
            self.say(handler, {"access_token": "x", "token_type": "Bearer", "id_token": token})

    def token(self, nonce):
        now = int(time.time())
        standard = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 60, "nonce": nonce}
        header = {"alg": self.algorithm, "kid": "one"}
        claims = self.tamper({**standard, **self.claims})
        return jwt.encode(header, claims, self.sign_with or self.key, algorithms=[self.algorithm])

    @staticmethod
    def say(handler, value, status=200):
        body = json.dumps(value).encode()
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
