"""From the settings of [[source]] to sources: the one place that knows which kind is which class.

Nothing is opened or asked here: a source that is away, or a file that is missing, keeps no agent from
starting. Call it after the fork.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from cryptography import x509

from mailsigil.cms.algorithms import default_scheme
from mailsigil.config.openbao import BaoLogin
from mailsigil.config.sources import CmpSource, EnrolmentSettings, EstSource, SourceSettings
from mailsigil.keys.answers import read_certificates
from mailsigil.keys.enrolment import EnrolledKeys, Managed, Placement
from mailsigil.keys.errors import KeyFileError, SourceRefused
from mailsigil.keys.folder import KeyFolder
from mailsigil.keys.guard import Breaker, Guard
from mailsigil.keys.key_files import identity_from, read_key_file
from mailsigil.keys.keyring import StateFolder
from mailsigil.keys.known_addresses import KnownAddresses
from mailsigil.keys.placed_keyring import KeyPlace
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.remote import Lookup, RemoteKeys
from mailsigil.keys.routes import DomainRoute, WhenSilent
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.source import Issuer, KeyMaker, KeySource
from mailsigil.keys.sources.bao_client import AppRoleLogin, BaoClient, CertificateLogin, Login, TokenLogin
from mailsigil.keys.sources.cmp import CmpAuthority
from mailsigil.keys.sources.cmp_protection import Protector, SharedSecret, SignatureProtector
from mailsigil.keys.sources.cmp_waiting import WaitingRequests
from mailsigil.keys.sources.embedded import EmbeddedIssuer
from mailsigil.keys.sources.est import BasicLogin, EstAuthority
from mailsigil.keys.sources.http import CONNECTIONS, HttpClient, TlsFiles
from mailsigil.keys.sources.openbao import BaoAuthority, BaoStore
from mailsigil.keys.sources.pkcs11 import Token, TokenPlace
from mailsigil.keys.sources.transit import BaoTransit
from mailsigil.keys.subject import SubjectRequest
from mailsigil.pki.policies import Level

STATE_FOLDER: Final = Path("/var/lib/mailsigil/keyd")
"""Below it, a folder for each source that enrols."""

Now = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Issuing:
    """An issuer; ``maker`` is the same where keys are made over there."""

    issuer: Issuer
    maker: KeyMaker | None = None


def utc_now() -> datetime:
    """The time, aware, in UTC."""
    return datetime.now(UTC)


def build_source(
    settings: SourceSettings,
    *,
    now: Now = utc_now,
    managed: Managed | None = None,
    addresses: KnownAddresses | None = None,
) -> DomainRoute:
    """Builds one source, as the agent uses it.

    ``managed`` where somebody else looks after what it enrols; ``addresses`` where several processes tell
    each other whom they asked it for.
    """
    return DomainRoute(
        _key_source(settings, now, managed, addresses),
        name=settings.name,
        domains=settings.domains,
        domain_mailbox=settings.domain_mailbox if settings.domain_certificate else "",
        when_silent=WhenSilent(settings.when_silent),
    )


def subject_of(settings: EnrolmentSettings, address: str) -> SubjectRequest:
    """What is asked for an address that enrols by itself: what the source's settings say, and no person."""
    return SubjectRequest(address=address, level=Level(settings.level), organisation=settings.organisation)


def build_issuing(settings: SourceSettings, *, now: Now = utc_now) -> Issuing:
    """Builds the issuer of a source that certifies keys; raises ValueError for one that holds them."""
    enrolment = settings.enrolment or EnrolmentSettings()
    if settings.embedded is not None:
        return Issuing(EmbeddedIssuer(settings.name, Path(settings.embedded.folder), now=now))
    if settings.est is not None:
        est = build_est(settings.name, settings.est, settings.timeout, KeyKind(enrolment.key), now)
        return Issuing(est, est if settings.est.server_keygen else None)
    if settings.cmp is not None:
        state = StateFolder(settings.name, state_folder(settings))
        return Issuing(build_cmp(settings.cmp, settings.timeout, state, now))
    if settings.openbao is not None and settings.issues:
        bao = settings.openbao
        client = build_bao_client(settings.name, bao, settings.timeout)
        authority = BaoAuthority(client, mount=bao.mount, role=bao.role, now=now)
        return Issuing(authority, authority if bao.engine == "pki-issue" else None)
    raise ValueError(f'the source "{settings.name}" holds keys and certifies none')


def build_lookup(settings: SourceSettings, *, now: Now = utc_now) -> Lookup:
    """Builds the service of a source that holds keys; raises ValueError for one that certifies them."""
    if settings.pkcs11 is not None:
        held = settings.pkcs11
        place = TokenPlace(
            module=held.module,
            token=held.token,
            pin=SecretFile(settings.name, held.pin_file),
            certificates=held.certificates,
        )
        return Token(settings.name, place, now=now)
    bao = settings.openbao
    if bao is None or settings.issues:
        raise ValueError(f'the source "{settings.name}" is not asked for keys')
    client = build_bao_client(settings.name, bao, settings.timeout)
    if bao.engine == "transit":
        folder = Path(bao.certificates)
        return BaoTransit(client, mount=bao.mount, path=bao.path, certificates=folder, now=now)
    passphrase = SecretFile(settings.name, bao.passphrase_file) if bao.passphrase_file else None
    return BaoStore(client, mount=bao.mount, path=bao.path, now=now, passphrase=passphrase)


def build_est(name: str, est: EstSource, timeout: float, kind: KeyKind, now: Now) -> EstAuthority:
    """Builds the client of an EST server."""
    login = BasicLogin(est.username, SecretFile(name, est.password_file)) if est.username else None
    http = build_est_http(name, est, timeout)
    return EstAuthority(http, tls=_est_tls(est), login=login, kind=kind, now=now)


def build_est_http(name: str, est: EstSource, timeout: float) -> HttpClient:
    """Builds what carries the requests to an EST server."""
    return HttpClient(name, est.url, tls=_est_tls(est), timeout=timeout)


def _est_tls(est: EstSource) -> TlsFiles:
    return TlsFiles(ca_file=est.ca_file, certificate=est.client_certificate, key=est.client_key)


def build_cmp(cmp: CmpSource, timeout: float, state: StateFolder, now: Now) -> CmpAuthority:
    """Builds the client of a CMP server; what waits for its decision stands in the state folder."""
    name = state.source
    http = HttpClient(name, cmp.url, tls=TlsFiles(ca_file=cmp.ca_file), timeout=timeout)
    secret = SharedSecret(cmp.reference, SecretFile(name, cmp.secret_file)) if cmp.reference else None

    def protector() -> Protector:
        return secret if secret is not None else _signature_protector(name, cmp)

    def trusted() -> tuple[x509.Certificate, ...]:
        return _certificates_in(name, Path(cmp.trusted))

    waiting = WaitingRequests(state, now=now)
    return CmpAuthority(http, protector=protector, secret=secret, trusted=trusted, waiting=waiting, now=now)


def build_bao_client(
    name: str, bao: BaoLogin, timeout: float, *, connections: int = CONNECTIONS
) -> BaoClient:
    """Builds the client of an OpenBao or Vault server; it keeps so many ``connections`` open."""
    tls = TlsFiles(ca_file=bao.ca_file, certificate=bao.client_certificate, key=bao.client_key)
    http = HttpClient(name, bao.url, tls=tls, timeout=timeout, connections=connections)
    login: Login
    if bao.role_id:
        secret_id = SecretFile(name, bao.secret_id_file)
        login = AppRoleLogin(mount=bao.approle_mount, role_id=bao.role_id, secret_id=secret_id)
    elif bao.token_file:
        login = TokenLogin(SecretFile(name, bao.token_file))
    else:
        login = CertificateLogin(mount=bao.cert_mount, role=bao.cert_role)
    return BaoClient(http, login, namespace=bao.namespace)


def build_place(settings: SourceSettings, state: Path, *, now: Now = utc_now) -> KeyPlace | None:
    """Builds the place where a source's keys are made; None where they lie in files of the state folder."""
    if settings.token is not None:
        pin = SecretFile(settings.name, settings.token.pin_file)
        place = TokenPlace(
            module=settings.token.module, token=settings.token.token, pin=pin, certificates=str(state)
        )
        return Token(settings.name, place, now=now)
    if settings.transit is not None:
        transit = settings.transit
        client = build_bao_client(settings.name, transit, settings.timeout)
        mount, path = transit.mount, transit.key_path
        return BaoTransit(client, mount=mount, path=path, certificates=state, now=now)
    return None


def state_folder(settings: SourceSettings) -> Path:
    """The folder of a source that enrols."""
    enrolment = settings.enrolment or EnrolmentSettings()
    return Path(enrolment.state or STATE_FOLDER / settings.name)


def known_addresses(settings: SourceSettings) -> KnownAddresses:
    """The file in which the processes of the agent tell each other whom they asked a source for."""
    beside = STATE_FOLDER / f".{settings.name}.known"
    if settings.issues:
        beside = state_folder(settings) / ".known"
    return KnownAddresses(Path(settings.known_addresses or beside))


def _key_source(
    settings: SourceSettings, now: Now, managed: Managed | None, addresses: KnownAddresses | None
) -> KeySource:
    if settings.folder is not None:
        file = settings.folder.passphrase_file
        return KeyFolder(settings.folder.path, passphrase=SecretFile(settings.name, file) if file else None)
    if not settings.issues:
        return _remote(settings, build_lookup(settings, now=now), addresses)
    issuing = build_issuing(settings, now=now)
    enrolment = settings.enrolment or EnrolmentSettings()
    state = state_folder(settings)
    place = build_place(settings, state, now=now)
    return EnrolledKeys(
        issuing.issuer,
        _guard(settings),
        state=state,
        kind=KeyKind(enrolment.key),
        now=now,
        subject_of=partial(subject_of, enrolment),
        on_demand=enrolment.on_demand,
        new_per_hour=enrolment.new_per_hour,
        renew_before=timedelta(days=enrolment.renew_days),
        maker=issuing.maker,
        placement=None if place is None else Placement(place, _remote(settings, place, addresses)),
        managed=managed,
        keep_former=timedelta(days=enrolment.decrypt_days),
    )


def _remote(settings: SourceSettings, service: Lookup, addresses: KnownAddresses | None) -> RemoteKeys:
    fresh, stale = settings.key_seconds, settings.stale_seconds
    return RemoteKeys(service, _guard(settings), key_seconds=fresh, stale_seconds=stale, addresses=addresses)


def _guard(settings: SourceSettings) -> Guard:
    breaker = Breaker(failures=settings.failures, pause=settings.pause_seconds)
    return Guard(settings.name, timeout=settings.timeout, breaker=breaker)


def _signature_protector(name: str, cmp: CmpSource) -> SignatureProtector:
    """Read with each request: the certificate may have been renewed."""
    paths = dict.fromkeys((Path(cmp.client_certificate), Path(cmp.client_key)))
    try:
        chain, sign = identity_from([read_key_file(path) for path in paths])
    except KeyFileError as fault:
        raise SourceRefused(name, f"{fault.path}: {fault.sentence}", fault.mend) from fault
    scheme = default_scheme(x509.load_der_x509_certificate(chain[0]).public_key())
    return SignatureProtector(chain, scheme, partial(sign, scheme))


def _certificates_in(name: str, path: Path) -> tuple[x509.Certificate, ...]:
    try:
        return read_certificates(name, read_key_file(path).data)
    except KeyFileError as fault:
        raise SourceRefused(name, f"{fault.path}: {fault.sentence}", fault.mend) from fault
