"""All settings of the application: one frozen object, a unit and a reason for every field.

Defaults are overridden by a TOML file, that by environment variables (``BIMEDIX2_PORT=8080``), those
by flags of the command line. Reading settings touches no other file and imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from app.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ENVIRONMENT_PREFIX", "Ownership", "Settings", "load_settings"]

ENVIRONMENT_PREFIX = "BIMEDIX2_"
Ownership = Literal["single", "visitor", "users"]

_MIB = 1024 * 1024
_LAST_PORT = 65535


_IN_MEMORY = Path("/dev/shm")  # noqa: S108  # shared memory; the folder in it is made for one user alone


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _default_data_folder() -> Path:
    from platformdirs import user_data_path

    return user_data_path("bimedix2-workstation", appauthor=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be chosen; a docstring under each field says its unit and why."""

    host: str = "127.0.0.1"
    """Address to listen on. Loopback only by default: nothing leaves the machine unasked."""
    port: int = 7860
    """TCP port; 0 takes a free one. 7860 is where Hugging Face Spaces looks."""
    database: str = ""
    """URL of a PostgreSQL database for the history, as ``postgresql+psycopg://user@host/name`` (extra
    ``postgres``); empty means a file in the data folder. Give the password in the environment or in
    ``~/.pgpass`` (``PGPASSWORD``, ``PGPASSFILE``) rather than here. Pixels stay in the data folder."""
    retention_days: int = 0
    """Days after its last change until ``bimedix2 history prune`` deletes a conversation; 0: never."""
    retention_tagged_days: int = 0
    """The same for one with a tag; 0: as ``retention_days``."""
    retention_pinned_days: int = 0
    """The same for a pinned one; 0: never."""
    retention_images_days: int = 0
    """The same for an image that no conversation shows; 0: never."""
    encryption_key_file: Path = Path()
    """Key file of an encrypted data folder, see ``bimedix2 encryption``; empty where there is none, or a
    passphrase. Keep it on another disk than the data."""
    scratch_folder: Path = Path()
    """Where uploads lie while they are read; empty means in the data folder or, if that is encrypted, in
    memory (``/dev/shm``) where the system has that."""
    data_folder: Path = Path()
    """Folder of the history and the de-identified pixels; empty means the operating system's own place."""
    model: str = ""
    """Folder or Hub id of a checkpoint; empty means the embedded demonstration model."""
    backend: str = "local"
    """Which backend answers: ``local`` computes here, ``remote`` asks a server, ``scripted`` is for tests."""
    model_process: bool = True
    """Keep the local model in a process of its own, so that one that crashes or is killed for memory ends
    one answer and not the page. Off where processes cannot be started, as under ZeroGPU."""
    adapters: tuple[str, ...] = ()
    """Folders of adapters (LoRA) for the local model, each as ``FOLDER`` or ``NAME=FOLDER``; the page then
    offers them, and switching between questions loads nothing anew."""
    quantisation: str = "none"
    """``none``, ``int8``, ``int4`` (GPU, needs the extra ``quant``) or ``cpu-int8``."""
    chat_layout: str = "auto"
    """How conversations are written for the local model: ``auto`` as BiMediX2 was trained, or as the folder's
    chat template says; ``llama3``, ``vicuna``, ``llama2`` or ``chatml`` for a folder that has none."""
    remote_url: str = ""
    """Address of an OpenAI-compatible server such as vLLM, for the ``remote`` backend."""
    remote_model: str = ""
    """Name of the model on that server."""
    remote_key_file: Path = Path()
    """File that holds the server's key, so that it stands in no command line or environment."""
    remote_plain_http: bool = False
    """Allow http to another machine: de-identified pictures and questions then travel unencrypted."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``. ``auto`` takes CUDA where torch finds it."""
    threads: int = 0
    """CPU threads of the model; 0 leaves torch's own choice (1 for the demonstration model, whose matrices
    are small). On shared cores 1 can be faster than 2."""
    ownership: Ownership = "single"
    """``single``: everything belongs to the one user of this machine. ``visitor``: each browser is an
    owner of its own, known by a random cookie, as a public demonstration needs it. ``users``: people sign in,
    see ``bimedix2 users``."""
    lock_after_minutes: int = 10
    """Minutes without use after which the page covers itself and asks for the password."""
    idle_minutes: int = 60
    """Minutes without use after which a sign-in ends."""
    sign_in_hours: int = 12
    """Hours after which a sign-in ends in any case: a long working day."""
    tls_cert: Path = Path()
    """Certificate chain in PEM; with it the page is served over https."""
    tls_key: Path = Path()
    """Private key of the certificate, in PEM."""
    public_url: str = ""
    """Address users type when a reverse proxy stands in front, e.g. ``https://viewer.example/bimedix2``."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies whose ``X-Forwarded-For`` says where a request comes from. Nobody's
    by default: a header that is believed can be invented."""
    max_images: int = 0
    """Most images kept for one owner; 0 means no limit, as on one's own machine."""
    max_image_bytes: int = 0
    """Most bytes of pixels kept for one owner; 0 means no limit."""
    oidc_issuer: str = ""
    """Address of the organisation's sign-in (OpenID Connect); needs the extra ``oidc``."""
    oidc_client_id: str = ""
    """Name of this application there."""
    oidc_secret_file: Path = Path()
    """File of the client secret; empty for a public client."""
    oidc_label: str = ""
    """What the button calls the organisation."""
    oidc_role_claim: str = "roles"
    """Claim that says what somebody may do; dots lead into objects: ``realm_access.roles``."""
    oidc_roles: tuple[str, ...] = ()
    """Pairs ``value=role``, e.g. ``radiologists=clinician``; somebody without any of them is not let in."""
    secure_cookies: bool = False
    """Mark cookies ``Secure; SameSite=None``, which an https page inside another site's frame needs."""
    frame_ancestors: tuple[str, ...] = ()
    """Sites allowed to show the page in a frame, besides itself."""
    max_upload_bytes: int = 512 * _MIB
    """Largest upload, in bytes. A multi-frame angiography or tomosynthesis file stays below 512 MiB."""
    keep_graphics: bool = False
    """Keep drawings and text over pictures, of DICOM overlays and presentation states, so that the page can
    show them. Off by default: both may name the patient, and the model would read it."""
    mask_text: bool = False
    """Blacken text that is found in uploaded pictures of kinds that often hold names: ultrasound, screens,
    scans, photographs. Needs the extra ``ocr``; finds most of it, not all; half a second for a picture."""
    max_study_bytes: int = 8 * 1024 * _MIB
    """Largest upload of many files together, in bytes. A PET-CT or cardiac examination stays below 4 GiB."""
    max_study_files: int = 20_000
    """Most files of one upload; a perfusion or functional examination has some thousands."""
    max_new_tokens: int = 512
    """Longest answer, in tokens; about 350 English or 250 Arabic words on Llama 3's vocabulary."""
    temperature: float = 0.0
    """0 gives the same answer to the same question, which a reader can check; upstream samples at 0.1."""
    top_p: float = 1.0
    """Nucleus probability, used when the temperature is above 0."""
    time_limit_s: float = 600.0
    """Seconds an answer may take after its first token; 0 means no limit."""
    first_token_limit_s: float = 0.0
    """Seconds the model may read before its first token; 0 means no limit, because a large model on a slow
    processor reads for minutes and says how long it still takes. Asking again goes on where it stopped."""
    language: str = "auto"
    """Language of the command line: ``en``, ``ar`` or ``auto`` (from the environment's locale)."""
    open_browser: bool = False
    """Open the page in the default browser once it answers."""

    @property
    def is_https(self) -> bool:
        """Whether browsers reach the page over https."""
        return self.tls_cert != Path() or self.public_url.startswith("https://")

    @property
    def folder(self) -> Path:
        """The data folder in use, absolute."""
        chosen = self.data_folder if self.data_folder != Path() else _default_data_folder()
        return chosen.expanduser().absolute()

    @property
    def history(self) -> Path | str:
        """Where the history is: a file, or the URL of a database."""
        return self.database or self.database_path

    @property
    def database_path(self) -> Path:
        """SQLite file of the history."""
        return self.folder / "history.sqlite3"

    @property
    def images_folder(self) -> Path:
        """De-identified pixels, one folder an image."""
        return self.folder / "images"

    @property
    def uploads_folder(self) -> Path:
        """Where an upload lies while it is read; emptied afterwards and at every start."""
        name = hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]
        if self.scratch_folder != Path():
            return self.scratch_folder.expanduser().absolute() / f"bimedix2-{name}"
        if (self.folder / "encryption-key.json").is_file() and _IN_MEMORY.is_dir():
            return _IN_MEMORY / f"bimedix2-{_user()}-{name}"
        return self.folder / "uploads"


def load_settings(
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Read settings from all four places.

    Parameters
    ----------
    file : Path, optional
        TOML file; without it ``BIMEDIX2_CONFIG`` names one, and without that none is read.
    environment : mapping, optional
        The process's environment by default.
    flags : mapping, optional
        Values of the command line; ``None`` means not given.

    Raises
    ------
    SettingsError
        For an unknown name or a value of the wrong type, naming the place it came from.
    """
    environment = os.environ if environment is None else environment
    if file is None and environment.get(ENVIRONMENT_PREFIX + "CONFIG"):
        file = Path(environment[ENVIRONMENT_PREFIX + "CONFIG"])
    settings = Settings()
    if file is not None:
        settings = _override(settings, _read_toml(file), str(file))
    from_environment = {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX) and name != ENVIRONMENT_PREFIX + "CONFIG"
    }
    settings = _override(settings, from_environment, "environment")
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    return _override(settings, given, "command line")


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise SettingsError(place=str(file), found=error.strerror, expected="a readable TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(place=str(file), found=str(error), expected="TOML") from error


def _override(settings: Settings, values: Mapping[str, Any], place: str) -> Settings:
    known = {field.name for field in fields(Settings)}
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise SettingsError(place=place, found=f"the name {name}", expected=", ".join(sorted(known)))
        changes[name] = _coerce(name, value, getattr(Settings(), name), place)
    return replace(settings, **changes)


def _coerce(name: str, value: Any, default: Any, place: str) -> Any:
    """Bring a value to the type of its default; strings come from the environment."""
    expected = type(default).__name__ if not isinstance(default, Path) else "a path"
    try:
        result = _convert(value, default)
    except (TypeError, ValueError):
        raise SettingsError(place=place, found=f"{name} = {value!r}", expected=expected) from None
    if name == "ownership" and result not in get_args(Ownership):
        raise SettingsError(
            place=place, found=f"{name} = {value!r}", expected=" or ".join(get_args(Ownership))
        )
    if name == "port" and not 0 <= result <= _LAST_PORT:
        raise SettingsError(place=place, found=f"{name} = {value!r}", expected=f"0-{_LAST_PORT}")
    return result


def _convert(value: Any, default: Any) -> Any:
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        words = {
            "1": True,
            "true": True,
            "yes": True,
            "on": True,
            "0": False,
            "false": False,
            "no": False,
            "off": False,
        }
        if str(value).lower() not in words:
            raise ValueError(value)
        return words[str(value).lower()]
    if isinstance(default, tuple):
        return tuple(value.split()) if isinstance(value, str) else tuple(str(item) for item in value)
    if isinstance(default, int):
        return int(value)
    return Path(value) if isinstance(default, Path) else type(default)(value)
