"""``mailsigil ca``: the embedded certification authority."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
from cryptography import x509

from mailsigil.ca.passwords import PasswordError, Passwords
from mailsigil.ca.service import AuthorityService, Listeners
from mailsigil.cli.ca_pending import pending
from mailsigil.cli.logs import start_logging
from mailsigil.cli.misuse import Misuse
from mailsigil.config.settings import LogSettings
from mailsigil.folding import fold
from mailsigil.keys.authority import Authority, AuthorityError
from mailsigil.keys.authority_files import load_settings
from mailsigil.keys.hygiene import allow_memory_lock, guard_memory
from mailsigil.keys.profile import KeyKind, RequestError, Subject
from mailsigil.keys.register import Entry, Reason
from mailsigil.pki.policies import Level
from mailsigil.process.privileges import PrivilegeError, become

_KEYS = click.Choice([kind.value for kind in KeyKind])
_directory = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the authority.",
)


@click.group()
def command() -> None:
    """The embedded certification authority.

    A root and an issuing authority in one folder, for small organisations and for trying things out.
    Begin with `init`, then `issue` a certificate to every sender. Receivers trust DIR/root.pem.
    """


@command.command()
@_directory
@click.option("--organisation", required=True, help="Organisation the authority belongs to.")
@click.option("--name", default="", help='Name readers see as the issuer [default: "ORGANISATION Mail CA"].')
@click.option("--key", type=_KEYS, default="p256", show_default=True, help="Kind of the two keys.")
@click.option("--years", default=20, show_default=True, help="Life of the root; the issuer has half of it.")
def init(directory: Path, organisation: str, name: str, key: str, years: int) -> None:
    """Set up a new authority.

    Makes root.pem, root.key, issuing.pem and issuing.key in DIR, and never overwrites one.
    """
    try:
        authority = Authority.init(
            directory,
            organisation=organisation,
            name=name,
            key=KeyKind(key),
            years=years,
            now=datetime.now(UTC),
        )
    except (AuthorityError, RequestError) as error:
        raise Misuse(str(error)) from error
    click.echo(f"Created {authority.issuing.subject.rfc4514_string()} in {directory}.")
    click.echo(f"Receivers trust {directory / 'root.pem'}; keep {directory / 'root.key'} safe.")


@command.command()
@_directory
@click.option("--level", type=click.Choice([level.value for level in Level]), required=True)
@click.option("--address", required=True, help="The sender's mail address.")
@click.option("--name", default="", help="The person's full name; the last word is the surname.")
@click.option("--given-name", default="", help="The given name, where --name would be split wrongly.")
@click.option("--surname", default="", help="The surname, together with --given-name.")
@click.option("--organisation", default="", help="The organisation, for V3 and V4.")
@click.option("--title", default="", help="The person's title or function, for V2 and V4.")
@click.option("--key", type=_KEYS, default="p256", show_default=True, help="Kind of the new key.")
@click.option("--days", default=365, show_default=True, help="Life of the certificate.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Key folder that gets the file [default: DIR/keys].",
)
@click.option("--replace", is_flag=True, help="Put a new key in the place of one that exists.")
def issue(
    directory: Path,
    level: str,
    address: str,
    name: str,
    given_name: str,
    surname: str,
    organisation: str,
    title: str,
    key: str,
    days: int,
    out: Path | None,
    replace: bool,
) -> None:
    """Issue a certificate with a new key.

    One PEM file with key, certificate and issuing authority goes into the key folder, named after the
    address. V1 takes an address only, V2 also a person, V3 an organisation, V4 both.
    """
    given_name, surname = _person(name, given_name, surname)
    try:
        subject = Subject(
            level=Level(level),
            address=address,
            given_name=given_name,
            surname=surname,
            organisation=organisation,
            title=title,
        )
        issued = Authority.load(directory).issue(
            subject,
            out=out or directory / "keys",
            key=KeyKind(key),
            days=days,
            replace=replace,
            now=datetime.now(UTC),
        )
    except (AuthorityError, RequestError) as error:
        raise Misuse(str(error)) from error
    click.echo(str(issued.path))


@command.command()
@_directory
@click.option("--days", type=int, help="Days until the next list is due [default: as in ca.toml, else 7].")
def crl(directory: Path, days: int | None) -> None:
    """Write fresh revocation lists, DIR/issuing.crl and DIR/root.crl (DER)."""
    try:
        paths = Authority.load(directory).write_crls(now=datetime.now(UTC), days=days)
    except AuthorityError as error:
        raise Misuse(str(error)) from error
    for path in paths:
        click.echo(str(path))


@command.command()
@_directory
@click.argument("serial", required=False)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the certificate, in place of SERIAL; it need not be in the register any more.",
)
@click.option(
    "--reason",
    type=click.Choice([reason.value for reason in Reason]),
    default=Reason.UNSPECIFIED.value,
    show_default=True,
    help="Why; receivers can read it.",
)
def revoke(directory: Path, serial: str | None, certificate: Path | None, reason: str) -> None:
    """Revoke the certificate with the serial number SERIAL, or the one in a file, for good.

    SERIAL is hexadecimal, as `mailsigil ca list` shows it. Fresh revocation lists are written at once; a
    running `mailsigil ca serve` on this folder publishes them and tells by OCSP.
    """
    if (serial is None) == (certificate is None):
        raise Misuse("give either SERIAL or --certificate")
    try:
        authority = Authority.load(directory)
        number = _serial_in(certificate, authority) if certificate is not None else _serial(serial or "")
        entry = authority.revoke(number, reason=Reason(reason), now=datetime.now(UTC))
    except AuthorityError as error:
        raise Misuse(str(error)) from error
    click.echo(f"Revoked {number:x}, {entry.level} of {entry.address}.")


@command.command(name="list")
@_directory
@click.option("--json", "as_json", is_flag=True, help="Write one JSON list instead of lines for people.")
@click.option("--address", default="", help="Only the certificates of this address.")
def list_certificates(directory: Path, as_json: bool, address: str) -> None:
    """List the certificates that were issued, the oldest first."""
    try:
        entries = Authority.load(directory).register.entries()
    except AuthorityError as error:
        raise Misuse(str(error)) from error
    now = datetime.now(UTC)
    rows = [_row(entry, now) for entry in entries if fold(address) in ("", fold(entry.address))]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for row in rows:
        state = f"{row['state']} ({row['reason']})" if row["reason"] else row["state"]
        click.echo(f"{row['serial']:<32}  {row['level']:<4} {row['until'][:10]}  {row['address']}  {state}")


@command.command()
@_directory
@click.argument("user")
def password(directory: Path, user: str) -> None:
    """Set the password of USER for enrolment.

    It is asked for on a terminal, and otherwise read from standard input; DIR/passwords, or the file
    that ca.toml names, keeps it hashed.
    """
    try:
        place = Authority.load(directory).settings.est.passwords
        chosen = _ask_password()
        Passwords(Path(place or directory / "passwords")).set(user, chosen.encode())
    except (AuthorityError, PasswordError) as error:
        raise Misuse(str(error)) from error


@command.command()
@_directory
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="How much is logged.",
)
@click.option("--journal", is_flag=True, help="Write the log to the journal, and not to standard error.")
@click.option("--user", default="", help="User to become once the ports are open; the one that owns DIR.")
def serve(directory: Path, log_level: str, journal: bool, user: str) -> None:
    """Serve enrolment (EST, RFC 7030), revocation lists and OCSP.

    DIR/ca.toml says where to listen, who may enrol for whom, and under which URL others find the lists.
    The server runs in the foreground until SIGTERM; SIGHUP reads ca.toml anew. It needs no user but the one
    that owns DIR: start it as that one, or as root with --user, which ports below 1024 need.
    """
    log = LogSettings.model_validate({"level": log_level, "destination": "journal" if journal else "stderr"})
    start_logging(log)
    try:
        listeners = Listeners(load_settings(directory))
        allow_memory_lock()
        become(user)
        guard_memory()
        AuthorityService(Authority.load(directory), listeners=listeners).run()
    except (AuthorityError, PrivilegeError) as error:
        raise Misuse(str(error)) from error


command.add_command(pending)


def _ask_password() -> str:
    if sys.stdin.isatty():
        answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        return answer
    return sys.stdin.readline(2048).rstrip("\r\n")


def _row(entry: Entry, now: datetime) -> dict[str, str]:
    revocation = entry.revocation
    state = "revoked" if revocation else "expired" if entry.not_after < now else "good"
    return {
        "serial": f"{entry.serial:x}",
        "level": entry.level,
        "address": entry.address,
        "until": entry.not_after.isoformat(),
        "issuer": entry.issuer,
        "state": state,
        "revoked": revocation.at.isoformat() if revocation else "",
        "reason": revocation.reason.value if revocation else "",
    }


def _serial(text: str) -> int:
    digits = text.replace(":", "").lower().removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]{1,40}", digits):
        raise Misuse(f"{text!r} is no serial number; give it in hexadecimal, as mailsigil ca list shows it")
    return int(digits, 16)


def _serial_in(file: Path, authority: Authority) -> int:
    try:
        content = file.read_bytes()
        pem = b"-----BEGIN" in content
        found = x509.load_pem_x509_certificate(content) if pem else x509.load_der_x509_certificate(content)
    except OSError as error:
        raise Misuse(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Misuse(f"{file} holds no certificate; give one in PEM or DER") from error
    if authority.adopt(found) is None:
        raise Misuse(f"the certificate in {file} was not issued by this authority")
    return found.serial_number


def _person(name: str, given_name: str, surname: str) -> tuple[str, str]:
    if not name:
        return given_name, surname
    if given_name or surname:
        raise Misuse("give either --name, or --given-name and --surname")
    given, _, last = name.strip().rpartition(" ")
    if not given:
        raise Misuse(f"{name!r} is one word; give --given-name and --surname")
    return given.rstrip(), last
