"""Follows contrib/postfix/README.md on a sandboxed machine, every command of it, and sends real mail.

    first_mail.py story ROOT WORK     everything but the installation, on a network of its own
    first_mail.py install ROOT WORK   the installation into a virtual environment alone

Ends with status 0 if every block succeeded and every mail was treated as the page says.
"""

from __future__ import annotations

import os
import pwd
import shutil
import smtplib
import ssl
import subprocess
import sys
import threading
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import cast

from fences import Fence, fences
from mailsigil.demo.dns import DnsServer
from mailsigil.demo.opendkim import OpenDkim
from mailsigil.demo.programs import accepts, wait_until
from mailsigil.demo.sink import Sink
from servers import manager, sandbox

ALICE = "alice@bank.example"
BOB = "bob@customer.example"
TEXT = "V4 Alice Example, Example Bank, Account Manager, Identity Validated and Trusted"
SPOOL = Path("/var/spool/postfix")
# A mail server as its administrator may have it before mailsigil comes.
MAIN = """\
compatibility_level = 3.6
myhostname = mx.bank.example
mydestination =
relay_domains = bank.example
relayhost = [127.0.0.1]:{port}
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
inet_protocols = ipv4
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtpd_tls_cert_file = /etc/postfix/tls.pem
smtpd_tls_key_file = /etc/postfix/tls.key
maillog_file = /var/log/mail.log
"""


def commands(root: Path) -> list[Fence]:
    """The page's blocks to run: the package (packaging/deb_life.py), the environment, and the rest."""
    page = root / "contrib" / "postfix" / "README.md"
    blocks = [block for block in fences(page) if block.language == "sh"]
    for block, word in zip(blocks, ("make deb", "/opt/mailsigil", "sysusers"), strict=False):
        _expect(word in block.text, f"the block at line {block.line} is another than it was")
    return blocks


def story(root: Path, work: Path) -> None:
    """The page from its second step to its end."""
    blocks = commands(root)
    _stand_in_for_installation(root)
    checkout = _copy(root, work)
    with Sink() as sink, OpenDkim(SPOOL / "opendkim", "bank.example") as dkim:
        dns = DnsServer(work / "dns", {dkim.record_name: dkim.record})
        dns.port = 53
        with dns:
            _postfix_before(sink.port)
            mail = Mail(sink)
            for block in blocks[2:]:
                if "postfix reload" in block.text:
                    _paste(root)
                run(block, checkout)
                if "postfix reload" in block.text:
                    wait_until(lambda: accepts(("127.0.0.1", 587)), what="the submission port")
                    mail.signed_goes_out_and_comes_in()
                    mail.forged_is_removed()
                    mail.reinjected_is_left_alone()
            mail.signed_goes_out_and_comes_in()
    journal = manager.JOURNAL.read_text()
    for word in (": signed ", ": verified ", ": passed "):
        _expect(word in journal, f"the log has no line with {word!r}:\n{journal}")


class Mail:
    """Real mails, and what becomes of them."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def signed_goes_out_and_comes_in(self) -> None:
        """Alice submits; what leaves the house is delivered from outside."""
        with smtplib.SMTP("127.0.0.1", 587, timeout=30) as client:
            client.starttls(context=_any_certificate())
            client.login(ALICE, "secret")
            client.sendmail(ALICE, [BOB], _mail("Signed"))
        signed = self._next()
        _expect(b"multipart/signed" in signed, "the mail left unsigned")
        shown = self._from_outside(signed)
        _expect(str(shown["Verified-Identity-Text"]) == TEXT, f"shown as {shown['Verified-Identity-Text']}")
        _expect("smime=pass" in shown["Authentication-Results"], str(shown["Authentication-Results"]))
        _expect("dkim=pass" in shown["Verified-Identity"], str(shown["Verified-Identity"]))

    def forged_is_removed(self) -> None:
        """Somebody outside writes our fields himself."""
        shown = self._from_outside(b"Verified-Identity: V4; status=trusted\r\n" + _mail("Forged"))
        _expect(str(shown["Verified-Identity"]).startswith("none; status=unsigned"), str(shown))

    def reinjected_is_left_alone(self) -> None:
        """What the content filter gives back keeps the fields of its first passage."""
        with smtplib.SMTP("127.0.0.1", 10025, timeout=30) as client:
            client.sendmail(ALICE, [BOB], b"Verified-Identity: V1; status=trusted\r\n" + _mail("Back"))
        _expect(b"Verified-Identity: V1" in self._next(), "milters were asked about mail of the filter")

    def _from_outside(self, content: bytes) -> EmailMessage:
        outside = (sandbox.OUTSIDE, 0)
        with smtplib.SMTP(sandbox.OUTSIDE, 25, source_address=outside, timeout=30) as client:
            client.sendmail(ALICE, ["carol@bank.example"], content)
        return cast(EmailMessage, message_from_bytes(self._next(), policy=policy.default))

    def _next(self) -> bytes:
        self._seen = getattr(self, "_seen", 0) + 1
        return self._sink.wait_for(self._seen)[self._seen - 1].content


def install(root: Path, work: Path) -> None:
    """Into a virtual environment: it needs a network, or packages at hand."""
    run(commands(root)[1], _copy(root, work))
    subprocess.run(["mailsigil", "--version"], check=True, cwd="/")


def _copy(root: Path, work: Path) -> Path:
    checkout = work / "checkout"
    checkout.mkdir()
    for name in ("contrib", "milter", "packaging", "policies"):
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(root / name, checkout / name, ignore=ignore)
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(root / name, checkout)
    return checkout


def _stand_in_for_installation(root: Path) -> None:
    for place in ("/opt/mailsigil/bin/mailsigil", "/usr/local/bin/mailsigil"):
        source = f"export PYTHONPATH={root}/milter"
        sandbox.write(place, f'#!/bin/sh\n{source}\nexec {sys.executable} -m mailsigil "$@"\n')
        Path(place).chmod(0o755)
    for name in ("systemctl", "journalctl"):
        place = f"/usr/local/bin/{name}"
        sandbox.write(place, f'#!/bin/sh\nexec {sys.executable} {manager.__file__} {name} "$@"\n')
        Path(place).chmod(0o755)
    for folder in (manager.STATE, manager.JOURNAL_SOCKET.parent):
        folder.mkdir(parents=True)
    threading.Thread(target=manager.keep_journal, daemon=True).start()


def _postfix_before(port: int) -> None:
    sandbox.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    sandbox.write("/etc/postfix/main.cf", MAIN.format(port=port))
    shutil.copy("/etc/postfix/master.cf.proto", "/etc/postfix/master.cf")
    for stale in (SPOOL / "pid").glob("*"):
        stale.unlink()
    request = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=mx.bank.example"
    command = [*request.split(), "-keyout", "/etc/postfix/tls.key", "-out", "/etc/postfix/tls.pem"]
    subprocess.run(command, check=True, capture_output=True)
    sandbox.write(
        "/etc/postfix/sasl/smtpd.conf",
        "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\n"
        "sasldb_path: /etc/sasldb2\n",
    )
    (SPOOL / "etc").mkdir(exist_ok=True)
    postfix = pwd.getpwnam("postfix").pw_uid
    for database in (Path("/etc/sasldb2"), SPOOL / "etc" / "sasldb2"):
        database.unlink(missing_ok=True)
        command = ["saslpasswd2", "-p", "-c", "-f", str(database), "-u", "bank.example", "alice"]
        subprocess.run(command, input=b"secret", check=True)
        os.chown(database, postfix, -1)
    subprocess.run(["postfix", "start"], check=True, capture_output=True)


def _paste(root: Path) -> None:
    for name in ("main.cf", "master.cf"):
        example = (root / "contrib" / "postfix" / f"{name}.example").read_text(encoding="utf-8")
        with Path("/etc/postfix", name).open("a", encoding="utf-8") as own:
            own.write(example)


def run(block: Fence, folder: Path) -> None:
    """Run a block; raises :class:`AssertionError` with what it said, if it fails."""
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", block.text], cwd=folder, capture_output=True)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        raise AssertionError(f"the block at line {block.line} ended with status {done.returncode}:\n{said}")


def _mail(subject: str) -> bytes:
    return f"From: Alice <{ALICE}>\r\nTo: {BOB}\r\nSubject: {subject}\r\n\r\nHello Bob\r\n".encode()


def _any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


def main() -> None:
    """In a process of :data:`sandbox.UNSHARE`."""
    what, root, work = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    sandbox.cover(work, root, Path(sys.prefix), Path(sys.base_prefix))
    work.chmod(0o755)
    if what == "install":
        install(root, work)
        return
    sandbox.leave_network()
    try:
        story(root, work)
    except BaseException:
        for log in (manager.JOURNAL, Path("/var/log/mail.log")):
            sys.stderr.write(log.read_text(errors="replace")[-4000:] if log.exists() else f"no {log}\n")
        raise


if __name__ == "__main__":
    main()
