"""From the settings of [[storage]] to stores. Nothing is opened or asked here. Call it after the fork."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mailsigil.config.storage import StorageSettings
from mailsigil.keys.guard import Breaker, Guard
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.sources.build import Now, build_bao_client, build_est, utc_now
from mailsigil.keys.storage.bao import BaoStorage
from mailsigil.keys.storage.folder import FolderStore
from mailsigil.keys.storage.key import StorageKeyKind, StorageKeyMaker, StorageStore
from mailsigil.keys.storage.makers import EstMaker, OwnMaker
from mailsigil.keys.storage.pins import PinFolder
from mailsigil.keys.storage.routes import StorageRoute, StorageRoutes
from mailsigil.keys.storage.wrapped import WrappedStore, WrappingToken


def build_storage(
    settings: Sequence[StorageSettings], public_keys: str | Path, *, now: Now = utc_now
) -> StorageRoutes:
    """Builds all stores; ``public_keys`` is the folder of [dovecot]."""
    return StorageRoutes([_route(one, now) for one in settings], PinFolder(Path(public_keys)))


def _route(settings: StorageSettings, now: Now) -> StorageRoute:
    breaker = Breaker(failures=settings.failures, pause=settings.pause_seconds)
    guard = Guard(settings.name, timeout=settings.timeout, breaker=breaker, calls=settings.calls)
    return StorageRoute(settings, _store(settings), _maker(settings, now), guard)


def _maker(settings: StorageSettings, now: Now) -> StorageKeyMaker:
    if settings.est is None:
        return OwnMaker(StorageKeyKind(settings.new_key))
    # The key of the request: what the authority makes is its own affair (RFC 7030 4.4.1).
    return EstMaker(build_est(settings.name, settings.est, settings.timeout, KeyKind.P256, now))


def _store(settings: StorageSettings) -> StorageStore:
    name = settings.name
    if settings.openbao is not None:
        bao = settings.openbao
        # Many log in at the same moment, and a TLS handshake costs more than the question.
        client = build_bao_client(name, bao, settings.timeout, connections=settings.calls)
        return BaoStorage(
            client, mount=bao.mount, path=bao.key_path, passphrase=_secret(name, bao.passphrase_file)
        )
    if settings.pkcs11 is not None:
        place = settings.pkcs11
        token = WrappingToken(
            name,
            module=place.module,
            token=place.token,
            pin=SecretFile(name, place.pin_file),
            label=place.key_label,
        )
        return WrappedStore(name, Path(place.path), token)
    if settings.folder is None:
        raise ValueError(f'the storage "{name}" has no section of its kind')
    folder = settings.folder
    return FolderStore(name, Path(folder.path), passphrase=_secret(name, folder.passphrase_file))


def _secret(name: str, place: str) -> SecretFile | None:
    return SecretFile(name, place) if place else None
