"""Nobody gets anything of somebody else's, on any route and by any event.

The routes of the application, those of Gradio and the page's events are enumerated from the running
server: one that stands in no table here fails. A row says how another person would ask for something of
the first one's; the first one asks the same afterwards and gets it, so that the row is known to ask right.
"""

# ruff: noqa: E501 - tables of requests, one a line

from __future__ import annotations

import gc
import json
import threading
import uuid
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from argon2 import PasswordHasher
from pydicom.data import get_testdata_file

from app import web
from app.accounts.passwords import Passwords
from app.history.store import HistoryStore
from app.model import ModelInfo
from app.session import Workspace
from app.settings import Settings
from app.ui.guard import _GRADIO_ROUTES
from app.ui.rates import RATES, Rate
from engine.scripted import ScriptedBackend
from viewers.worker import Intake

if TYPE_CHECKING:
    from app.accounts.people import People

# Gradio leaves event loops and sockets of its start to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
MARK = "Zanzibar"
PASSWORD = "four words make sense"  # noqa: S105 - of accounts made here
DENIED = (401, 403, 404)


@dataclass
class Row:
    """How to ask on one route; braces name things of the first person."""

    path: str
    body: Any = None
    content: bytes | None = None
    denied: bool = True
    """Whether somebody else is refused; otherwise they get their own, without a word of the first one's."""
    mine: tuple[int, ...] = (200,)
    """What the first person gets."""


QUERY = "?view={view}"
SHAPE = {"kind": "length", "points": [[10, 10], [20, 20]]}
ROUTES = {
    "GET /healthz": Row("/healthz", denied=False),
    "POST /upload": Row("/upload", content=b"no image", denied=False, mine=(422,)),
    "GET /slides/{digest}/tiles/{tile:path}": Row("/slides/{digest}/tiles/0/0_0.jpeg", mine=(404, 422)),
    "GET /slides/{digest}/region": Row("/slides/{digest}/region?view={slide}", mine=(404, 422)),
    "GET /slides/{digest}/grid": Row("/slides/{digest}/grid?view={slide}", mine=(404, 422)),
    "GET /shown/render": Row("/shown/render" + QUERY),
    "GET /images/{digest}": Row("/images/{digest}"),
    "GET /images/{digest}/frames/{frame:int}": Row("/images/{digest}/frames/0"),
    "GET /images/{digest}/frames/{frame:int}/plane": Row("/images/{digest}/frames/0/plane?plane={view}", mine=(200, 422)),
    "GET /images/{digest}/geometry": Row("/images/{digest}/geometry"),
    "POST /measure": Row("/measure", body={"view": "{view}", "shape": SHAPE}),
    "GET /measure": Row("/measure?thread={thread}"),
    "POST /studies": Row("/studies", denied=False),
    "GET /studies": Row("/studies?images={digest}", denied=False),
    "GET /studies/{id}": Row("/studies/{study}"),
    "POST /studies/{id}/files": Row("/studies/{study}/files", content=b"nothing", mine=(200, 422)),
    "POST /studies/{id}/read": Row("/studies/{study}/read", mine=(200, 422)),
    "GET /history/threads": Row("/history/threads", denied=False),
    "GET /history/search": Row("/history/search?q=" + MARK, denied=False),
    "GET /history/tags": Row("/history/tags", denied=False),
    "POST /history/import": Row("/history/import", content=b"no archive", denied=False, mine=(422,)),
    "GET /history/threads/{thread}/export": Row("/history/threads/{thread}/export"),
    "POST /history/threads/{thread}/pin": Row("/history/threads/{thread}/pin", body={"pinned": True}),
    "POST /history/threads/{thread}/tags": Row("/history/threads/{thread}/tags", body={"tags": [MARK]}),
    "POST /history/threads/{thread}/language": Row("/history/threads/{thread}/language", body={"language": "ar"}),
    "POST /history/threads/{thread}/fork": Row("/history/threads/{thread}/fork", body={"turn": "{turn}"}),
    "POST /history/answers/{answer}/judgement": Row("/history/answers/{answer}/judgement", body={"reasons": ["other"], "text": MARK}),
    "GET /prompts": Row("/prompts", denied=False),
    "POST /prompts": Row("/prompts", body={"id": "{prompt}", "text": "Own words"}, denied=False, mine=(200, 422)),
    "POST /grounding": Row("/grounding", body={"thread": "{thread}", "answer": "{answer}"}, mine=(200, 422)),
    "GET /adapters": Row("/adapters", denied=False),
    "POST /adapters": Row("/adapters", body={"name": ""}, denied=False),
    # what takes something away comes last
    "DELETE /prompts/{prompt}": Row("/prompts/{prompt}", denied=False, mine=(200, 404)),
    "DELETE /measure/{id}": Row("/measure/{measured}"),
    "DELETE /studies/{id}": Row("/studies/{study}"),
}  # fmt: skip
ACCOUNT_ROUTES = {
    "GET /account/sign-in": 200,
    "POST /account/sign-in": 401,
    "POST /account/sign-out": 303,
    "POST /account/lock": 204,
    "POST /account/here": 204,
    "GET /account/state": 200,
    "GET /account": 200,
    "POST /account/password": 422,
    "GET /account/sign-ins": 200,
    "POST /account/sign-ins/{sign_in}/end": 404,
    "GET /account/organisation": 404,
    "GET /account/organisation/back": 404,
    "GET /account/users": 403,
    "POST /account/users": 403,
    "POST /account/users/change": 403,
    "GET /review": 303,
    "GET /review/threads": 403,
    "GET /review/search": 403,
    "GET /review/threads/{thread}": 403,
    "GET /review/threads/{thread}/turns/{turn}/views/{position:int}": 403,
}
"""What a clinician gets who names things of another account."""
PAGE_FILES = ("/page/css", "/page/js", "/page/fonts", "/page/icons")
EVENTS = {
    "load": None,
    "list": None,
    "open": {"thread": "{thread}"},
    "refresh": {"thread": "{thread}"},
    "rename": {"thread": "{thread}", "title": "taken over"},
    "ask": {"run": "r1", "thread": "{thread}", "question": "What is this?", "views": []},
    "again": {"run": "r2", "thread": "{thread}", "turn": "{turn}"},
    "edit": {"run": "r3", "thread": "{thread}", "turn": "{turn}", "question": "Another?"},
    "twin": {"run": "r4", "thread": "{thread}", "answer": "{answer}"},
    "stop": {"run": "{run}"},
    "remove": {"thread": "{thread}", "current": "{thread}"},
}


@dataclass
class World:
    """A running server and what the first person has on it."""

    workspace: Workspace
    page: Any
    url: str
    routes: list[Any]
    people: People | None
    mine: httpx.Client
    others: dict[str, httpx.Client]
    things: dict[str, str] = field(default_factory=dict)

    def fill(self, value: Any) -> Any:
        """Put the first person's things into a row."""
        if isinstance(value, dict):
            return {name: self.fill(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self.fill(one) for one in value]
        if value == "{view}":  # in a body it is an object, in an address its text
            return json.loads(self.things["view"])
        for name, thing in self.things.items() if isinstance(value, str) else ():
            value = value.replace(f"{{{name}}}", thing)
        return value

    def ask(self, client: httpx.Client, route: str, row: Row) -> httpx.Response:
        """Ask as a row says."""
        content = row.content if row.body is None else json.dumps(self.fill(row.body)).encode()
        return client.request(route.split(maxsplit=1)[0], self.fill(row.path), content=content)

    def event(self, client: httpx.Client, name: str, session: str, payload: Any = None) -> str:
        """Send an event as the page does; returns everything that comes back."""
        found = next(fn for fn in self.page.fns.values() if fn.name == name)
        index = next(key for key, fn in self.page.fns.items() if fn is found)
        data = {
            "data": [], "fn_index": index, "trigger_id": found.targets[0][0], "session_hash": session,
            "event_data": None if payload is None else {"payload": self.fill(payload)},
        }  # fmt: skip
        if not found.queue:
            return self.sent(client.post("/gradio_api/run/predict", json=data))
        joined = client.post("/gradio_api/queue/join", json=data)
        if joined.status_code != 200:
            return self.sent(joined)
        lines = []
        with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                lines.append(line)
                if "process_completed" in line or "close_stream" in line:
                    break
        return "\n".join(lines)

    @staticmethod
    def sent(answer: httpx.Response) -> str:
        return f"{answer.status_code} {answer.text}"

    def state(self) -> str:
        """Everything the first person has, to see that nobody changed it."""
        owner = self.things["owner"]
        thread = self.workspace.thread(owner, self.things["thread"])
        return repr(
            (
                thread,
                self.workspace.curation.threads(owner),
                self.workspace.prompts.of(owner) if hasattr(self.workspace.prompts, "of") else "",
            )
        )

    def secrets(self) -> set[str]:
        """Words that must stand in no answer to anybody else."""
        named = ("digest", "thread", "turn", "answer", "study", "owner")
        return {MARK} | {self.things[name] for name in named}


def client_of(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=60)


def signed_in(url: str, name: str, password: str = PASSWORD) -> httpx.Client:
    client = client_of(url)
    answer = client.post("/account/sign-in", data={"name": name, "password": password})
    assert answer.status_code == 303, answer.text
    return client


def make_workspace(folder: Path, intake: Intake, ownership: str) -> Workspace:
    settings = Settings(data_folder=folder, ownership=ownership, port=0)
    settings.uploads_folder.mkdir(parents=True)
    settings.images_folder.mkdir()
    info = ModelInfo("scripted", "scripted", is_demonstration=False, reason="a test")
    return Workspace(settings, HistoryStore.open(settings.database_path), ScriptedBackend(), info, intake)


@pytest.fixture(scope="module", params=["visitor", "users"])
def world(request, tmp_path_factory, intake):
    """Serve the page for real; the first person has an image, a conversation, a study and a prompt."""
    workspace = make_workspace(tmp_path_factory.mktemp("two") / "data", intake, request.param)
    patch = pytest.MonkeyPatch()
    cheap = Passwords(PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    patch.setattr("app.accounts.people.Passwords", lambda: cheap)
    for kind in RATES:  # their own test is in ui/test_rates.py
        patch.setitem(RATES, kind, Rate(1e6, 1e6))
    kept: dict[str, Any] = {}

    def routes(workspace, people=None, original=web.routes):
        kept["people"], kept["routes"] = people, original(workspace, people)
        return kept["routes"]

    patch.setattr(web, "routes", routes)
    page, url = web.launch(workspace)
    people = kept["people"]
    if people is not None:
        for name in ("amal", "badr", "must", "gone", "lock"):
            people.accounts.add(name, "clinician", PASSWORD, must_change=name == "must")
        people.accounts.add("rita", "reviewer", PASSWORD, must_change=False)
        people.accounts.add("root", "administrator", PASSWORD, must_change=False)
        mine = signed_in(url, "amal")
        others = {name: signed_in(url, name) for name in ("badr", "rita", "root", "must", "gone", "lock")}
        others["lock"].post("/account/lock")
        others["gone"].post("/account/sign-out")
    else:
        mine, others = client_of(url), {"second": client_of(url), "never opened": client_of(url)}
        for one in (mine, others["second"]):
            assert one.get("/").status_code == 200
    made = World(workspace, page, url, kept["routes"], people, mine, others)
    furnish(made)
    yield made
    for one in (mine, *others.values()):
        one.close()
    page.close(verbose=False)
    workspace._intake = Intake()
    workspace.close()
    patch.undo()
    gc.collect()


def furnish(world: World) -> None:
    """Give the first person things, each with a mark where words may stand."""
    ct = Path(get_testdata_file("CT_small.dcm", download=False)).read_bytes()
    image = world.mine.post("/upload", content=ct).json()["image"]
    things = world.things
    things["digest"], things["view"] = image["digest"], json.dumps(image["default_view"])
    region = {"x": 0, "y": 0, "width": 9, "height": 9}
    things["slide"] = json.dumps(
        {"slide": image["digest"], "region": region, "rotation": 0, "overview": False}
    )
    things["session"], things["run"] = f"s{uuid.uuid4().hex}", "run-of-mine"
    payload = {
        "run": "first",
        "thread": None,
        "question": f"{MARK}, what is this?",
        "views": [image["default_view"]],
    }
    said = world.event(world.mine, "ask", things["session"], payload)
    assert MARK in said
    found = world.mine.get("/history/threads").json()["threads"][0]["id"]
    with world.workspace.history.database.read() as connection:
        things["owner"] = connection.exec_driver_sql("SELECT owner FROM threads").scalar_one()
    turn = world.workspace.thread(things["owner"], found).turns[0]
    things |= {"thread": found, "turn": turn.id, "answer": turn.answers[0].id}
    measured = {"view": image["default_view"], "shape": SHAPE, "thread": found}
    things["measured"] = world.mine.post("/measure", json=measured).json()["id"]
    things["study"] = world.mine.post("/studies").json()["id"]
    prompts = world.mine.get("/prompts").json()
    things["prompt"] = next(iter(prompts.values()))[0]["id"] if prompts else "0"


def clinicians(world: World) -> dict[str, httpx.Client]:
    return {name: one for name, one in world.others.items() if name in ("second", "badr")}


def named_routes(routes: list[Any], prefix: str = "") -> set[str]:
    """Every method and path, of included routers too."""
    found = set()
    for route in routes:
        if hasattr(route, "original_router"):
            found |= named_routes(route.original_router.routes, prefix)
        elif getattr(route, "methods", None):
            found |= {f"{method} {prefix}{route.path}" for method in route.methods - {"HEAD"}}
        else:
            found.add(f"{prefix}{route.path}")
    return found


def test_every_route_has_a_row(world):
    """A route nobody thought about here is a route nobody tested."""
    known = set(ROUTES) | set(PAGE_FILES) | (set(ACCOUNT_ROUTES) if world.people else set())
    served = named_routes(world.routes)
    assert served - known == set()
    assert set(ROUTES) <= served


def test_every_event_has_a_row(world):
    """The same for what the page may send."""
    assert {fn.name for fn in world.page.fns.values()} == set(EVENTS)


@pytest.mark.parametrize("route", ROUTES)
def test_others_get_nothing_of_mine(world, route):
    """Refused like something missing, or given their own; then the owner gets it."""
    row, before = ROUTES[route], world.state()
    for name, client in world.others.items():
        answer = world.ask(client, route, row)
        works = name in clinicians(world)
        if row.denied or not works:
            assert answer.status_code in DENIED or row.path == "/healthz", (name, answer.text)
        assert not [word for word in world.secrets() if word in answer.text], (name, answer.text)
        assert MARK.encode() not in answer.content
    assert world.state() == before
    assert world.ask(world.mine, route, row).status_code in row.mine


@pytest.mark.parametrize("event", EVENTS)
def test_events_of_others_reach_nothing_of_mine(world, event):
    """With the owner's ids in their own session they get an error without data; nothing changes."""
    before = world.state()
    for client in world.others.values():
        said = world.event(client, event, f"t{uuid.uuid4().hex}", EVENTS[event])
        words = world.secrets() - {world.things["thread"], world.things["turn"], world.things["answer"]}
        assert not [word for word in words if word in said], said
    assert world.state() == before


@pytest.mark.parametrize("event", EVENTS)
def test_events_in_my_session_are_refused_to_others(world, event):
    """Naming the owner's session, whose stream would show the outcome, is refused before Gradio."""
    for client in world.others.values():
        said = world.event(client, event, world.things["session"], EVENTS[event])
        assert said[:3] in ("401", "403"), said


def test_my_session_by_other_ways_to_name_it(world):
    """In the query, twice, in the path, in a body that says it twice: all of them count."""
    session = world.things["session"]
    double = f'{{"session_hash": "{session}", "data": [], "fn_index": 1, "session_hash": "mine"}}'
    for client in clinicians(world).values():
        client.get("/")
        for answer in (
            client.get("/gradio_api/queue/data", params={"session_hash": session}),
            client.get(f"/gradio_api/queue/data?session_hash=x&session_hash={session}"),
            client.get(f"/gradio_api/queue/data?session_hash={session}&session_hash=x"),
            client.get(f"/gradio_api/heartbeat/{session}"),
            client.get(f"/gradio_api/heartbeat/{session}/"),
            client.post("/gradio_api/run/predict", content=double),
            client.post("/gradio_api/run/predict", json={"session_hash": "x", "batch": [{"session_hash": session}]}),
            client.post(f"/gradio_api/run/predict?session_hash={session}", json={"data": [], "fn_index": 1}),
        ):  # fmt: skip
            assert answer.status_code == 403, answer.request.url
        for body in (b"[]", b"nonsense", b'{"session_hash": 7}', b"[" * 100_000):
            assert client.post("/gradio_api/queue/join", content=body).status_code == 422
        assert client.post("/gradio_api/queue/join", content=b" " * (2 << 20)).status_code == 413


def test_the_owner_reaches_it_all(world):
    """The same events of the first person do something, so the refusals above mean something."""
    session = world.things["session"]
    assert MARK in world.event(world.mine, "open", session, EVENTS["open"])
    assert MARK in world.event(world.mine, "load", session)
    assert '"kind":"thread"' in world.event(world.mine, "refresh", session, EVENTS["refresh"]).replace(
        " ", ""
    )
    assert MARK in world.event(world.mine, "again", session, EVENTS["again"])


def test_the_rest_of_gradio_is_shut(world):
    """Whatever Gradio serves besides the few routes the page uses is refused to everybody, in all spellings."""
    served = named_routes(world.page.app.routes)
    assert len(served) > 60
    opened = {route for route in served if is_open(route.split()[-1])}
    assert {route for route in opened if "/gradio_api/" in route} == {
        "POST /gradio_api/run/{api_name}", "POST /gradio_api/run/{api_name}/", "POST /gradio_api/queue/join",
        "GET /gradio_api/queue/data", "GET /gradio_api/heartbeat/{session_hash}", "GET /gradio_api/startup-events",
        "GET /gradio_api/app_id", "GET /gradio_api/app_id/", "GET /gradio_api/theme.css",
    }  # fmt: skip
    own = named_routes(world.routes)
    for route in served - opened - own - {"GET /"}:
        method, path = [*route.split(), ""][:2] if " " in route else ("GET", route)
        for spelling in (
            path,
            path.replace("/gradio_api", "//gradio_api"),
            path.upper(),
            f"{path}/",
            f"/.{path}",
        ):
            answer = world.mine.request(method, httpx.URL(world.url).copy_with(raw_path=spelling.encode()))
            assert answer.status_code in (403, 404), (route, spelling, answer.status_code)


def is_open(path: str) -> bool:
    return path.startswith(_GRADIO_ROUTES)


@pytest.mark.parametrize(
    "path",
    [
        "/images/..%2fhealthz", "/images/%2e%2e/healthz", "/page/js/..%2f..%2f__init__.py", "/images//x", "/%2fupload",
        "/page/js/%5c..%5c__init__.py", "/page/js/%00", "/assets/..%2f..%2f..%2fetc/passwd", "/assets//etc/passwd",
        "/static/..%2f..%2fconfig", "/gradio_api/run/../file=/etc/passwd", "/GRADIO_API/file=/etc/passwd",
        "/gradio_api%2ffile=/etc/passwd", "/gradio_api/%66ile=/etc/passwd", "/Images/x", "/;/upload", "/history/threads/%2e%2e/%2e%2e",
    ],
)  # fmt: skip
def test_path_tricks(world, path):
    """No spelling of a path leads anywhere else."""
    url = httpx.URL(world.url).copy_with(raw_path=path.encode())
    for method in ("GET", "POST", "PUT", "PATCH", "TRACE", "OPTIONS", "PROPFIND"):
        answer = world.mine.request(method, url)
        assert answer.status_code in (403, 404, 405), (method, answer.status_code, answer.text)
        assert "root:" not in answer.text


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"])
def test_methods_are_what_they_are(world, method):
    """No header turns one method into another, and no unusual one reaches anything."""
    headers = {"x-http-method-override": "GET", "x-method-override": "GET", "x-http-method": "GET"}
    for client in (world.mine, *world.others.values()):
        answer = client.request(method, f"/images/{world.things['digest']}", headers=headers)
        assert answer.status_code in (401, 403, 405)
        posted = client.post(
            f"/history/threads/{world.things['thread']}?_method=DELETE",
            headers={"x-http-method-override": "DELETE"},
        )
        assert posted.status_code in (401, 403, 404, 405)
    assert world.state()


def test_head_and_options_say_nothing(world):
    """What is refused is refused to every way of looking; no other origin is let in."""
    path = f"/images/{world.things['digest']}"
    for client in world.others.values():
        assert client.head(path).status_code in DENIED
        asked = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
        answer = client.options(path, headers=asked)
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    head = world.mine.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for open_path in ("/", "/gradio_api/startup-events", path):
        answer = world.mine.get(open_path, headers={"origin": "https://elsewhere.example"})
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_a_stop_of_others_stops_nothing_of_mine(world):
    """A running answer goes on, whoever names its run."""
    owner, run, session = world.things["owner"], "long-run", world.things["session"]
    payload = {"run": run, "thread": None, "question": "word " * 60, "views": []}
    came: list[str] = []
    asking = threading.Thread(target=lambda: came.append(world.event(world.mine, "ask", session, payload)))
    asking.start()
    for client in clinicians(world).values():
        world.event(client, "stop", f"u{uuid.uuid4().hex}", {"run": run})
        assert not world.workspace.stop("somebody", f"{session}:{run}")
    asking.join(60)
    newest = world.workspace.thread(owner, world.mine.get("/history/threads").json()["threads"][0]["id"])
    assert newest.turns[-1].answers[-1].state == "complete"
    assert "process_completed" in came[0]


def test_accounts_of_others(world):
    """A clinician manages nobody, reviews nobody and sees no other's sign-ins; in visitors' mode it is shut."""
    if world.people is None:
        for route in ACCOUNT_ROUTES:
            method, path = route.split()
            assert world.mine.request(method, path.replace(":int", "")).status_code == 403
        return
    mine = world.mine.get("/account/sign-ins").json()["signIns"][0]["id"]
    fill = partial(world.fill)
    second = signed_in(world.url, "badr")
    for route, expected in ACCOUNT_ROUTES.items():
        method, path = route.split()
        if path == "/account/sign-out":
            continue
        path = fill(path.replace("{sign_in}", mine).replace("{position:int}", "0"))
        if path == "/account/lock":
            second.close()
            second = signed_in(world.url, "badr")
        body = {"name": "amal", "password": "x", "task": "disable", "role": "clinician"}
        answer = second.request(method, path, json=body)
        assert answer.status_code == expected, (route, answer.text)
        assert not [word for word in world.secrets() if word in answer.text], route
        if path == "/account/lock":
            assert second.get("/account/sign-ins").status_code == 401
            second = signed_in(world.url, "badr")
    assert not next(one for one in world.people.accounts.list() if one.name == "amal").disabled


@pytest.mark.parametrize("world", ["users"], indirect=True)
def test_a_reviewer_reads_and_is_recorded(world):
    """All conversations, read-only, each look in the audit before it; pictures only of what was opened."""
    rita, thread, turn = world.others["rita"], world.things["thread"], world.things["turn"]
    picture = f"/review/threads/{thread}/turns/{turn}/views/0"
    assert rita.get(picture).status_code == 404
    listed = rita.get("/review/threads")
    assert thread in listed.text
    assert "amal" in listed.text
    assert MARK not in listed.text
    assert MARK in rita.get(f"/review/threads/{thread}").text
    assert rita.get(picture).headers["content-type"] == "image/png"
    owner = next(one.owner for one in world.people.accounts.list() if one.name == "rita")
    assert [(one.action, one.subject) for one in world.workspace.history.audit(owner)][-1] == (
        "reviewed",
        thread,
    )
    found = rita.get("/review/search", params={"q": MARK, "user": "AMAL"}).json()["hits"]
    assert {one["owner"] for one in found} == {"amal"}
    assert thread in {one["thread"] for one in found}
    assert any(piece["marked"] for piece in found[0]["pieces"])
    recorded = {one.subject for one in world.workspace.history.audit(owner) if one.action == "found"}
    assert recorded == {one["thread"] for one in found}
    everybody = rita.get("/review/search", params={"q": MARK}).json()["hits"]
    assert len(everybody) >= len(found)
    for nothing in (
        {"user": "badr"},
        {"user": "root"},
        {"since": "2999-01-01T00:00:00Z"},
        {"modality": "XX"},
    ):
        assert not [h for h in rita.get("/review/search", params={"q": MARK, **nothing}).json()["hits"]
                    if h["owner"] == "amal"]  # fmt: skip
    assert rita.get("/review/search").json() == {"hits": []}
    assert rita.get("/review/search", params={"q": MARK, "since": "yesterday"}).status_code == 422
    before = world.state()
    for method in ("POST", "DELETE", "PUT"):
        assert rita.request(method, f"/review/threads/{thread}").status_code in (403, 405)
    assert world.state() == before


@pytest.mark.parametrize("world", ["users"], indirect=True)
def test_an_administrator_sees_no_patient(world):
    """Accounts and nothing else: neither one's own work nor reviews."""
    root, thread = world.others["root"], world.things["thread"]
    assert root.get("/").headers["location"] == "account"
    assert root.get("/account/users").status_code == 200
    for path in (
        "/review/threads",
        "/review/search?q=a",
        f"/review/threads/{thread}",
        "/history/threads",
        f"/images/{world.things['digest']}",
    ):
        assert root.get(path).status_code == 403


def test_deleting_comes_to_its_owner_alone(world):
    """Last of all: the owner deletes, and others could not."""
    for client in world.others.values():
        world.event(client, "remove", f"v{uuid.uuid4().hex}", EVENTS["remove"])
    assert world.state()
    world.event(world.mine, "remove", world.things["session"], EVENTS["remove"])
    assert world.things["thread"] not in world.mine.get("/history/threads").text


def test_one_machine_needs_no_sign_in(tmp_path, intake):
    """The default opens nothing of accounts: no route, no table read, no cookie."""
    workspace = make_workspace(tmp_path / "data", intake, "single")
    assert not {
        route for route in named_routes(web.routes(workspace)) if "account" in route or "review" in route
    }
    assert web._people(workspace) == (None, None)
    assert replace(workspace.settings).ownership == "single"
    workspace._intake = Intake()
    workspace.close()
